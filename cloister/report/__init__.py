"""What load tests and tunings found, for people: HTML, Markdown, one report against another."""

from collections.abc import Sequence
from pathlib import Path

from cloister.cleaning import printable
from cloister.files import write_atomically
from cloister.loadtest.record import Record
from cloister.loadtest.result import Report
from cloister.report.compare import Comparison, Measured, Row, compare
from cloister.report.markdown import render as markdown
from cloister.report.reading import NAME, load, records
from cloister.report.tuning import tuning_markdown, write_tuning

__all__ = [
    "Comparison",
    "Measured",
    "Row",
    "compare",
    "load",
    "markdown",
    "records",
    "tuning_markdown",
    "write",
    "write_tuning",
]


def write(folder: Path, report: Report, records: Sequence[Record]) -> None:
    """Write report.json, report.html and report.md; raises DeploymentError when that fails."""
    from cloister.report import html  # noqa: PLC0415  # matplotlib is the load test's alone

    write_atomically(folder / NAME, report.model_dump_json(indent=2) + "\n")
    write_atomically(folder / "report.md", printable(markdown(report)))
    write_atomically(folder / "report.html", printable(html.render(report, records)))
