"""Which server to start next, from those that were measured: pure.

From the best server so far one knob is moved: first those that can move what limits it, and KV
memory before them where its curve says that more of it brings more. A start costs minutes and a
rung seconds, so a few well-chosen starts are worth more than a plan of many.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from cloister.tuning.knobs import Configuration, Knob, Space, Value
from cloister.tuning.memory import Memory
from cloister.tuning.trial import OOM, Trial

# Less than this is within the noise of a rung, and not worth another setting.
WORTH = 0.02
_MOST = 0.8  # of the pages that are read at once: a little less memory may be worth another knob


@dataclass(frozen=True)
class Recommendation:
    """A trial to keep, with as many sequences as its best rung had clients for each replica."""

    trial: Trial
    configuration: Configuration


def next_start(done: Sequence[Trial], memory: Memory) -> dict[str, Value] | None:
    """Return the configuration to try next, None when every promising one was tried."""
    if not done:
        return memory.space.first
    best = incumbent(done)
    if best is None:
        return _safer(done, memory.space)
    tried = [dict(trial.configuration) for trial in done]
    for wanted in _candidates(best, done, memory):
        candidate = _lowered(wanted, done, memory.space)
        if candidate and candidate not in tried and _roomy(candidate, best, memory):
            return candidate
    return None


def incumbent(done: Sequence[Trial]) -> Trial | None:
    """Return the best trial; of those within the noise of it the earliest, which moved least."""
    most = max((trial.score for trial in done), default=0.0)
    good = (trial for trial in done if trial.score > 0 and trial.score >= most * (1 - WORTH))
    return next(good, None)


def recommend(done: Sequence[Trial], space: Space) -> Recommendation | None:
    """Return what to keep, None when nothing served a page within the SLO."""
    best = incumbent(done)
    if best is None or best.best is None:
        return None
    return Recommendation(best, as_its_best_rung(best, best.best.clients, space))


def as_its_best_rung(trial: Trial, clients: int, space: Space) -> dict[str, Value]:
    """Return a trial's configuration with as many sequences as a rung had clients."""
    knob = space.of("sequences")
    if knob is None:
        return dict(trial.configuration)
    sequences = math.ceil(clients / space.number(trial.configuration, "replicas"))
    return {**trial.configuration, knob.setting: sequences}


def _candidates(best: Trial, done: Sequence[Trial], memory: Memory) -> Iterator[dict[str, Value]]:
    """Yield the best one's neighbours, the most promising first."""
    knobs = memory.space.knobs
    fitting = [knob for knob in knobs if best.limit in knob.moves]
    short = [knob for knob in knobs if best.short_of_memory and "KV memory" in knob.moves]
    others = [knob for knob in knobs if knob.role != "memory"]
    order = (*short, *fitting) if _starved(best, memory, short) else (*fitting, *short)
    later = []
    for knob in dict.fromkeys((*order, *others)):
        for value in knob.neighbours(best.configuration[knob.setting]):
            candidate = {**best.configuration, knob.setting: value}
            promise = _promise(value, knob, best, done, memory.space)
            if promise == "good":
                yield candidate
            elif promise == "some":
                later.append(candidate)
    yield from later


def _starved(best: Trial, memory: Memory, short: Sequence[Knob]) -> bool:
    """Tell whether the next step of memory would bring more than noise, by the best one's curve."""
    for knob in short:
        for value in knob.neighbours(best.configuration[knob.setting]):
            pages = memory.kv_pages({**best.configuration, knob.setting: value}, best)
            if (pages / best.kv_pages) ** best.elasticity > 1 + 2 * WORTH:
                return True
    return False


def _promise(
    value: Value, knob: Knob, best: Trial, done: Sequence[Trial], space: Space
) -> Literal["good", "some", "none"]:
    """Tell what the trials that differ from the best one in a knob say of another value of it.

    A server has one best value of a knob. What lies beyond a worse one is worse still. What lies
    between is likely best where both are as good, and may be where they are not.
    """
    place = knob.values.index
    here, there = place(best.configuration[knob.setting]), place(value)
    worse = {
        place(trial.configuration[knob.setting]): trial.score
        for trial in done
        if not trial.failure and _alike(trial, best, knob, space) and trial is not best
    }
    side = {other: score for other, score in worse.items() if (other > here) == (there > here)}
    if not side:
        return "good"
    if not any(min(here, other) < there < max(here, other) for other in side):
        return "none"
    return "good" if max(side.values()) >= best.score * (1 - 2 * WORTH) else "some"


def _alike(trial: Trial, best: Trial, knob: Knob, space: Space) -> bool:
    """Tell whether two differ in one knob, and perhaps in memory, which only matters when short."""
    memory = space.of("memory")
    names = {knob.setting, *([memory.setting] if memory else [])}
    free = {name: best.configuration[name] for name in names}
    moved = trial.configuration[knob.setting] != best.configuration[knob.setting]
    return moved and {**trial.configuration, **free} == best.configuration


def _safer(done: Sequence[Trial], space: Space) -> dict[str, Value] | None:
    """Return the last one with less memory, as long as memory was what failed it."""
    last, memory = done[-1], space.of("memory")
    if last.failure not in OOM or memory is None:
        return None
    lower = memory.values[: memory.values.index(last.configuration[memory.setting])]
    # Two steps: a start that fails costs more than memory that is not used, and it can be raised.
    return {**last.configuration, memory.setting: lower[-2:][0]} if lower else None


def _lowered(wanted: Configuration, done: Sequence[Trial], space: Space) -> dict[str, Value] | None:
    """Return the configuration with as much memory as none of the trials that ran out had."""
    memory = space.of("memory")
    if memory is None:
        return dict(wanted) if _safe(wanted, done, space) else None
    for value in reversed(memory.values):
        candidate = {**wanted, memory.setting: value}
        most = memory.values.index(wanted[memory.setting])
        if memory.values.index(value) <= most and _safe(candidate, done, space):
            return candidate
    return None


def _roomy(candidate: Configuration, best: Trial, memory: Memory) -> bool:
    """Tell whether the KV memory would hold most of the pages that the best one reads at once."""
    clients = best.best.clients if best.best else 0
    return memory.kv_pages(candidate, best) >= _MOST * min(clients, best.kv_pages)


def _safe(candidate: Configuration, done: Sequence[Trial], space: Space) -> bool:
    """Tell whether no trial ran out of memory that asked for no more of anything."""
    return not any(
        trial.failure in OOM and space.above(candidate, trial.configuration) for trial in done
    )
