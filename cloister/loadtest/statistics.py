"""Numbers with how far they can be trusted: pure functions of observations."""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, median, stdev

from cloister.loadtest.result import Estimate, Spread

_Z = NormalDist().inv_cdf(0.975)
# Student's t, 0.975, by degrees of freedom from 1: of ten batches there are nine.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
_BATCHES = 10
_MSER_BATCH = 5
_TREND_Z = NormalDist().inv_cdf(0.995)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return a percentile, linear between neighbours (Hyndman and Fan's type 7, as numpy's)."""
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread(values: Sequence[float]) -> Spread | None:
    """Return the exact percentiles of all values, None for none."""
    if not values:
        return None
    ordered = sorted(values)
    p50, p90, p95, p99 = (percentile(ordered, share) for share in (0.5, 0.9, 0.95, 0.99))
    return Spread(
        n=len(ordered), mean=fmean(ordered), p50=p50, p90=p90, p95=p95, p99=p99, max=ordered[-1]
    )


def wilson(hits: int, n: int) -> Estimate:
    """Return a share with Wilson's score interval (1927), which is right for shares near 1 too."""
    if n == 0:
        return Estimate(value=0.0, low=0.0, high=1.0, n=0)
    share, z2 = hits / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return Estimate(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half), n=n)


def rate(times_s: Sequence[float], begin_s: float, end_s: float) -> Estimate:
    """Return events a second, with the interval of ten batch means.

    Batches of time, because neighbouring pages share batches in the engine and are not
    independent (Law and Kelton, Simulation Modeling and Analysis, section 9.5.3).
    """
    length = end_s - begin_s
    inside = [at for at in times_s if begin_s < at <= end_s]
    if length <= 0:
        return Estimate(value=0.0, low=0.0, high=0.0, n=0)
    counts = [0] * _BATCHES
    for at in inside:
        counts[min(_BATCHES - 1, int((at - begin_s) / length * _BATCHES))] += 1
    value = len(inside) / length
    half = half_width(counts) / (length / _BATCHES)
    return Estimate(value=value, low=max(0.0, value - half), high=value + half, n=len(inside))


def half_width(values: Sequence[float]) -> float:
    """Return half of the 95 % interval of a mean of two values or more, by Student's t.

    Of more than ten it is a little too wide.
    """
    return _T[min(len(values) - 2, len(_T) - 1)] * stdev(values) / math.sqrt(len(values))


def mean(values: Sequence[float]) -> Estimate:
    """Return a mean with the interval of the normal approximation."""
    value = fmean(values)
    half = _Z * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return Estimate(value=value, low=value - half, high=value + half, n=len(values))


def middle(values: Sequence[float]) -> Estimate:
    """Return a median with the interval of its order statistics, by the normal approximation."""
    ordered, n = sorted(values), len(values)
    reach = _Z * math.sqrt(n) / 2
    low, high = max(0, math.floor(n / 2 - reach)), min(n - 1, math.ceil(n / 2 + reach))
    return Estimate(value=median(ordered), low=ordered[low], high=ordered[high], n=n)


def warmup(values: Sequence[float]) -> int:
    """Return how many of the first values belong to the warm-up, half of them at most.

    MSER-5 (White 1997): means of five values each; the cut is where the standard error of what is
    left is least. Of fewer than 50 values nobody can tell.
    """
    batches = [
        fmean(values[start : start + _MSER_BATCH])
        for start in range(0, len(values) - _MSER_BATCH + 1, _MSER_BATCH)
    ]
    n = len(batches)
    if n < _BATCHES:
        return 0
    best, cut = math.inf, 0
    total = squares = 0.0
    for start in range(n - 1, -1, -1):
        total += batches[start]
        squares += batches[start] ** 2
        left = n - start
        error = (squares - total * total / left) / (left * left)
        if start <= n // 2 and error <= best:
            best, cut = error, start
    return cut * _MSER_BATCH


def steady(values: Sequence[float]) -> bool:
    """Tell whether a series neither rises nor falls: Mann and Kendall's test of ten means, at 1 %.

    False too for fewer than 20 values, of which nobody can tell.
    """
    size = len(values) // _BATCHES
    if size < 2:  # noqa: PLR2004
        return False
    means = [fmean(values[n * size : (n + 1) * size]) for n in range(_BATCHES)]
    score = sum(
        (later > earlier) - (later < earlier)
        for number, earlier in enumerate(means)
        for later in means[number + 1 :]
    )
    n = _BATCHES
    deviation = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    return abs(score) - 1 <= _TREND_Z * deviation
