"""What is recommended of what was measured, and what is said of the noise."""

import pytest

from cloister.loadtest.result import Estimate
from cloister.tuning import choosing, knobs
from cloister.tuning.choosing import Final
from cloister.tuning.knobs import Configuration
from cloister.tuning.result import Finalist, Turn
from cloister.tuning.trial import Rung, Trial

SPACE = knobs.load("vllm-cuda").without_costs()
FIRST = SPACE.first
SERVERS = "vllm.api_server_count"


def estimate(rate: float, half: float = 0.1) -> Estimate:
    return Estimate(value=rate, low=rate - half, high=rate + half, n=100)


def trial(rate: float, **moved: int) -> Trial:
    rungs = (Rung(64, estimate(rate * 0.8), met=True), Rung(128, estimate(rate), met=True))
    return Trial({**FIRST, **{f"vllm.{name}": value for name, value in moved.items()}}, rungs=rungs)


def turn(start: int, share: float, rate: float, *, met: bool = True) -> Turn:
    return Turn(
        start=start,
        share=share,
        rate=rate,
        pages_per_s=estimate(rate),
        e2e_p95_s=10.0,
        attainment=1.0 if met else 0.5,
        met=met,
        report="",
    )


def finalist(configuration: Configuration, *rates: float) -> Finalist:
    final = Final(dict(configuration), 10.0, trial(10.0))
    return choosing.finalist(final, [turn(n, 0.9, rate) for n, rate in enumerate(rates)])


def test_finalists_are_those_near_the_best_as_they_would_serve() -> None:
    done = [trial(5.0), trial(9.5, api_server_count=4), trial(10.0, api_server_count=8)]
    found = choosing.finals(done, SPACE)
    assert [one.configuration[SERVERS] for one in found] == [8, 4]
    assert {one.configuration["vllm.max_num_seqs"] for one in found} == {128}
    assert choosing.finals([Trial(FIRST, "OOM at start")], SPACE) == ()


def test_a_finalist_served_the_most_that_kept_the_slo() -> None:
    final = Final(dict(FIRST), 10.0, trial(10.0))
    turns = [turn(1, 0.8, 8.0), turn(1, 0.9, 9.0), turn(1, 1.0, 9.8, met=False)]
    assert choosing.finalist(final, turns).pages_per_s.value == 9.0
    again = [*turns, turn(2, 0.8, 8.2), turn(2, 0.9, 8.8, met=False)]
    found = choosing.finalist(final, again).pages_per_s
    assert found.value == (9.0 + 8.2) / 2
    assert found.low < 8.2, "two starts say little, and that is said"
    assert found.high > 9.0


def test_a_winner_is_better_by_more_than_noise() -> None:
    done = [trial(5.0), trial(10.0, api_server_count=4)]
    four = {**FIRST, SERVERS: 4}
    kept = choosing.choose(done, SPACE, [finalist(FIRST, 5.0, 5.1), finalist(four, 9.9, 10.0)])
    assert kept is not None
    choice, rate = kept
    assert choice.winner
    assert choice.configuration[SERVERS] == 4
    assert f"{SERVERS}=4" in choice.why
    assert rate.value == 9.95


def test_without_a_winner_the_safer_is_kept() -> None:
    done = [trial(9.8), trial(10.0, api_server_count=4)]
    four = {**FIRST, SERVERS: 4}
    kept = choosing.choose(done, SPACE, [finalist(FIRST, 9.0, 10.2), finalist(four, 9.8, 10.1)])
    assert kept is not None
    assert not kept[0].winner
    assert kept[0].configuration == FIRST, "the earlier one moves less"
    assert kept[0].why.startswith("No winner")


@pytest.mark.parametrize(
    ("rates", "told_apart"),
    [
        ((10.0, 10.4), False),  # its interval reaches down to the other's: 7.7 to 12.7
        ((9.3, 9.3), False),  # apart, by less than is worth a change
        ((10.0, 10.05), True),
    ],
)
def test_means_alone_make_no_winner(rates: tuple[float, ...], told_apart: bool) -> None:  # noqa: FBT001
    done = [trial(9.2), trial(10.0, api_server_count=4)]
    first, four = finalist(FIRST, 9.2, 9.21), finalist({**FIRST, SERVERS: 4}, *rates)
    assert four.pages_per_s.value > first.pages_per_s.high
    kept = choosing.choose(done, SPACE, [first, four])
    assert kept is not None
    assert kept[0].winner is told_apart
    assert kept[0].configuration == (four if told_apart else first).configuration


def test_without_finals_the_ladder_decides_and_says_so() -> None:
    kept = choosing.choose([trial(5.0), trial(10.0, api_server_count=4)], SPACE, [])
    assert kept is not None
    choice, rate = kept
    assert not choice.winner
    assert choice.configuration == {**FIRST, SERVERS: 4, "vllm.max_num_seqs": 128}
    assert "by its ladder" in choice.why
    assert rate.value == 10.0


def test_finals_that_all_missed_the_slo_decide_nothing() -> None:
    final = Final(dict(FIRST), 10.0, trial(10.0))
    missed = choosing.finalist(final, [turn(1, 0.8, 8.0, met=False)])
    kept = choosing.choose([trial(10.0)], SPACE, [missed])
    assert kept is not None
    assert "by its ladder" in kept[0].why


def test_nothing_within_the_slo_is_no_choice() -> None:
    slow = Trial(FIRST, rungs=(Rung(16, estimate(5.0), met=False),))
    assert choosing.choose([slow, Trial(FIRST, "driver")], SPACE, []) is None
