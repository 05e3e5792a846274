"""One load test against another: what is better, what is worse, what nobody can tell; pure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from statistics import NormalDist
from typing import Literal

from cloister.errors import LoadTestError
from cloister.loadtest import statistics
from cloister.loadtest.record import Record
from cloister.loadtest.result import Estimate, Report, Spread, Stage
from cloister.report.reading import inside

Verdict = Literal["better", "worse", "no difference", "undecided"]
SHARE_THRESHOLD = 0.01
_RESAMPLES = 1000
_LEAST = 20  # pages, of which percentiles are worth resampling


@dataclass(frozen=True)
class Measured:
    """A report, and its records where there are any: times have no interval without."""

    report: Report
    records: Sequence[Record] = ()


@dataclass(frozen=True)
class Row:
    """One metric at one load in both reports.

    `difference` is B - A with its 95 % interval: in percent of A, None if A is 0; for a `share`,
    in percentage points. `low` and `high` are None where no interval is known.
    """

    load: str
    metric: str
    share: bool
    a: float
    b: float
    difference: float | None
    low: float | None
    high: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """All rows, those of the best loads first, and what has to be known beside them."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def worse(self) -> int:
        """How many rows are worse."""
        return sum(row.verdict == "worse" for row in self.rows)


@dataclass(frozen=True)
class _Finding:
    """One metric before it is judged; `interval` is that of B - A, None where none is known."""

    load: str
    metric: str
    a: float
    b: float
    interval: tuple[float, float] | None
    more_is_better: bool = False
    share: bool = False


def compare(a: Measured, b: Measured, threshold: float = 0.05) -> Comparison:
    """Return B against A.

    A difference is worse, or better, when it is more than `threshold`, a share of the larger value
    (for metrics that are shares themselves: more than one percentage point), and surely not 0: for
    all rows together with 95 %, since of many single intervals some always miss. There is no
    difference when the row's own interval lies within the threshold. Anything else is undecided.
    Raises LoadTestError for tests of different pages.
    """
    _require_comparable(a.report, b.report)
    found = list(_findings(a, b))
    wider = _wider(sum(finding.interval is not None for finding in found))
    rows = [_row(finding, threshold, wider) for finding in found]
    if a.report == b.report:  # nothing independent of it is there to be compared with
        rows = [replace(row, low=0.0, high=0.0, verdict="no difference") for row in rows]
    notes = (*_notes(a, b), f"better and worse hold with 95 % for all {len(rows)} rows together")
    return Comparison(tuple(rows), notes)


def _require_comparable(a: Report, b: Report) -> None:
    for what, one, other in (
        ("workload", a.workload, b.workload),
        ("seed", a.seed, b.seed),
        ("number of documents", a.documents, b.documents),
    ):
        if one != other:
            raise LoadTestError(
                f"the {what} differs: {one} in A, {other} in B",
                hint="measure both with the same pages",
            )


def _notes(a: Measured, b: Measured) -> Iterator[str]:
    one, other = a.report, b.report
    for what in ("machine", "engine", "model", "version"):
        if getattr(one, what) != getattr(other, what):
            yield f"the {what} differs: {getattr(one, what)} in A, {getattr(other, what)} in B"
    if one.slo != other.slo:
        yield "the SLO differs: goodput and the share within the SLO are not compared"
    for name, measured in (("A", a), ("B", b)):
        if not measured.report.complete:
            yield f"{name} was interrupted"
        if measured.report.verdict.limit == "client":
            yield f"{name} was limited by its client: it says little of the service"
        if not measured.records:
            yield f"{name} has no records.jsonl: its times have no interval and decide nothing"
    names, others = _names(one), _names(other)
    if lone := [name for name in names if name not in others]:
        yield f"only in A: {', '.join(lone)}"
    if lone := [name for name in others if name not in names]:
        yield f"only in B: {', '.join(lone)}"


def _names(report: Report) -> dict[str, int]:
    """Return the number of each load, the first of a name."""
    names: dict[str, int] = {}
    for number, stage in enumerate(report.stages):
        names.setdefault(stage.name, number)
    return names


def _findings(a: Measured, b: Measured) -> Iterator[_Finding]:
    for load, number_a, number_b in _pairs(a.report, b.report):
        one, other = a.report.stages[number_a], b.report.stages[number_b]
        yield _of(load, "good pages/s", one.pages_per_s, other.pages_per_s, more_is_better=True)
        if one.name != other.name:
            continue  # of two best loads that differ only the most pages say something
        yield from _rates(load, one, other, same_slo=a.report.slo == b.report.slo)
        times_a = _times(inside(a.report, number_a, a.records))
        times_b = _times(inside(b.report, number_b, b.records))
        for metric, spread_a, spread_b in (
            ("TTFT", one.ttft_s, other.ttft_s),
            ("E2E", one.e2e_s, other.e2e_s),
        ):
            if spread_a is not None and spread_b is not None:
                yield from _percentiles(
                    load, metric, (spread_a, spread_b), (times_a[metric], times_b[metric])
                )
        yield from _quality(load, one, other)


def _pairs(a: Report, b: Report) -> Iterator[tuple[str, int, int]]:
    """Yield the loads to be compared: the best ones, then those of the same name."""
    best = a.best, b.best
    if a.best is not None and b.best is not None:
        name, other = a.stages[a.best].name, b.stages[b.best].name
        both = name if name == other else f"{name} (A), {other} (B)"
        yield f"best: {both}", a.best, b.best
    others = _names(b)
    for name, number in _names(a).items():
        if name in others and (number, others[name]) != best:
            yield name, number, others[name]


