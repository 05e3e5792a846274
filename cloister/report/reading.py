"""Reports and their records, read back from where a load test left them."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from cloister import datafiles
from cloister.errors import LoadTestError
from cloister.loadtest import record
from cloister.loadtest.record import Record
from cloister.loadtest.result import SCHEMA_VERSION, Report, Stage

NAME = "report.json"
_RECORDS = "records.jsonl"
_CLOCK_S = 1e-6  # what seconds since 1970 lose when a window is moved there and back


def load(path: Path) -> Report:
    """Return the report of a folder, or of the file itself.

    Raises LoadTestError when it is not there, or is no report of this version.
    """
    file = _file(path)
    try:
        told = datafiles.load_json(file)
    except FileNotFoundError as error:
        raise LoadTestError(
            f"there is no report at `{file}`", hint="the folder that a load test wrote"
        ) from error
    except OSError as error:
        raise LoadTestError(f"`{file}` cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise LoadTestError(
            f"`{file}` cannot be read: {error}",
            hint="give the report.json of a load test",
        ) from error
    version = told.get("schema_version") if isinstance(told, dict) else None
    if version != SCHEMA_VERSION:
        raise LoadTestError(
            f"`{file}` has schema version {version}, and this program reads {SCHEMA_VERSION}",
            hint="read it with the version of Cloister that made it, or measure again",
        )
    try:
        report = Report.model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise LoadTestError(
            f"`{file}` is not a report: `{place}`: {first['msg']}", hint="measure again"
        ) from error
    if report.best is not None and not 0 <= report.best < len(report.stages):
        raise LoadTestError(
            f"`{file}` is not a report: `best` is {report.best} of {len(report.stages)} stages",
            hint="measure again",
        )
    return report


def records(path: Path) -> tuple[Record, ...]:
    """Return the records beside a report, none where there are none.

    Of a report that was renamed nobody knows whether what lies beside it is its own. Raises
    LoadTestError for a file that holds something else.
    """
    file = _file(path)
    beside = file.with_name(_RECORDS)
    if file.name != NAME or not beside.is_file():
        return ()
    try:
        return tuple(record.read(beside))
    except (OSError, ValueError, TypeError) as error:
        raise LoadTestError(
            f"`{beside}` holds no records of a load test", hint="move it away to do without"
        ) from error


def inside(report: Report, number: int, records: Iterable[Record]) -> list[Record]:
    """Return the good pages that a stage's times are of: those in its window."""
    stage = report.stages[number]
    begin_s, end_s = report.begun_s + stage.begin_s, report.begun_s + stage.end_s
    return [
        record
        for record in records
        if record.stage == number
        and record.fault is None
        and _counts(stage, record, begin_s, end_s)
    ]


def _counts(stage: Stage, record: Record, begin_s: float, end_s: float) -> bool:
    if stage.kind == "closed":
        return begin_s + _CLOCK_S < record.done_s <= end_s + _CLOCK_S
    return begin_s - _CLOCK_S <= record.scheduled_s <= end_s + _CLOCK_S


def _file(path: Path) -> Path:
    return path / NAME if path.is_dir() else path
