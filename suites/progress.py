"""A pytest plugin that records each test's outcome as an event of events.py.

`{"event": "collected", "tests": N}` comes once, `{"event": "ended", "code": N}` with pytest's exit
code last, and between them for each test
`{"event": "test", "id": ..., "outcome": "passed|failed|skipped", "seconds": S, "message": ...}`,
where S is the wall time of setup, call and teardown together. A test whose worker died is reported
twice where it runs again. `{"event": "error", "what": ..., "message": ...}` reports a worker that
died. The message of what has no exception, such as a file that is no Python, is the last line that
pytest marks with E in its report.
"""

import os
from typing import Any

import pytest

from suites.events import EVENTS, append_to


class _Recorder:
    """Adds up the phases of each test."""

    def __init__(self) -> None:
        # As the run began: a test may change the variable.
        self._path = os.environ.get(EVENTS)
        self._phases: dict[str, list[pytest.TestReport]] = {}
        self._collected = 0
        self._uncollected: set[str] = set()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if session.items:
            self._append(event="collected", tests=len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        if not self._collected:  # every worker collects the same tests
            self._collected = len(ids)
            self._append(event="collected", tests=len(ids))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        if error:  # its test, if it had one, is reported too
            self._append(event="error", what=f"worker {node.gateway.id}", message=str(error))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        phases = self._phases.setdefault(report.nodeid, [])
        phases.append(report)
        # "???" is what xdist says of a test whose worker died.
        if report.when not in {"setup", "call"}:
            self._write(report.nodeid, self._phases.pop(report.nodeid))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        # A file that skips itself has no tests to tell of it.
        if (report.failed or report.skipped) and report.nodeid not in self._uncollected:
            self._uncollected.add(report.nodeid)  # each of xdist's workers may report it
            self._write(report.nodeid, [report])

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self._append(event="ended", code=int(exitstatus))

    def _append(self, **event: object) -> None:
        append_to(self._path, **event)

    def _write(self, identity: str, phases: list[Any]) -> None:
        failed = [phase for phase in phases if phase.failed]
        skipped = [phase for phase in phases if phase.skipped]
        outcome = "failed" if failed else "skipped" if skipped else "passed"
        seconds = float(sum(getattr(phase, "duration", 0.0) for phase in phases))
        message = ""
        if failed:
            crash = getattr(failed[0].longrepr, "reprcrash", None)
            message = crash.message if crash else _error_line(str(failed[0].longrepr))
        elif skipped and isinstance(skipped[0].longrepr, tuple):
            message = str(skipped[0].longrepr[2])
        self._append(event="test", id=identity, outcome=outcome, seconds=seconds, message=message)


def _error_line(report: str) -> str:
    """Return the line that says what is wrong, or the report as it is where none is marked."""
    marked = [line[2:].strip() for line in report.splitlines() if line.startswith("E ")]
    return marked[-1] if marked else report


def pytest_configure(config: pytest.Config) -> None:
    """Record in the process that controls the others, not in xdist's workers."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Recorder(), "cloister-progress")
