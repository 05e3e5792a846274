"""The reports of load tests: shown again, and one against another."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from tasks.command import JSON, command

if TYPE_CHECKING:
    from cloister.report import Comparison, Row


@command(
    a="folder of the report that was before, or its report.json",
    b="folder of the report that is to be judged, or its report.json",
    threshold="percent below which a rate or a time does not differ; of shares it is one point",
    json_=JSON,
)
def compare(_: Context, a: str, b: str, threshold: int = 5, json_: bool = False) -> None:
    """Compare report B with A; ends with 9 when something is worse."""
    from cloister import report
    from cloister.errors import LoadTestError

    before, after = (
        report.Measured(report.load(Path(path)), report.records(Path(path))) for path in (a, b)
    )
    found = report.compare(before, after, threshold / 100)
    _show(found, as_json=json_)
    if found.worse:
        raise LoadTestError(f"{found.worse} of {len(found.rows)} comparisons are worse")


@command(folder="folder of a report, or its report.json")
def show(_: Context, folder: str) -> None:
    """Print a report as Markdown."""
    from cloister import console, report

    console.show(report.markdown(report.load(Path(folder))).rstrip("\n"))


def _show(found: "Comparison", *, as_json: bool) -> None:
    from cloister import console

    if as_json:
        console.dump({**asdict(found), "worse": found.worse})
        return
    for note in found.notes:
        console.say(f"note: {note}")
    columns = ("load", "metric", "A", "B", "difference", "95 % interval", "verdict")
    console.table(columns, [_row(row) for row in found.rows])


def _row(row: "Row") -> tuple[object, ...]:
    from rich.markup import escape

    from cloister.report import formats

    write = formats.percent if row.share else formats.number
    unit = "points" if row.share else "%"
    interval = None if row.low is None else f"{row.low:+z.1f} to {row.high:+z.1f} {unit}"
    difference = None if row.difference is None else f"{row.difference:+z.1f} {unit}"
    load = escape(formats.plain(row.load))
    return (load, row.metric, write(row.a), write(row.b), difference, interval, row.verdict)
