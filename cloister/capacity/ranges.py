"""A number that is not known exactly."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """What is likely, and between which ends it lies."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> "Range":
        """Return it as many times."""
        return Range(self.value * factor, self.low * factor, self.high * factor)

    def wider(self, by: float) -> "Range":
        """Return it for a cost of which a share of `by` either way is unknown."""
        return Range(self.value, self.low / (1 + by), self.high / (1 - by))

    def over(self, amount: float) -> "Range":
        """Return how long an amount takes at these rates."""
        return Range(amount / self.value, amount / self.high, amount / self.low)

    def written(self, write: Callable[[float], str]) -> str:
        """Return it as text: what is likely, and the ends in brackets."""
        return f"{write(self.value)} ({write(self.low)} to {write(self.high)})"
