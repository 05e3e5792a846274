"""The sections of a report, each with its words and tables; pure."""

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from cloister.loadtest.result import Report, Sample, Spread, Stage
from cloister.report import content, formulas
from cloister.report.content import Section, Table
from cloister.report.formats import (
    between,
    milliseconds,
    number,
    percent,
    plain,
    plus_minus,
)

_Of = Callable[[Sample], float | None]
# What is drawn and told of the machine and the engines: heading, value, how it is written.
SERIES: tuple[tuple[str, _Of, Callable[[float | None], str]], ...] = (
    ("running", lambda sample: sample.running, number),
    ("waiting", lambda sample: sample.waiting, number),
    ("KV cache used", lambda sample: sample.kv_use, percent),
    ("GPU busy", lambda sample: sample.gpu_busy, percent),
    ("GPU memory", lambda sample: sample.gpu_memory, percent),
    ("host CPU", lambda sample: sample.host_cpu, percent),
    ("client, of a core", lambda sample: sample.client_cpu, percent),
    ("gateway, of a core", lambda sample: sample.gateway_cpu, percent),
)


def sections(report: Report) -> tuple[Section, ...]:
    """Return the whole report below its headline, warnings and key figures."""
    return (
        _loads(report),
        _times(report),
        _time_line(report),
        _faults(report),
        _quality(report),
        Section("gateway", "The gateway's share", (content.gateway_line(report),)),
        _caches(report),
        _self_check(report),
        Section("formulas", "How it was computed", tables=(formulas.table(report),)),
        _repeat(report),
    )


def _loads(report: Report) -> Section:
    columns = (
        *("#", "load", "sent", "good", "faults", "good pages/s", "goodput/s", "SLO", "within it"),
        *("TTFT p50, s", "TTFT p95, s", "TPOT p50, ms", "E2E p50, s", "E2E p95, s"),
        *("steady", "Little gap", "marks"),
    )
    rows = tuple(
        _load(str(place), stage, best=place - 1 == report.best)
        for place, stage in enumerate(report.stages, 1)
    )
    says = [content.slo(report.slo)]
    if report.knee:
        says.append(f"The knee is at {plain(report.knee)}: more clients bring hardly more pages.")
    elif report.shape == "ladder":
        says.append("No knee was found among these loads.")
    return Section(
        "loads",
        "Throughput and latency",
        tuple(says),
        (Table(columns, rows, marked=report.best),),
    )


def _load(place: str, stage: Stage, *, best: bool) -> tuple[str, ...]:
    ttft, tpot, e2e = stage.ttft_s, stage.tpot_s, stage.e2e_s
    return (
        place,
        plain(stage.name, 60),
        str(stage.sent),
        str(stage.good),
        str(sum(stage.faults.values())),
        plus_minus(stage.pages_per_s),
        plus_minus(stage.goodput_per_s),
        content.VERDICTS[stage.verdict],
        percent(stage.attainment.value),
        number(ttft.p50 if ttft else None),
        number(ttft.p95 if ttft else None),
        milliseconds(tpot.p50 if tpot else None),
        number(e2e.p50 if e2e else None),
        number(e2e.p95 if e2e else None),
        "yes" if stage.steady else "no",
        percent(stage.little_gap),
        ", ".join((["best"] if best else []) + content.marks(stage)),
    )


def _times(report: Report) -> Section:
    stage = content.best(report)
    if stage is None:
        return Section("times", "How times are spread", ("No good page was read.",))
    named = (
        ("TTFT, s", stage.ttft_s, 1),
        ("TPOT, ms", stage.tpot_s, 1000),
        ("E2E, s", stage.e2e_s, 1),
        ("sent late by, ms", stage.lateness_s, 1000),
    )
    all_ = tuple((name, *_spread(of, factor)) for name, of, factor in named if of is not None)
    kinds = tuple((plain(kind, 40), *_spread(of)) for kind, of in stage.by_kind.items())
    return Section(
        "times",
        "How times are spread",
        (f"The good pages of the best load, {plain(stage.name)}, without its warm-up.",),
        (
            _spreads("", "time", all_),
            _spreads("E2E in seconds, by kind of page", "page", kinds),
            *_replicas(stage),
        ),
    )


def _replicas(stage: Stage) -> Iterator[Table]:
    """Yield how pages were shared out, where there is more than one to share."""
    if len(stage.by_replica) > 1:
        rows = tuple(
            (plain(name, 60), str(count), percent(count / stage.sent))
            for name, count in sorted(stage.by_replica.items())
        )
        yield Table(("replica", "pages", "of all"), rows, "Pages by replica")


def _spreads(title: str, first: str, rows: tuple[tuple[str, ...], ...]) -> Table:
    return Table((first, "n", "mean", "p50", "p90", "p95", "p99", "max"), rows, title)


def _spread(of: Spread, factor: float = 1) -> tuple[str, ...]:
    values = (of.mean, of.p50, of.p90, of.p95, of.p99, of.max)
    return (str(of.n), *(number(value * factor) for value in values))


