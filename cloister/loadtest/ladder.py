"""The closed-loop ladder: more clients until more clients bring nothing; pure.

The design follows inference-perf's proposal 711: growth by a factor, the gain of a rung with its
confidence interval, and Little's law as a check, rather than a burst whose drain is timed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from cloister.loadtest.result import Estimate, Stage
from cloister.loadtest.shapes import Load, closed

_GAIN = 0.05  # less than this for twice the clients is not worth their waiting
_PLATEAU = 0.10
_LONGEST = 2.0  # times `seconds`


@dataclass(frozen=True)
class Ladder:
    """Rungs from `first` clients to `last` at most; each takes `seconds` at least, `pages` too."""

    first: int
    last: int
    seconds: float
    pages: int = 50

    def next(self, done: Sequence[Stage]) -> Load | None:
        """Return the next rung, None when the knee is behind."""
        rungs = [stage for stage in done if stage.kind == "closed" and not stage.direct]
        if not rungs:
            return closed(self.first, self.seconds)
        users = rungs[-1].users or self.first
        if users >= self.last or self._flat(rungs):
            return None
        return closed(min(2 * users, self.last), self.seconds)

    def over(self, pages: int, elapsed_s: float) -> bool:
        """Tell whether a rung has gone on for long enough."""
        enough = elapsed_s >= self.seconds and pages >= self.pages
        return enough or elapsed_s >= self.seconds * _LONGEST

    @staticmethod
    def _flat(rungs: Sequence[Stage]) -> bool:
        """Tell whether the last two rungs gained nothing worth having over the best before them.

        Two, because one may be noise.
        """
        if len(rungs) < 3:  # noqa: PLR2004
            return False
        best = max(stage.pages_per_s.value for stage in rungs[:-2])
        return all(stage.pages_per_s.value < best * (1 + _GAIN) for stage in rungs[-2:])


def best(stages: Sequence[Stage]) -> int | None:
    """Return the number of the stage that served the most good pages through the gateway."""
    rated = [
        (stage.pages_per_s.value, number)
        for number, stage in enumerate(stages)
        if not stage.direct and stage.good
    ]
    return max(rated)[1] if rated else None


def capacity(stages: Sequence[Stage]) -> Estimate | None:
    """Return the most good pages a second: the mean of all rungs beside the best one.

    The best alone would be the luckiest. Without a ladder it is the best stage's.
    """
    number = best(stages)
    if number is None:
        return None
    most = stages[number].pages_per_s
    near = [
        stage.pages_per_s
        for stage in stages
        if stage.kind == stages[number].kind == "closed"
        and not stage.direct
        and stage.pages_per_s.value >= most.value * (1 - _PLATEAU)
    ]
    if len(near) <= 1:
        return most
    value = fmean(rate.value for rate in near)
    half = math.hypot(*(rate.high - rate.value for rate in near)) / len(near)
    total = sum(rate.n for rate in near)
    return Estimate(value=value, low=max(0.0, value - half), high=value + half, n=total)


def knee(stages: Sequence[Stage]) -> str | None:
    """Return the fewest clients that serve as much as any number does, by one gain's margin."""
    rungs = [stage for stage in stages if stage.kind == "closed" and not stage.direct]
    if len(rungs) < 3:  # noqa: PLR2004
        return None
    most = max(stage.pages_per_s.value for stage in rungs)
    if math.isclose(most, 0):
        return None
    return next(s.name for s in rungs if s.pages_per_s.value >= most * (1 - _GAIN))
