"""Which server the tuner starts next, and how near it comes to the best of simulated ones."""

from statistics import median
from typing import Any

import pytest
from repetitions import REPETITIONS
from server_simulation import SPACE, Server, configurations
from tuner_contest import STARTS, contest, tuned

from cloister.loadtest.result import Estimate
from cloister.tuning import knobs, search
from cloister.tuning.memory import Memory
from cloister.tuning.trial import Rung, Trial

FIRST = SPACE.first
MEMORY = Memory(SPACE, 40)
SHARE, SERVERS = "vllm.gpu_memory_percent", "vllm.api_server_count"
BATCH, REPLICAS = "vllm.max_num_batched_tokens", "engines.per_gpu"


def named(moved: dict[str, int]) -> dict[str, knobs.Value]:
    """Return short names as settings."""
    return {{"per_gpu": REPLICAS}.get(name, f"vllm.{name}"): value for name, value in moved.items()}


def rung(clients: int, rate: float, *, met: bool = True) -> Rung:
    return Rung(clients, Estimate(value=rate, low=rate, high=rate, n=100), met)


def trial(rate: float, limit: knobs.Limit = "decode", kv: float = 999, **moved: int) -> Trial:
    rungs = (rung(16, rate * 0.7), rung(32, rate), rung(64, rate * 0.9))
    return Trial({**FIRST, **named(moved)}, None, rungs, limit, kv)


def started(*done: Trial) -> dict[str, Any]:
    """Return what the next start moves."""
    wanted = search.next_start(done, MEMORY)
    best = search.incumbent(done) or done[-1]
    assert wanted is not None
    return {name: value for name, value in wanted.items() if best.configuration[name] != value}


def test_the_quality_on_simulated_servers() -> None:
    shares = list(contest(range(REPETITIONS.servers)))
    ours, theirs = ([one[name] for one in shares] for name in ("tuner", "random search"))
    grid = [one["grid"] for one in shares]
    assert median(ours) >= 0.97
    assert min(ours) >= 0.90
    assert median(ours) > max(median(theirs), median(grid))
    assert min(ours) > max(min(theirs), min(grid))


def test_nothing_that_can_run_out_of_memory_is_recommended() -> None:
    for seed in range(REPETITIONS.servers):
        server = Server(seed)
        kept = search.recommend(tuned(server), SPACE)
        assert server.starts <= STARTS
        assert kept is not None
        assert server.failure(kept.configuration) is None


def test_the_simulation_has_every_kind_of_server() -> None:
    servers = [Server(seed) for seed in range(REPETITIONS.servers)]
    failing = [sum(bool(one.failure(c)) for c in configurations()) for one in servers]
    assert min(failing) == 0
    assert max(failing) > 80
    limits = {one.start(FIRST).limit for one in servers}
    assert {"host CPU", "decode", "KV memory"} <= limits


@pytest.mark.parametrize(
    ("limit", "knob"),
    [
        ("host CPU", SERVERS),
        ("decode", BATCH),
        ("KV memory", SHARE),
    ],
)
def test_the_knob_that_moves_the_limit_is_moved_first(limit: knobs.Limit, knob: str) -> None:
    assert list(started(trial(5, limit))) == [knob]


def test_after_an_oom_at_the_first_start_there_is_less_memory() -> None:
    assert started(Trial(FIRST, "OOM at start")) == {SHARE: 80}
    assert search.next_start([Trial(FIRST, "driver")], MEMORY) is None, "no memory mends that"


def test_what_ran_out_of_memory_is_tried_with_less_of_it() -> None:
    failed = Trial({**FIRST, BATCH: 32768}, "OOM under load")
    moved = started(trial(5), failed)
    assert moved == {BATCH: 32768, SHARE: 85}


def test_between_two_that_are_as_good_lies_the_next() -> None:
    done = trial(5.0), trial(5.01, max_num_batched_tokens=32768)
    assert started(*done) == {BATCH: 16384}
    worse = trial(5.0), trial(4.0, max_num_batched_tokens=32768)
    assert started(*worse) == {BATCH: 4096}


def test_two_replicas_need_memory_for_two() -> None:
    batches = [trial(4, max_num_batched_tokens=value) for value in (4096, 16384, 32768)]
    done = [trial(5, kv=100), *batches]
    assert started(*done) != {"per_gpu": 2}, "90 - 2 x 40 percent leave a fifth of the pages"
    assert search.next_start(done, Memory(SPACE, 5)) == {**FIRST, REPLICAS: 2}


def test_a_gain_within_the_noise_moves_nothing() -> None:
    first, second = trial(5.0), trial(5.05, api_server_count=4)
    kept = search.recommend([first, second], SPACE)
    assert kept is not None
    assert kept.trial is first
    assert kept.configuration == {**FIRST, "vllm.max_num_seqs": 32}, "as its best rung had"


def test_a_server_that_never_meets_the_slo_is_not_recommended() -> None:
    slow = Trial(FIRST, None, (rung(16, 5.0, met=False),), "decode", 999)
    assert search.recommend([slow], SPACE) is None
    assert search.recommend([], SPACE) is None
