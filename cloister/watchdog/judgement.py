"""Whether a replica is well, from what was seen of it: pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from cloister.deployment.gauges import PROMPT_TOKENS, READ, RUNNING, TOKENS, WAITING
from cloister.engines import Patience

# gone: no process. new: another process than before. starting: has not answered yet. unsure: does
# not answer now. silent: has not for too long. busy, stalled: has pages, with and without progress.
Verdict = Literal["gone", "new", "starting", "unsure", "silent", "busy", "stalled", "idle"]
_PROGRESS = (TOKENS, PROMPT_TOKENS, READ)


@dataclass(frozen=True)
class Sighting:
    """One look at a replica at the time `at_s`, in seconds of a clock that only goes on.

    `run` tells its process from earlier ones and is empty when there is none. `told` are its
    numbers by name, None when it did not answer.
    """

    at_s: float
    run: str
    told: Mapping[str, float] | None
    memory_mib: int | None = None

    @property
    def load(self) -> int:
        """Pages that it has, read or waiting."""
        told = self.told or {}
        return int(told.get(RUNNING, 0) + told.get(WAITING, 0))

    @property
    def progress(self) -> float:
        """A number that grows with anything that comes out of it."""
        return sum((self.told or {}).get(name, 0.0) for name in _PROGRESS)


@dataclass(frozen=True)
class Chart:
    """What is remembered of a replica's process: when it began, answered and got on (seconds)."""

    run: str
    since_s: float
    answered_s: float | None = None
    progress: float = 0.0
    progressed_s: float = 0.0


def judge(
    chart: Chart | None, seen: Sighting, patience: Patience, ready_s: float
) -> tuple[Verdict, Chart]:
    """Return the verdict on a replica, and what to remember; pure.

    A replica that is only busy is never called sick: with pages, any token is progress. One that
    does not answer for its numbers may be starting, for `ready_s`, or be busy, for a while.
    """
    if not seen.run:
        return "gone", Chart("", seen.at_s)
    if chart is None or chart.run != seen.run:
        begun = Chart(seen.run, seen.at_s, progressed_s=seen.at_s)
        return ("new" if chart is not None else "starting"), begun
    if seen.told is None:
        return _unanswered(chart, seen, patience, ready_s), chart
    moved = seen.progress != chart.progress or chart.answered_s is None or seen.load == 0
    now = replace(
        chart,
        answered_s=seen.at_s,
        progress=seen.progress,
        progressed_s=seen.at_s if moved else chart.progressed_s,
    )
    if seen.load == 0:
        return "idle", now
    return ("stalled" if seen.at_s - now.progressed_s > patience.stall_s else "busy"), now


def _unanswered(chart: Chart, seen: Sighting, patience: Patience, ready_s: float) -> Verdict:
    if chart.answered_s is None:
        return "silent" if seen.at_s - chart.since_s > ready_s else "starting"
    return "silent" if seen.at_s - chart.answered_s > patience.silence_s else "unsure"