def _wider(count: int) -> float:
    """Return how many times wider intervals are that hold for so many rows at once (Bonferroni)."""
    normal = NormalDist()
    return normal.inv_cdf(1 - 0.025 / max(1, count)) / normal.inv_cdf(0.975)


def _row(finding: _Finding, threshold: float, wider: float) -> Row:
    a, b = finding.a, finding.b
    least = SHARE_THRESHOLD if finding.share else threshold * max(a, b)
    unit = 1.0 if finding.share else a
    low, high = finding.interval or (None, None)
    return Row(
        load=finding.load,
        metric=finding.metric,
        share=finding.share,
        a=a,
        b=b,
        difference=_percent(b - a, unit),
        low=_percent(low, unit),
        high=_percent(high, unit),
        verdict=_verdict(finding, least, wider),
    )


def _percent(value: float | None, unit: float) -> float | None:
    if value is None or unit == 0 or not math.isfinite(value):
        return None
    return 100 * value / unit


def _verdict(finding: _Finding, least: float, wider: float) -> Verdict:
    if finding.interval is None:
        return "undecided"
    difference = finding.b - finding.a
    low, high = finding.interval
    if -least <= low and high <= least:
        return "no difference"
    # From the difference to that end of the interval which is nearer to 0.
    reach = difference - low if difference > 0 else high - difference
    if abs(difference) <= least or abs(difference) <= wider * reach:
        return "undecided"
    return "better" if (difference > 0) == finding.more_is_better else "worse"


def _interval(a: Estimate, b: Estimate) -> tuple[float, float]:
    """Return the interval of B - A from those of both, which need not lie evenly around them.

    The square-and-add method (Newcombe 1998, method 10; Zou and Donner 2008): for even intervals
    it is the normal approximation.
    """
    difference = b.value - a.value
    down = math.sqrt((b.value - b.low) ** 2 + (a.high - a.value) ** 2)
    up = math.sqrt((b.high - b.value) ** 2 + (a.value - a.low) ** 2)
    return difference - down, difference + up


def _of(
    load: str, metric: str, a: Estimate, b: Estimate, *, more_is_better: bool, share: bool = False
) -> _Finding:
    interval = _interval(a, b)
    return _Finding(load, metric, a.value, b.value, interval, more_is_better, share)


def _rates(load: str, a: Stage, b: Stage, *, same_slo: bool) -> Iterator[_Finding]:
    if same_slo:
        yield _of(load, "goodput/s", a.goodput_per_s, b.goodput_per_s, more_is_better=True)
        met = a.attainment, b.attainment
        yield _of(load, "within the SLO", *met, more_is_better=True, share=True)
    faults = [statistics.wilson(sum(stage.faults.values()), stage.sent) for stage in (a, b)]
    yield _of(load, "faults", *faults, more_is_better=False, share=True)


def _times(records: Sequence[Record]) -> dict[str, list[float]]:
    first = sorted(value for record in records if (value := record.ttft_s) is not None)
    return {"TTFT": first, "E2E": sorted(record.e2e_s for record in records)}


def _percentiles(
    load: str,
    metric: str,
    spreads: tuple[Spread, Spread],
    times: tuple[Sequence[float], Sequence[float]],
) -> Iterator[_Finding]:
    a, b = spreads
    for name, share, values in (("p50", 0.5, (a.p50, b.p50)), ("p95", 0.95, (a.p95, b.p95))):
        yield _Finding(load, f"{metric} {name}, s", *values, _bootstrap(*times, share))


def _bootstrap(a: Sequence[float], b: Sequence[float], share: float) -> tuple[float, float] | None:
    """Return the interval of the difference of a percentile, None for too few values.

    Pages count as independent, which those of one batch are not quite: the interval is a little
    too narrow, and the threshold has to make up for it.
    """
    if min(len(a), len(b)) < _LEAST:
        return None
    pairs = zip(_resampled(a, share), _resampled(b, share), strict=True)
    differences = sorted(other - one for one, other in pairs)
    return (
        statistics.percentile(differences, 0.025),
        statistics.percentile(differences, 0.975),
    )


def _resampled(ordered: Sequence[float], share: float) -> Iterator[float]:
    """Yield a percentile of each resample, without drawing the resample.

    The k-th smallest of n evenly spread numbers has a beta distribution, so the k-th smallest of n
    draws from a list is at that share of it. The values are the seed: another list gives other
    numbers, and A against B the mirror of B against A.
    """
    n = len(ordered)
    rank = min(n, max(1, math.ceil(n * share)))
    random = Random(repr((share, n, sum(ordered))))  # noqa: S311  # repeatable on purpose
    for _ in range(_RESAMPLES):
        yield ordered[min(n - 1, int(n * random.betavariate(rank, n + 1 - rank)))]


def _quality(load: str, a: Stage, b: Stage) -> Iterator[_Finding]:
    if a.quality is None or b.quality is None:
        return
    cer = a.quality.cer_median, b.quality.cer_median
    yield _of(load, "CER, median", *cer, more_is_better=False, share=True)
    recall = a.quality.field_recall, b.quality.field_recall
    yield _of(load, "facts found", *recall, more_is_better=True, share=True)
