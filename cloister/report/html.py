"""A report as one HTML page that needs nothing but itself."""

import functools
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cloister.loadtest.record import Record
from cloister.loadtest.result import Report
from cloister.report import charts, content
from cloister.report.formats import plain
from cloister.report.reading import inside
from cloister.report.sections import faults, sections


def render(report: Report, records: Sequence[Record]) -> str:
    """Return the page; without records it has no distributions."""
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            version=report.version,
            headline=content.headline(report),
            lead=content.lead(report),
            subject=content.subject(report),
            warnings=content.warnings(report),
            evidence=[plain(reason) for reason in report.verdict.evidence],
            figures=content.key_figures(report),
            sections=sections(report),
            charts=_charts(report, records),
        )
    )


@functools.cache
def environment() -> Environment:
    """Return the templates. Names, URLs, faults and logs are other people's words."""
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
    )


def _charts(report: Report, records: Sequence[Record]) -> dict[str, list[Markup]]:
    """Return the charts of each section that has some; matplotlib escapes their texts."""
    slo = report.slo
    good = [] if report.best is None else inside(report, report.best, records)
    first = [value for record in good if (value := record.ttft_s) is not None]
    drawn = {
        "loads": [charts.curve(report.stages, report.best, slo.e2e_p95_s)],
        "times": [
            charts.distribution(first, "TTFT", slo.ttft_p95_s),
            charts.distribution([record.e2e_s for record in good], "E2E", slo.e2e_p95_s),
        ],
        "line": [charts.time_line(report.samples, report.stages)],
        "faults": [charts.faults(faults(report))],
    }
    return {
        name: [Markup(chart) for chart in some if chart]  # noqa: S704  # ours, see above
        for name, some in drawn.items()
    }
