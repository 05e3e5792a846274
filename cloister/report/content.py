"""What a report says, in words and tables: HTML and Markdown are two ways to show it; pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cloister.loadtest.result import Report, Slo, Stage
from cloister.report.formats import NONE, milliseconds, number, percent, plain, plus_minus

VERDICTS = {"pass": "met", "fail": "not met", "undecided": "undecided"}
_NUMBER = re.compile(r"[-+±\d](?!.*(?:[^\W\d_]{3}|:))")  # and a unit at most, no address


@dataclass(frozen=True)
class Table:
    """Rows under their headings; the `marked` row is that of the best load.

    `links` are of the rows' last cells, "" for none. A `folded` table is opened by its title.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    marked: int | None = None
    links: tuple[str, ...] = ()
    folded: bool = False

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers, to be aligned at the right."""
        return tuple(
            all(cell in {NONE, ""} or _NUMBER.match(cell) is not None for cell in cells)
            for cells in zip(*self.rows, strict=True)
        ) or (False,) * len(self.columns)


@dataclass(frozen=True)
class Section:
    """A part of the report under its own heading; `name` is also that of its charts."""

    name: str
    title: str
    says: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    command: str = ""
    points: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A key figure: what it is, its value, and what has to be known beside it."""

    label: str
    value: str
    unit: str = ""
    beside: str = ""


def best(report: Report) -> Stage | None:
    """Return the load at which the most good pages a second were read."""
    return None if report.best is None else report.stages[report.best]


def within(report: Report) -> Stage | None:
    """Return the load with the most good pages a second of those that met the SLO."""
    met = [stage for stage in report.stages if stage.verdict == "pass" and not stage.direct]
    return max(met, key=lambda stage: stage.pages_per_s.value, default=None)


def headline(report: Report) -> str:
    """Return the result in one sentence."""
    stage = best(report)
    if stage is None:
        return "No good page was read"
    pages = f"{number(stage.pages_per_s.value)} good pages a second at {plain(stage.name)}"
    return f"{pages}{limited(report.verdict.limit)}"


def limited(limit: str) -> str:
    """Return the end of a sentence on a rate: what limited it."""
    if limit == "unknown":
        return "; what limits it is not known"
    if limit == "nothing":
        return ", and nothing limited it"
    articles = ("client", "gateway", "host CPU", "queue limit")
    return f", limited by {'the ' if limit in articles else ''}{limit}"


def lead(report: Report) -> str:
    """Return what that means for the users, in a sentence; "" when no page was read."""
    stage, kept = best(report), within(report)
    if stage is None:
        return ""
    if stage.verdict == "pass":
        return "The SLO is met there."
    said = f"{percent(stage.attainment.value)} of the pages were within the SLO's times there"
    outcome = (
        "it is not met" if stage.verdict == "fail" else "too few pages to say whether it is met"
    )
    if kept is None:
        return f"{said}: {outcome}, nor surely at any other load."
    rate = number(kept.pages_per_s.value)
    return f"{said}: {outcome}. It is met at {plain(kept.name)}, with {rate} good pages a second."


def subject(report: Report) -> str:
    """Return what was tested, when and where, on one line."""
    parts = (report.model, report.engine, report.machine, report.workload, report.made_at)
    return " · ".join(plain(part) for part in parts)


def warnings(report: Report) -> list[str]:
    """Return what a reader must know before any number: the test's own warnings come first."""
    return [plain(text, 600) for text in report.warnings] + list(_doubts(report))


def key_figures(report: Report) -> list[Figure]:
    """Return the few numbers that most readers come for."""
    stage, kept = best(report), within(report)
    if stage is None:
        return []
    rate = stage.pages_per_s
    faulty = sum(stage.faults.values())
    figures = [
        Figure(
            "Good pages",
            number(rate.value),
            "a second",
            f"{number(rate.low)} to {number(rate.high)}, n = {rate.n}, {plain(stage.name)}",
        ),
        Figure("Within the SLO", NONE, "", "no load surely met it")
        if kept is None
        else Figure(
            "Within the SLO",
            number(kept.pages_per_s.value),
            "pages a second",
            f"the most of the loads that met it, {plain(kept.name)}",
        ),
    ]
    if stage.ttft_s:
        beside = f"p95 {number(stage.ttft_s.p95)} s, n = {stage.ttft_s.n}"
        figures.append(Figure("First text, p50", number(stage.ttft_s.p50), "s", beside))
    if stage.e2e_s:
        beside = f"p95 {number(stage.e2e_s.p95)} s, n = {stage.e2e_s.n}"
        figures.append(Figure("Whole page, p50", number(stage.e2e_s.p50), "s", beside))
    if stage.tpot_s:
        beside = f"{number(stage.output_tokens_per_s)} tokens a second in all"
        figures.append(Figure("Per token, p50", milliseconds(stage.tpot_s.p50), "ms", beside))
    share = percent(faulty / stage.sent if stage.sent else None)
    figures.append(Figure("Faults", share, "", f"{faulty} of {stage.sent} pages"))
    if stage.quality:
        beside = f"facts found {percent(stage.quality.field_recall.value)}"
        cer = percent(stage.quality.cer_median.value)
        figures.append(Figure("Character errors, median", cer, "", beside))
    return figures


def slo(wanted: Slo) -> str:
    """Return what the users may expect, in a sentence."""
    return (
        f"SLO: 95 of 100 pages have their first text within {wanted.ttft_p95_s:g} s and all of it "
        f"within {wanted.e2e_p95_s:g} s; at most {percent(wanted.fault_share)} of the pages fail."
    )


def marks(stage: Stage, late_s: float = 0.010) -> list[str]:
    """Return what weakens a load's numbers; `late_s` is how late a client may send a page."""
    found = list[str]()
    if not stage.steady:
        found.append("not steady")
    if truncated := stage.faults.get("truncated"):
        found.append(f"{truncated} truncated")
    if stage.lateness_s and stage.lateness_s.p95 > late_s:
        found.append(f"client late by {milliseconds(stage.lateness_s.p95)} ms")
    return found


def gateway_line(report: Report) -> str:
    """Return the gateway's part in a sentence."""
    part = report.gateway
    if part is None:
        return "Not measured: no load was also sent past the gateway (--direct)."
    return (
        f"Good pages a second with the gateway are {plus_minus(part.pages_ratio)} times those "
        f"without. The median first text came {milliseconds(part.ttft_added_s)} ms later with it, "
        f"the median whole page {milliseconds(part.e2e_added_s)} ms."
    )


def _doubts(report: Report) -> Iterator[str]:
    """Yield what the numbers themselves say against the result."""
    stage = best(report)
    checked = report.self_check
    if report.verdict.limit == "client" and (checked is None or checked.passed):
        yield "client-limited: the service may read more pages than this client could ask for"
    if checked is None:
        yield "the client was not checked against a server of known timing"
    if stage is None:
        return
    name = plain(stage.name)
    if stage.verdict == "undecided":
        yield f"{name}: {stage.sent} pages are too few to say whether the SLO is met"
    if truncated := stage.faults.get("truncated"):
        yield f"{name}: {truncated} of {stage.sent} pages were truncated at max_tokens"
    if report.knee in {None, stage.name} and _last(report.stages, stage):
        yield f"{name} was the highest load of the ladder: a higher one may bring more"


def _last(stages: Sequence[Stage], stage: Stage) -> bool:
    """Tell whether a rung of a ladder is its highest."""
    rungs = [other for other in stages if other.kind == "closed" and not other.direct]
    return len(rungs) > 1 and stage is rungs[-1]
