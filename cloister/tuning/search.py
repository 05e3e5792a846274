"""Which server to start next, from those that were measured: pure.

From the best server so far one knob is moved: first those that can move what limits it, and KV
memory before them where its curve says that more of it brings more. A start costs minutes and a
rung seconds, so a few well-chosen starts are worth more than a plan of many.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from cloister.tuning.knobs import FIRST, KNOBS, MEMORY, REPLICAS, SEQUENCES, Configuration, Knob
from cloister.tuning.memory import Memory
from cloister.tuning.trial import OOM, Trial

# Less than this is within the noise of a rung, and not worth another setting.
WORTH = 0.02
_MOST = 0.8  # of the pages that are read at once: a little less memory may be worth another knob
_SHARES = next(knob.values for knob in KNOBS if knob.name == MEMORY)


@dataclass(frozen=True)
class Recommendation:
    """A trial to keep, with as many sequences as its best rung had clients for each replica."""

    trial: Trial
    configuration: Configuration


def next_start(done: Sequence[Trial], memory: Memory) -> dict[str, int] | None:
    """Return the configuration to try next, None when every promising one was tried."""
    if not done:
        return dict(FIRST)
    best = incumbent(done)
    if best is None:
        return _safer(done)
    tried = [dict(trial.configuration) for trial in done]
    for wanted in _candidates(best, done, memory):
        candidate = _lowered(wanted, done)
        if candidate and candidate not in tried and _roomy(candidate, best, memory):
            return candidate
    return None


def incumbent(done: Sequence[Trial]) -> Trial | None:
    """Return the best trial; of those within the noise of it the earliest, which moved least."""
    most = max((trial.score for trial in done), default=0.0)
    good = (trial for trial in done if trial.score > 0 and trial.score >= most * (1 - WORTH))
    return next(good, None)


def recommend(done: Sequence[Trial]) -> Recommendation | None:
    """Return what to keep, None when nothing served a page within the SLO."""
    best = incumbent(done)
    if best is None or best.best is None:
        return None
    sequences = math.ceil(best.best.clients / best.configuration[REPLICAS])
    return Recommendation(best, {**best.configuration, SEQUENCES: sequences})


def _candidates(best: Trial, done: Sequence[Trial], memory: Memory) -> Iterator[dict[str, int]]:
    """Yield the best one's neighbours, the most promising first."""
    fitting = [knob for knob in KNOBS if best.limit in knob.moves]
    short = [knob for knob in KNOBS if best.short_of_memory and "KV memory" in knob.moves]
    others = [knob for knob in KNOBS if "KV memory" not in knob.moves]
    order = (*short, *fitting) if _starved(best, memory, short) else (*fitting, *short)
    later = []
    for knob in dict.fromkeys((*order, *others)):
        for value in knob.neighbours(best.configuration[knob.name]):
            candidate = {**best.configuration, knob.name: value}
            promise = _promise(value, knob, best, done)
            if promise == "good":
                yield candidate
            elif promise == "some":
                later.append(candidate)
    yield from later


def _starved(best: Trial, memory: Memory, short: Sequence[Knob]) -> bool:
    """Tell whether the next step of memory would bring more than noise, by the best one's curve."""
    for knob in short:
        for value in knob.neighbours(best.configuration[knob.name]):
            pages = memory.kv_pages({**best.configuration, knob.name: value}, best)
            if (pages / best.kv_pages) ** best.elasticity > 1 + 2 * WORTH:
                return True
    return False


def _promise(
    value: int, knob: Knob, best: Trial, done: Sequence[Trial]
) -> Literal["good", "some", "none"]:
    """Tell what the trials that differ from the best one in a knob say of another value of it.

    A server has one best value of a knob. What lies beyond a worse one is worse still. What lies
    between is likely best where both are as good, and may be where they are not.
    """
    here = best.configuration[knob.name]
    worse = {
        trial.configuration[knob.name]: trial.score
        for trial in done
        if not trial.failure and _alike(trial, best, knob) and trial is not best
    }
    side = {other: score for other, score in worse.items() if (other > here) == (value > here)}
    if not side:
        return "good"
    if not any(min(here, other) < value < max(here, other) for other in side):
        return "none"
    return "good" if max(side.values()) >= best.score * (1 - 2 * WORTH) else "some"


def _alike(trial: Trial, best: Trial, knob: Knob) -> bool:
    """Tell whether two differ in one knob, and perhaps in memory, which only matters when short."""
    free = {name: best.configuration[name] for name in (knob.name, MEMORY)}
    moved = trial.configuration[knob.name] != best.configuration[knob.name]
    return moved and {**trial.configuration, **free} == best.configuration


def _safer(done: Sequence[Trial]) -> dict[str, int] | None:
    """Return the last one with less memory, as long as memory was what failed it."""
    last = done[-1]
    lower = _SHARES[: _SHARES.index(last.configuration[MEMORY])]
    if last.failure not in OOM or not lower:
        return None
    # Two steps: a start that fails costs more than memory that is not used, and it can be raised.
    return {**last.configuration, MEMORY: lower[-2:][0]}


def _lowered(wanted: Configuration, done: Sequence[Trial]) -> dict[str, int] | None:
    """Return the configuration with as much memory as none of the trials that ran out had."""
    for value in reversed(_SHARES):
        candidate = {**wanted, MEMORY: value}
        if value <= wanted[MEMORY] and _safe(candidate, done):
            return candidate
    return None


def _roomy(candidate: Configuration, best: Trial, memory: Memory) -> bool:
    """Tell whether the KV memory would hold most of the pages that the best one reads at once."""
    clients = best.best.clients if best.best else 0
    return memory.kv_pages(candidate, best) >= _MOST * min(clients, best.kv_pages)


def _safe(candidate: Configuration, done: Sequence[Trial]) -> bool:
    """Tell whether no trial ran out of memory that asked for no more of anything."""
    return not any(
        trial.failure in OOM
        and all(candidate[name] >= value for name, value in trial.configuration.items())
        for trial in done
    )
