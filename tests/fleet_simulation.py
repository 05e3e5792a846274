"""A fleet under load in simulated time, to try an autoscaling policy on: deterministic by seed.

As behind the gateway, a page goes to the ready replica with the fewest pages and stays there, so
that a new replica helps with new pages only. Left out: that engines slow down with what they read
at once, that a full queue answers 503, and failures.
"""

import json
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from heapq import heappop, heappush
from pathlib import Path

from cloister.autoscale import Decision, Policy, Sample, decide, needed

MINUTE_S, HOUR_S = 60.0, 3600.0


@dataclass(frozen=True)
class Fleet:
    """What replicas are like; `spread` is how far a page's time is from `service_s`, at most."""

    slots: int = 5
    service_s: float = 5.0
    spread: float = 0.5
    start_s: float = 90.0
    tick_s: float = 5.0


@dataclass(frozen=True)
class Load:
    """Pages a second over time, at most `peak` of them."""

    rate: Callable[[float], float]
    peak: float
    duration_s: float


@dataclass(frozen=True)
class Point:
    """The fleet at one tick; `arrivals` are the pages since the one before."""

    at_s: float
    arrivals: int
    waiting: int
    running: int
    replicas: int


@dataclass(frozen=True)
class Change:
    """A decision that was not to hold."""

    at_s: float
    before: int
    after: int
    why: str


@dataclass(frozen=True)
class Outcome:
    """What came of a load; a page that never began to be read has waited until the end."""

    series: tuple[Point, ...]
    changes: tuple[Change, ...]
    waits_s: tuple[float, ...]
    unread: int
    replica_s: float

    @property
    def p95_wait_s(self) -> float:
        ordered = sorted(self.waits_s)
        return ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else 0.0


def poisson(load: Load, seed: int) -> list[float]:
    """Return the times, in seconds, at which pages arrive by chance."""
    chance = random.Random(seed)  # a simulation's, not a secret's
    now_s, times = 0.0, []
    while (now_s := now_s + chance.expovariate(load.peak)) < load.duration_s:
        if chance.random() * load.peak < load.rate(now_s):
            times.append(now_s)
    return times


def even(rate: float, duration_s: float) -> list[float]:
    """Return the times of pages that arrive at equal distances."""
    return [number / rate for number in range(1, int(rate * duration_s) + 1)]


@dataclass(eq=False)
class _Replica:
    ready_at_s: float
    busy: int = 0
    queue: deque[float] = field(default_factory=deque)


class _Simulation:
    def __init__(self, policy: Policy, fleet: Fleet, seed: int) -> None:
        self.policy, self.fleet = policy, fleet
        self.chance = random.Random(seed)  # as in `poisson`
        self.staying = [_Replica(0.0) for _ in range(policy.least)]
        self.leaving: list[_Replica] = []
        self.finishes: list[tuple[float, int, _Replica]] = []
        self.waits_s: list[float] = []
        self.history: list[Sample] = []
        self.series: list[Point] = []
        self.changes: list[Change] = []
        self.replica_s = 0.0

    def arrive(self, at_s: float) -> None:
        ready = (replica for replica in self.staying if replica.ready_at_s <= at_s)
        chosen = min(ready, key=lambda replica: replica.busy + len(replica.queue))
        chosen.queue.append(at_s)
        self._read(chosen, at_s)

    def finish_until(self, until_s: float) -> None:
        while self.finishes and self.finishes[0][0] <= until_s:
            at_s, _, replica = heappop(self.finishes)
            replica.busy -= 1
            self._read(replica, at_s)

    def _read(self, replica: _Replica, at_s: float) -> None:
        while replica.queue and replica.busy < self.fleet.slots:
            self.waits_s.append(at_s - replica.queue.popleft())
            replica.busy += 1
            spread = self.chance.uniform(-self.fleet.spread, self.fleet.spread)
            done_s = at_s + self.fleet.service_s * (1 + spread)
            heappush(self.finishes, (done_s, len(self.waits_s), replica))

    def tick(self, at_s: float, arrivals: int) -> None:
        self.leaving = [one for one in self.leaving if one.busy or one.queue]
        self.replica_s += self.fleet.tick_s * (len(self.staying) + len(self.leaving))
        running = sum(one.busy for one in self.staying)
        waiting = sum(len(one.queue) for one in self.staying)
        count = len(self.staying)
        self.series.append(Point(at_s, arrivals, waiting, running, count))
        self.history.append(Sample(at_s, count, running, waiting, self.fleet.slots))
        self.history = list(needed(self.policy, self.history))
        changed_at_s = self.changes[-1].at_s if self.changes else None
        decision = decide(self.policy, self.history, changed_at_s)
        if decision.replicas != count:
            self.changes.append(Change(at_s, count, decision.replicas, decision.why))
            ready_at_s = at_s + self.fleet.start_s
            self.staying += [_Replica(ready_at_s) for _ in range(decision.replicas - count)]
            # The newest leave, so that one that is ready stays.
            self.leaving += self.staying[decision.replicas :]
            del self.staying[decision.replicas :]


