"""When pages are sent, and that both loops find the capacity of a queue that has a known one."""

import heapq
import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import fmean, stdev

import pytest

from cloister.errors import LoadTestError
from cloister.loadtest import ladder, measure, shapes
from cloister.loadtest.ladder import Ladder
from cloister.loadtest.record import Record
from cloister.loadtest.result import Slo, Stage
from cloister.loadtest.shapes import Load

SLO = Slo(ttft_p95_s=1e9, e2e_p95_s=1e9, fault_share=0.01)
SERVERS, SERVICE_S, SIGMA = 8, 2.0, 0.6


def test_poisson_comes_at_its_rate_and_at_random() -> None:
    load = shapes.poisson(4, 2000, 1)
    gaps = [later - earlier for earlier, later in pairwise(load.offsets_s)]
    assert len(load.offsets_s) == pytest.approx(8000, rel=0.05)
    assert fmean(gaps) == pytest.approx(0.25, rel=0.05)
    assert stdev(gaps) == pytest.approx(0.25, rel=0.1), "an exponential's deviation is its mean"
    assert load == shapes.poisson(4, 2000, 1)
    assert load != shapes.poisson(4, 2000, 2)


def test_constant_is_even() -> None:
    load = shapes.constant(2, 10)
    assert load.offsets_s == tuple(number / 2 for number in range(20))


def test_a_ramp_grows_evenly() -> None:
    load = shapes.ramp(10, 1000, 1)
    halves = [sum(at < 500 for at in load.offsets_s), sum(at >= 500 for at in load.offsets_s)]
    assert sum(halves) == pytest.approx(5000, rel=0.05)
    assert halves[1] / halves[0] == pytest.approx(3, rel=0.1)


def test_a_spike_is_four_times_what_is_around_it() -> None:
    before, peak, after = shapes.spike(8, 3000, 1)
    assert len(peak.offsets_s) / len(before.offsets_s) == pytest.approx(4, rel=0.15)
    assert shapes.busiest((before, peak, after)) == peak


def test_several_clients_share_a_schedule() -> None:
    load = shapes.constant(3, 10)
    assert sorted(at for n in range(3) for at in load.offsets_s[n::3]) == list(load.offsets_s)


def test_an_access_log_is_replayed_from_when_its_pages_began(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    page = {"path": "/v1/chat/completions", "time": "2026-11-26T10:00:05+00:00", "seconds": 2.0}
    later = {**page, "time": "2026-11-26T10:00:06+00:00", "seconds": 0.5}
    other = {**page, "path": "/health"}
    path.write_text("\n".join(map(json.dumps, (page, later, other))) + "\nnot a line\n")
    assert shapes.replay(path).offsets_s == (0.0, 2.5)
    path.write_text(json.dumps(other))
    with pytest.raises(LoadTestError, match="has no page"):
        shapes.replay(path)
    with pytest.raises(LoadTestError, match="cannot be read"):
        shapes.replay(tmp_path / "none")


def service(random: Random) -> Iterator[float]:
    """Yield service times, log-normal with a mean of SERVICE_S."""
    while True:
        yield random.lognormvariate(math.log(SERVICE_S) - SIGMA**2 / 2, SIGMA)


def record(due_s: float, done_s: float) -> Record:
    took_s = done_s - due_s
    return Record(0, "letter", due_s, due_s, took_s / 2, took_s, 9, 0.1, 200, None, "stop", 9, 9)


def closed(load: Load, plan: Ladder, random: Random) -> list[Record]:
    """Simulate clients before a queue of SERVERS servers, for as long as the ladder asks."""
    times, free = service(random), [0.0] * SERVERS
    waiting = [(0.0, number) for number in range(load.users or 0)]
    heapq.heapify(waiting)
    records = list[Record]()
    while True:
        due_s, number = heapq.heappop(waiting)
        ended = sum(one.done_s <= due_s for one in records)
        if plan.over(ended, due_s):
            return [one for one in records if one.done_s <= due_s]
        begins_s = max(due_s, heapq.heappop(free))
        done_s = begins_s + next(times)
        heapq.heappush(free, done_s)
        heapq.heappush(waiting, (done_s, number))
        records.append(record(due_s, done_s))


def opened(load: Load, random: Random) -> list[Record]:
    """Simulate the same queue under a schedule, without a limit to what waits."""
    times, free, records = service(random), [0.0] * SERVERS, list[Record]()
    for due_s in load.offsets_s:
        done_s = max(due_s, heapq.heappop(free)) + next(times)
        heapq.heappush(free, done_s)
        records.append(record(due_s, done_s))
    return records


def staged(load: Load, records: list[Record]) -> Stage:
    over_s = max((one.done_s for one in records), default=load.seconds)
    return measure.stage(load, records, slo=SLO, origin_s=0, begun_s=0, over_s=over_s)


@pytest.mark.parametrize("seed", range(20))
def test_the_ladder_and_an_overload_find_the_same_capacity(seed: int) -> None:
    capacity = SERVERS / SERVICE_S
    plan, random, stages = Ladder(1, 256, 120, pages=300), Random(seed), list[Stage]()
    while load := plan.next(stages):
        stages.append(staged(load, closed(load, plan, random)))
    estimate = ladder.capacity(stages)
    assert estimate is not None
    found = estimate.value
    flood = shapes.poisson(1.3 * capacity, 400, seed)
    overload = staged(flood, opened(flood, random)).pages_per_s.value
    assert found == pytest.approx(overload, rel=0.10)
    assert found == pytest.approx(capacity, rel=0.10)
    assert ladder.knee(stages) in {"8 clients", "16 clients", "32 clients"}
    assert len(stages) <= 8, "it stops by itself"


def test_below_its_capacity_a_queue_serves_what_comes() -> None:
    load = shapes.poisson(2.0, 600, 3)
    stage = staged(load, opened(load, Random(3)))
    assert stage.pages_per_s.value == pytest.approx(2.0, rel=0.1)
    assert stage.little_gap < 0.05
    assert stage.steady


def test_a_capacity_is_of_rungs_through_the_gateway_alone() -> None:
    load = shapes.closed(4, 100)
    rungs = [
        staged(load, [record(number * every_s, number * every_s + 1) for number in range(400)])
        for every_s in (0.25, 0.24)
    ]
    direct = staged(load, [record(number / 5, number / 5 + 1) for number in range(500)])
    direct = direct.model_copy(update={"direct": True})
    assert direct.pages_per_s.value > max(rung.pages_per_s.value for rung in rungs)
    assert ladder.capacity([*rungs, direct]) == ladder.capacity(rungs)


def test_a_rung_takes_its_time_and_its_pages_but_no_more_than_twice_the_time() -> None:
    plan = Ladder(1, 8, 10, pages=50)
    assert not plan.over(500, 9.9)
    assert not plan.over(49, 10)
    assert plan.over(50, 10)
    assert plan.over(0, 20)