def _time_line(report: Report) -> Section:
    measured = [
        (name, of, shown)
        for name, of, shown in SERIES
        if any(of(sample) is not None for sample in report.samples)
    ]
    rows = tuple(
        (
            str(place),
            f"{stage.begin_s:.0f} to {stage.end_s:.0f}",
            number(stage.warmup_s, 0),
            number(stage.in_flight),
            *(shown(_mean(report.samples, stage, of)) for _, of, shown in measured),
        )
        for place, stage in enumerate(report.stages, 1)
    )
    columns = ("#", "window, s", "warm-up, s", "in flight", *(name for name, _, _ in measured))
    words = (
        "Means over the window of each load, numbered as above. What is hatched in the chart is "
        "warm-up, of which nothing counts."
    )
    return Section("line", "Time line", (words,), (Table(columns, rows, marked=report.best),))


def _mean(samples: Sequence[Sample], stage: Stage, of: _Of) -> float | None:
    values = [
        value
        for sample in samples
        if stage.begin_s <= sample.at_s <= stage.end_s and (value := of(sample)) is not None
    ]
    return fmean(values) if values else None


def faults(report: Report) -> dict[str, int]:
    """Return how many pages were worthless, by kind and over all loads, the most frequent first."""
    counts: dict[str, int] = {}
    for stage in report.stages:
        for kind, count in stage.faults.items():
            counts[kind] = counts.get(kind, 0) + count
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _faults(report: Report) -> Section:
    counts, sent = faults(report), sum(stage.sent for stage in report.stages)
    if not counts:
        return Section("faults", "Faults", (f"None of {sent} pages.",))
    rows = tuple(
        (
            plain(kind, 60),
            str(count),
            percent(count / sent),
            ", ".join(
                f"{stage.faults[kind]} at {plain(stage.name, 60)}"
                for stage in report.stages
                if kind in stage.faults
            ),
        )
        for kind, count in counts.items()
    )
    words = f"{sum(counts.values())} of {sent} pages were worthless; their times count nowhere."
    columns = ("fault", "pages", "of all", "where")
    return Section("faults", "Faults", (words,), (Table(columns, rows),))


def _quality(report: Report) -> Section:
    rows = tuple(
        (
            plain(stage.name, 60),
            str(stage.quality.cer_median.n),
            between(stage.quality.cer_median),
            percent(stage.quality.cer_p95),
            between(stage.quality.field_recall, most=1),
        )
        for stage in report.stages
        if stage.quality is not None
    )
    if not rows:
        return Section(
            "quality", "Quality", ("Not measured: no page had a truth to compare with.",)
        )
    columns = ("load", "pages", "CER, median (95 %)", "CER, p95", "facts found (95 %)")
    words = "A service that reads faster by reading worse would show here."
    return Section("quality", "Quality", (words,), (Table(columns, rows),))


def _caches(report: Report) -> Section:
    cache = report.cache
    rows = tuple(
        (name, number(hits, 0), number(asked, 0), percent(hits / asked if asked else None))
        for name, hits, asked in (
            ("prefix, tokens", cache.prefix_hit_tokens, cache.prefix_queried_tokens),
            ("images", cache.image_hits, cache.image_queries),
        )
        if hits is not None and asked is not None
    )
    words = (
        "No cache of the engine answered for a page: each was read anew."
        if cache.defeated
        else "Caches answered for pages: this throughput is not that of new pages."
    )
    if not rows:
        return Section("caches", "Caches", ("The engine counts no hits; each page sent differs.",))
    return Section("caches", "Caches", (words,), (Table(("cache", "hits", "asked", ""), rows),))


def _self_check(report: Report) -> Section:
    check = report.self_check
    if check is None:
        return Section("check", "The client itself", ("Not checked.",))
    rows = (
        ("pages", str(check.sent)),
        ("TTFT measured minus true, p50", f"{milliseconds(check.ttft_error_p50_s)} ms"),
        ("TTFT measured minus true, p95", f"{milliseconds(check.ttft_error_p95_s)} ms"),
        ("sent late by, p95", f"{milliseconds(check.lateness_p95_s)} ms"),
        ("its busiest process, of a core", percent(check.cpu)),
    )
    outcome = "passed" if check.passed else "FAILED"
    words = f"Against a server of known timing, at {plain(check.load)}: {outcome}."
    why = (f"{plain(check.why)}",) if check.why else ()
    return Section("check", "The client itself", (words, *why), (Table(("", ""), rows),))


def _repeat(report: Report) -> Section:
    rows = (
        ("workload", f"{plain(report.workload)}, {report.documents} pages, seed {report.seed}"),
        ("shape", plain(report.shape)),
        ("service", f"{plain(report.url)} ({plain(report.engine)}, {plain(report.model)})"),
        ("machine", plain(report.machine)),
        ("made", f"{plain(report.made_at)} by Cloister {plain(report.version)}"),
        ("schema", f"report.json, version {report.schema_version}"),
    )
    return Section(
        "repeat", "How to repeat it", tables=(Table(("", ""), rows),), command=plain(report.command)
    )