def simulate(
    policy: Policy,
    arrivals: Sequence[float],
    duration_s: float,
    *,
    fleet: Fleet | None = None,
    seed: int = 0,
) -> Outcome:
    """Let pages arrive at a fleet of the fewest replicas, and the policy decide at each tick."""
    fleet = fleet or Fleet()
    run, arrived = _Simulation(policy, fleet, seed), 0
    for number in range(1, int(duration_s / fleet.tick_s) + 1):
        at_s, before = number * fleet.tick_s, arrived
        while arrived < len(arrivals) and arrivals[arrived] <= at_s:
            run.finish_until(arrivals[arrived])
            run.arrive(arrivals[arrived])
            arrived += 1
        run.finish_until(at_s)
        run.tick(at_s, arrived - before)
    unread = [since_s for one in run.staying + run.leaving for since_s in one.queue]
    waits_s = (*run.waits_s, *(duration_s - since_s for since_s in unread))
    return Outcome(tuple(run.series), tuple(run.changes), waits_s, len(unread), run.replica_s)


def recorded(outcome: Outcome, slots: int) -> str:
    """Return the series as a trace that `replay` reads: a JSON object a line."""
    samples = (
        Sample(one.at_s, one.replicas, one.running, one.waiting, slots) for one in outcome.series
    )
    return "".join(json.dumps(asdict(sample)) + "\n" for sample in samples)


def replay(policy: Policy, path: Path) -> Iterator[tuple[Sample, Decision]]:
    """Yield each sample of a trace and what is decided on it.

    A decision to change starts a cool-down, whether the trace follows it or not.
    """
    history: list[Sample] = []
    changed_at_s: float | None = None
    for line in path.read_text(encoding="utf-8").splitlines():
        now = Sample(**json.loads(line))
        history = list(needed(policy, [*history, now]))
        decision = decide(policy, history, changed_at_s)
        if decision.replicas != now.replicas:
            changed_at_s = now.at_s
        yield now, decision


def _ramp(at_s: float) -> float:
    return 0.2 + 5.8 * (1 - abs(at_s - HOUR_S) / HOUR_S)


def _wave(at_s: float) -> float:
    return 0.2 + 2.65 * (1 - math.cos(2 * math.pi * at_s / (24 * HOUR_S)))


# In pages a second, where one replica as above reads one.
LOADS = {
    "step": Load(lambda t: 4.0 if 10 <= t / MINUTE_S < 50 else 0.5, 4.0, 90 * MINUTE_S),
    "ramp": Load(_ramp, 6.0, 2 * HOUR_S),
    "daily wave": Load(_wave, 5.5, 24 * HOUR_S),
    "spike": Load(lambda t: 15.0 if 600 <= t < 610 else 0.5, 15.0, HOUR_S),
    "on and off": Load(lambda t: 5.0 if t % 240 < 120 else 0.2, 5.0, 2 * HOUR_S),
    "overload": Load(lambda _: 12.0, 12.0, HOUR_S),
}
