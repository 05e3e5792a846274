"""The autoscaling policy: its rules one by one, what always holds, and whole loads simulated."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from fleet_simulation import (
    HOUR_S,
    LOADS,
    Fleet,
    Load,
    Outcome,
    even,
    poisson,
    recorded,
    replay,
    simulate,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from cloister.autoscale import Decision, Policy, Sample, decide, needed
from cloister.errors import ConfigError

TICK_S = 5.0
POLICY = Policy(least=1, most=8, target_waiting=5, cool_down_s=60)
# As POLICY, for the loads of the simulation, whose replicas take 90 s to start.
SLOW = replace(POLICY, cool_down_s=120)
TRACES = sorted((Path(__file__).parent / "golden").glob("*_load.jsonl"))


def history(
    *loads: tuple[int, int], replicas: int = 2, slots: int = 5, ticks: int = 13
) -> list[Sample]:
    """Return samples of (running, waiting), the first repeated up to `ticks`."""
    filled = [loads[0]] * (ticks - len(loads)) + list(loads)
    return [Sample(TICK_S * n, replicas, *load, slots) for n, load in enumerate(filled)]


@pytest.mark.parametrize(
    ("samples", "changed_at_s", "replicas", "why"),
    [
        # Up: two samples in a row, in proportion, at most doubled, at most the most.
        (history((10, 0), (10, 11), (10, 11)), None, 3, "11 pages wait for 2 x 5, the second"),
        (history((10, 0), (10, 11), (10, 16)), None, 4, "16 pages wait for 2 x 5, the second"),
        (history((10, 0), (10, 11), (10, 900)), None, 4, "the second sample in a row"),
        (history((30, 90), replicas=6), None, 8, "the second sample in a row"),
        (history((10, 11), ticks=2), None, 3, "the second sample in a row"),
        (history((40, 900), replicas=8), None, 8, "but 8 replicas are the most"),
        (history((10, 0), (10, 900)), None, 2, "but did not yet in the sample before"),
        (history((10, 900), ticks=1), None, 2, "but did not yet in the sample before"),
        (history((10, 900), (10, 10)), None, 2, "which 2 replicas are right for"),
        (history((10, 10)), None, 2, "which 2 replicas are right for"),
        # Down: a whole cool-down in which nothing waited and the peak fits.
        (history((0, 0), replicas=8), None, 1, "so 80 % of 1 x 5 slots do"),
        (history((4, 0)), None, 1, "at most 4 pages were read at once and 0 waited, so 80 %"),
        (history((5, 0)), None, 2, "which 2 replicas are right for"),
        (history((12, 0), replicas=8), None, 3, "so 80 % of 3 x 5 slots do"),
        (history((13, 0), (1, 0), replicas=8), None, 4, "so 80 % of 4 x 5 slots do"),
        (history((0, 0), (1, 1), (0, 0)), None, 2, "1 waited, which 2 replicas are right for"),
        (history((0, 0), ticks=12), None, 2, "seen for 55 s, the cool-down is 60 s"),
        # Neither up nor down within a cool-down of the last change.
        (history((10, 900)), 5.0, 2, "changed 55 s ago, the cool-down is 60 s"),
        (history((10, 900)), 0.0, 4, "the second sample in a row"),
        (history((0, 0)), 5.0, 2, "changed 55 s ago"),
        (history((0, 0)), 0.0, 1, "so 80 % of 1 x 5 slots do"),
        # Outside the bounds there is nothing to wait for.
        (history((0, 0), replicas=9, ticks=1), 0.0, 8, "9 replicas are not within 1 to 8"),
        (history((0, 0), replicas=0, ticks=1), 0.0, 1, "0 replicas are not within 1 to 8"),
    ],
)
def test_decide(samples: list[Sample], changed_at_s: float | None, replicas: int, why: str) -> None:
    decision = decide(POLICY, samples, changed_at_s)
    assert decision.replicas == replicas, decision
    assert why in decision.why


def test_a_change_that_shows_in_the_history_starts_a_cool_down() -> None:
    samples = history((0, 0), replicas=4)
    samples[-2:] = [replace(sample, replicas=6) for sample in samples[-2:]]
    assert decide(POLICY, samples, None) == Decision(6, "changed 5 s ago, the cool-down is 60 s")


def test_the_least_and_the_peak_below_it() -> None:
    decision = decide(replace(POLICY, least=2), history((0, 0)), None)
    assert decision.replicas == 2
    assert "but 2 replicas are the least" in decision.why


@pytest.mark.parametrize(
    "bad",
    [
        {"least": 0},
        {"least": 9},
        {"target_waiting": 0.0},
        {"target_waiting": math.nan},
        {"cool_down_s": -1.0},
    ],
)
def test_a_policy_that_cannot_be(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Policy(**{"least": 1, "most": 8, "target_waiting": 5.0, "cool_down_s": 60.0} | bad)  # type: ignore[arg-type]  # what is wrong is the point


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    least = draw(st.integers(1, 10))
    return Policy(
        least,
        draw(st.integers(least, 40)),
        draw(st.floats(0.1, 50)),
        draw(st.sampled_from([0.0, 5.0, 17.0, 60.0])),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Sample]:
    ticks = draw(st.lists(st.floats(0.1, 30), min_size=1, max_size=12))
    replicas, slots = st.integers(0, 50), draw(st.integers(1, 64))
    steady = draw(replicas)
    idle = st.just(0) if draw(st.booleans()) else st.integers(0, 300)
    made = []
    for number in range(len(ticks)):
        count = steady if draw(st.integers(0, 9)) else draw(replicas)
        at_s, running = sum(ticks[: number + 1]), draw(st.integers(0, count * slots))
        made.append(Sample(at_s, count, running, draw(idle), slots))
    return made


CHANGED = st.none() | st.floats(-100, 0)


@given(policies(), histories(), CHANGED)
def test_always_within_the_bounds_and_at_most_doubled(
    policy: Policy, samples: list[Sample], changed_at_s: float | None
) -> None:
    decision = decide(policy, samples, changed_at_s)
    assert policy.least <= decision.replicas <= policy.most
    assert decision.replicas <= max(2 * samples[-1].replicas, policy.least)
    assert decision.why


@given(policies(), histories(), CHANGED, st.data())
def test_more_waiting_never_yields_fewer(
    policy: Policy, samples: list[Sample], changed_at_s: float | None, data: st.DataObject
) -> None:
    more = [replace(s, waiting=s.waiting + data.draw(st.integers(0, 200))) for s in samples]
    fewer = decide(policy, samples, changed_at_s).replicas
    assert decide(policy, more, changed_at_s).replicas >= fewer


@given(policies(), histories(), CHANGED)
def test_what_is_needed_is_enough(
    policy: Policy, samples: list[Sample], changed_at_s: float | None
) -> None:
    kept = needed(policy, samples)
    assert decide(policy, kept, changed_at_s) == decide(policy, samples, changed_at_s)
    assert all(sample.at_s > kept[-1].at_s - policy.cool_down_s for sample in kept[1:-2])


def directions(outcome: Outcome) -> str:
    return "".join("+" if one.after > one.before else "-" for one in outcome.changes)


def apart(outcome: Outcome, cool_down_s: float) -> bool:
    return all(later.at_s - one.at_s >= cool_down_s for one, later in pairwise(outcome.changes))


# A load closer to what n replicas can read takes longer than this to show that n are too few.
@settings(max_examples=40)
@given(
    full=st.integers(0, 9),
    part=st.floats(0.2, 0.8),
    slots=st.integers(1, 8),
    service_s=st.floats(2, 10),
    target_waiting=st.floats(0.5, 5),
    least=st.integers(1, 3),
)
def test_a_constant_load_comes_to_rest(  # one parameter a dimension
    full: int, part: float, slots: int, service_s: float, target_waiting: float, least: int
) -> None:
    policy = Policy(least, 6, target_waiting, 60)
    fleet = Fleet(slots=slots, service_s=service_s, spread=0, start_s=50)
    rate, duration_s = (full + part) * slots / service_s, 2 * HOUR_S
    outcome = simulate(policy, even(rate, duration_s), duration_s, fleet=fleet)
    found = directions(outcome)
    assert found == "+" * found.count("+") + "-" * found.count("-")  # nothing rises after a fall
    assert len(found) <= 8
    assert all(one.at_s < duration_s / 2 for one in outcome.changes)
    assert apart(outcome, policy.cool_down_s)


@pytest.mark.parametrize("rate", [0.3, 0.6, 0.7, 0.9, 1.9, 3.7, 7.8])
def test_a_constant_load_of_pages_by_chance_changes_seldom(rate: float) -> None:
    load = Load(lambda _: rate, rate, 24 * HOUR_S)
    outcome = simulate(SLOW, poisson(load, seed=1), load.duration_s, seed=1)
    half = [one for one in outcome.changes if one.at_s > load.duration_s / 2]
    assert len(half) <= 6  # one in two hours
    assert len({one.after for one in half}) <= 2


@pytest.fixture(scope="module")
def run() -> Callable[[str], Outcome]:
    """Give the outcome of a named load, simulated once."""
    done: dict[str, Outcome] = {}

    def outcome(name: str) -> Outcome:
        if name not in done:
            load = LOADS[name]
            done[name] = simulate(SLOW, poisson(load, seed=1), load.duration_s)
        return done[name]

    return outcome


@pytest.mark.parametrize("name", LOADS)
def test_whatever_the_load_changes_are_a_cool_down_apart(
    run: Callable[[str], Outcome], name: str
) -> None:
    outcome = run(name)
    assert apart(outcome, SLOW.cool_down_s)
    assert all(SLOW.least <= point.replicas <= SLOW.most for point in outcome.series)
    assert all(point.replicas <= 2 * before.replicas for before, point in pairwise(outcome.series))


def test_the_simulation_is_the_same_each_time() -> None:
    load = LOADS["spike"]
    one, again = (simulate(SLOW, poisson(load, seed=5), load.duration_s, seed=5) for _ in range(2))
    assert one == again
    assert one != simulate(SLOW, poisson(load, seed=6), load.duration_s, seed=6)


def test_the_simulation_loses_no_page(run: Callable[[str], Outcome]) -> None:
    for name, load in LOADS.items():
        assert len(run(name).waits_s) == len(poisson(load, seed=1))


def test_a_step_is_followed_up_and_down(run: Callable[[str], Outcome]) -> None:
    outcome = run("step")
    assert directions(outcome).strip("-") == "+++"
    # 4 pages a second: from the second 600 to 3000, and there in three steps.
    rises = [one.at_s for one in outcome.changes if one.after > one.before]
    assert max(rises) < 600 + 3 * SLOW.cool_down_s
    settled = [point for point in outcome.series if 1800 < point.at_s < 3000]
    assert all(point.replicas >= 5 for point in settled)
    assert max(point.waiting for point in settled) == 0
    assert outcome.series[-1].replicas == 1


def test_a_ramp_is_climbed_in_order(run: Callable[[str], Outcome]) -> None:
    outcome = run("ramp")
    found = directions(outcome)
    assert found == "+" * found.count("+") + "-" * found.count("-")
    assert max(point.replicas for point in outcome.series) >= 6
    assert outcome.p95_wait_s < 15


def test_a_day_costs_less_than_the_most_and_waits_little(run: Callable[[str], Outcome]) -> None:
    outcome = run("daily wave")
    assert outcome.p95_wait_s < 5
    assert outcome.replica_s < 0.6 * SLOW.most * 24 * HOUR_S
    assert len(outcome.changes) <= 16


def test_a_spike_that_is_gone_by_the_next_sample_changes_nothing() -> None:
    arrivals = sorted([*even(0.5, 1800), *[901.0] * 9])
    outcome = simulate(SLOW, arrivals, 1800, fleet=Fleet(spread=0))
    over = [point.at_s for point in outcome.series if point.waiting > SLOW.target_waiting]
    assert over == [905.0]
    assert outcome.changes == ()


def test_a_spike_that_stays_is_answered_and_forgotten(run: Callable[[str], Outcome]) -> None:
    outcome = run("spike")
    assert len(outcome.changes) <= 4
    assert outcome.series[-1].replicas == 1


def square(off_s: float, duration_s: float = 4 * HOUR_S) -> Load:
    return Load(lambda t: 5.0 if t % (120 + off_s) < 120 else 0.0, 5.0, duration_s)


@pytest.mark.parametrize("off_s", [60, 90, 100])
def test_pauses_shorter_than_the_cool_down_do_not_flap(off_s: float) -> None:
    load = square(off_s)
    outcome = simulate(SLOW, poisson(load, seed=3), load.duration_s)
    assert directions(outcome).strip("-") == "+++"
    assert all(one.at_s < load.duration_s / 2 for one in outcome.changes)


@pytest.mark.parametrize("off_s", [120, 130, 150, 240])
def test_longer_pauses_flap_once_a_cool_down_at_worst_and_a_longer_one_cures_it(
    off_s: float,
) -> None:
    load = square(off_s)
    arrivals = poisson(load, seed=3)
    outcome = simulate(SLOW, arrivals, load.duration_s)
    assert len(outcome.changes) > 20  # the trap is real
    assert apart(outcome, SLOW.cool_down_s)
    cured = simulate(replace(SLOW, cool_down_s=300), arrivals, load.duration_s)
    assert all(one.at_s < load.duration_s / 2 for one in cured.changes)


def test_more_than_the_most_can_read_stays_at_the_most(run: Callable[[str], Outcome]) -> None:
    outcome = run("overload")
    assert [one.after for one in outcome.changes] == [2, 4, 8]
    assert outcome.unread > 0


def test_the_simulated_trace_is_the_golden_one(golden: Callable[[str, str], None]) -> None:
    load = LOADS["spike"]
    outcome = simulate(SLOW, poisson(load, seed=1), load.duration_s)
    golden("simulated_load.jsonl", recorded(outcome, Fleet().slots))


def test_a_trace_is_replayed_as_it_was_decided(run: Callable[[str], Outcome]) -> None:
    trace = Path(__file__).parent / "golden" / "simulated_load.jsonl"
    decided = [
        (now.at_s, now.replicas, decision.replicas, decision.why)
        for now, decision in replay(SLOW, trace)
        if decision.replicas != now.replicas
    ]
    changes = run("spike").changes
    assert decided == [(one.at_s, one.before, one.after, one.why) for one in changes]


def _told(steps: Sequence[tuple[Sample, Decision]]) -> Iterator[tuple[float, int]]:
    """Yield when something other than to hold is decided within the bounds, and how much."""
    for now, decision in steps:
        if decision.replicas != now.replicas and POLICY.least <= now.replicas <= POLICY.most:
            yield now.at_s, decision.replicas - now.replicas


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.stem)
def test_what_every_trace_is_answered_with(trace: Path) -> None:
    lines = trace.read_text(encoding="utf-8").splitlines()
    keys = {"at_s", "running", "waiting", "replicas", "slots"}
    assert all(set(json.loads(line)) == keys for line in lines)
    steps = list(replay(SLOW, trace))
    assert len(steps) == len(lines) > 0
    assert all(one.at_s < later.at_s for (one, _), (later, _) in pairwise(steps))
    assert all(SLOW.least <= decision.replicas <= SLOW.most for _, decision in steps)
    told = list(_told(steps))
    assert all(later[0] - one[0] >= SLOW.cool_down_s for one, later in pairwise(told))
    waiting = {now.at_s: now.waiting for now, _ in steps}
    assert all((waiting[at_s] > 0) == (more > 0) for at_s, more in told)
