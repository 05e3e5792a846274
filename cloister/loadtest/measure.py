"""From the records of one load to what it says of the service: pure."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from cloister.loadtest import statistics
from cloister.loadtest.record import Record
from cloister.loadtest.result import Estimate, Quality, Slo, Spread, Stage
from cloister.loadtest.shapes import Load

_TIMES_SHARE = 0.95  # what `_p95_s` in the SLO's keys says
_LEAST = 2  # pages that a standard deviation needs
_INSTANT_S = 1e-9  # a window of nothing divides nothing
Met = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True)
class _Window:
    """The part of a load that counts: pages that `ended` in it, and those that were `due` in it.

    In closed loop both are those that ended.
    """

    begin_s: float
    end_s: float
    ended: list[Record]
    due: list[Record]

    @property
    def good(self) -> list[Record]:
        return [record for record in self.due if record.fault is None]

    @property
    def read(self) -> list[Record]:
        return [record for record in self.ended if record.fault is None]

    def rate(self, records: Iterable[Record]) -> Estimate:
        return statistics.rate([record.done_s for record in records], self.begin_s, self.end_s)


def stage(
    load: Load,
    records: Sequence[Record],
    *,
    slo: Slo,
    origin_s: float,
    begun_s: float,
    over_s: float,
) -> Stage:
    """Return what a load's records say.

    `origin_s` is the test's begin, `begun_s` and `over_s` are the load's, in seconds since 1970.
    Rates are of pages that ended in the window. Times, faults and shares are of the same pages in
    closed loop; in open loop of those that were due in it, whenever they ended.
    """
    window = _window(load, records, begun_s, over_s)
    good, met = window.good, [record for record in window.good if _meets(record, slo)]
    return Stage(
        name=load.name,
        kind="closed" if load.closed else "open",
        users=load.users,
        rate=load.rate,
        direct=load.direct,
        begin_s=window.begin_s - origin_s,
        end_s=window.end_s - origin_s,
        warmup_s=window.begin_s - begun_s,
        steady=statistics.steady([record.e2e_s for record in window.due]),
        sent=len(window.due),
        good=len(good),
        faults=dict(Counter(record.fault for record in window.due if record.fault)),
        pages_per_s=window.rate(window.read),
        goodput_per_s=window.rate(record for record in window.read if _meets(record, slo)),
        attainment=statistics.wilson(len(met), len(window.due)),
        verdict=_verdict(window.due, met, slo),
        quality=_quality(good),
        by_kind=_by_kind(good),
        by_replica=dict(Counter(record.replica for record in window.due if record.replica)),
        **_times(window, closed=load.closed),
        **_flow(load, records, window),
    )


def _window(load: Load, records: Sequence[Record], begun_s: float, over_s: float) -> _Window:
    ordered = sorted(records, key=lambda record: record.done_s)
    if load.closed:  # later ones met a load that was ending
        ordered = [record for record in ordered if record.done_s <= over_s]
    cut = statistics.warmup([record.e2e_s for record in ordered])
    if load.users:  # all clients began at once, which none does later
        cut = min(max(cut, load.users), len(ordered) // 2)
    last = ordered[cut - 1] if cut else None  # of the warm-up
    if load.closed:
        begin_s, end_s = last.done_s if last else begun_s, over_s
    else:
        begin_s, end_s = last.scheduled_s if last else begun_s, begun_s + load.seconds
    ended = [record for record in ordered if begin_s < record.done_s <= end_s]
    if load.closed:
        return _Window(begin_s, end_s, ended, ended)
    due = [record for record in ordered if begin_s <= record.scheduled_s <= end_s]
    return _Window(begin_s, end_s, ended, due)


def _times(window: _Window, *, closed: bool) -> dict[str, Any]:
    good = window.good
    return {
        "ttft_s": _spread(good, lambda record: record.ttft_s),
        "tpot_s": _spread(good, lambda record: record.tpot_s),
        "e2e_s": _spread(good, lambda record: record.e2e_s),
        "lateness_s": None if closed else _spread(window.due, lambda record: record.late_s),
    }


def _flow(load: Load, records: Sequence[Record], window: _Window) -> dict[str, Any]:
    seconds = max(window.end_s - window.begin_s, _INSTANT_S)
    in_flight = _in_flight(records, window)
    return {
        "in_flight": in_flight,
        "little_gap": _little(load.users, in_flight, window),
        "prompt_tokens_per_s": sum(one.prompt_tokens or 0 for one in window.read) / seconds,
        "output_tokens_per_s": sum(one.completion_tokens or 0 for one in window.read) / seconds,
    }


def _meets(record: Record, slo: Slo) -> bool:
    in_time = record.ttft_s is None or record.ttft_s <= slo.ttft_p95_s  # a blank page has no text
    return in_time and record.e2e_s <= slo.e2e_p95_s


def _verdict(inside: Sequence[Record], met: Sequence[Record], slo: Slo) -> Met:
    """Return whether the SLO is met, as far as so many pages can tell."""
    faulty = sum(record.fault is not None for record in inside)
    answered = statistics.wilson(len(met), len(inside) - faulty)
    lost = statistics.wilson(faulty, len(inside))
    if answered.high < _TIMES_SHARE or lost.low > slo.fault_share:
        return "fail"
    # No page failed, and too few to exclude a share of failures: the times decide.
    if answered.low >= _TIMES_SHARE and (lost.high <= slo.fault_share or faulty == 0):
        return "pass"
    return "undecided"


def _spread(records: Sequence[Record], of: Callable[[Record], float | None]) -> Spread | None:
    return statistics.spread([value for record in records if (value := of(record)) is not None])


def _in_flight(records: Sequence[Record], window: _Window) -> float:
    """Return how many pages were under way on average: the time that they spent in the window."""
    spent = sum(
        max(0.0, min(record.done_s, window.end_s) - max(record.sent_s, window.begin_s))
        for record in records
    )
    return spent / max(window.end_s - window.begin_s, _INSTANT_S)


def _little(users: int | None, in_flight: float, window: _Window) -> float:
    """Return |N - X R| / N (Little 1961): what of the clients' time the records do not explain."""
    n = float(users) if users else in_flight
    if not window.ended or n == 0:
        return 1.0
    rate = window.rate(window.ended).value
    return abs(n - rate * fmean(one.end_s + one.pause_s for one in window.ended)) / n


def _quality(good: Sequence[Record]) -> Quality | None:
    rates = [record.cer for record in good if record.cer is not None]
    found = [record.fields for record in good if record.fields is not None and record.facts]
    if len(rates) < _LEAST or len(found) < _LEAST:
        return None
    return Quality(
        cer_median=statistics.middle(rates),
        cer_p95=statistics.percentile(sorted(rates), 0.95),
        field_recall=statistics.mean(found),
    )


def _by_kind(good: Sequence[Record]) -> dict[str, Spread]:
    times = defaultdict[str, list[float]](list)
    for record in good:
        times[record.kind].append(record.e2e_s)
    return {kind: found for kind in sorted(times) if (found := statistics.spread(times[kind]))}
