"""How numbers and other people's words are written in a report; pure."""

import math

from cloister.cleaning import on_one_line
from cloister.loadtest.result import Estimate

NONE = "-"


def plain(text: str, most: int = 300) -> str:
    """Return a text on one line, cut to `most` characters.

    Control characters and those that turn the direction of writing could make a reader see another
    report than the one that was written.
    """
    return on_one_line(text, most)


def number(value: float | None, digits: int | None = None) -> str:
    """Return a number with three significant digits, or so many behind the point."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:,.{_digits(value) if digits is None else digits}f}" if value else "0"


def milliseconds(seconds: float | None) -> str:
    """Return seconds as milliseconds, without the unit."""
    return NONE if seconds is None else number(seconds * 1000)


def percent(share: float | None) -> str:
    """Return a share as percent."""
    if share is None or not math.isfinite(share):
        return NONE
    value = share * 100
    digits = 2 if 0 < abs(value) < 1 else 0 if value in {0, 100} else 1
    return f"{value:.{digits}f} %"


def plus_minus(estimate: Estimate | None) -> str:
    """Return a number and the half of its interval, with the same digits."""
    if estimate is None:
        return NONE
    half = max(estimate.high - estimate.value, estimate.value - estimate.low)
    digits = _digits(estimate.value or half)
    return f"{number(estimate.value)} ± {number(half, digits)}"


def between(share: Estimate, most: float = math.inf) -> str:
    """Return a share with its interval, cut to what is possible: an approximation may exceed it."""
    low, high = max(0.0, share.low), min(share.high, most)
    return f"{percent(share.value)} ({percent(low)} to {percent(high)})"


def _digits(value: float) -> int:
    size = abs(value)
    return next((digits for least, digits in ((100, 0), (10, 1), (1, 2)) if size >= least), 3)
