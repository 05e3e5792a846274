"""Runs the test suites side by side, and sums up what passed, how long it took and what it cost."""

import argparse
import io
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cloister.errors import DeploymentError
from cloister.files import exclusive
from suites.catalogue import REPORTS, ROOT, SUMMARY, Suite, UnknownTargetError, select
from suites.child import LOCK
from suites.run import ProcessorClock, Run
from suites.strict import is_strict
from suites.summary import SuiteResult, as_json, as_text, last_line, totals

_USAGE, _UNPREPARED, _INTERRUPTED = 2, 10, 130
_UNREAD = 128 + signal.SIGPIPE  # as of a program that ends when nobody reads what it writes
_WAIT_HINT = "hint: wait until it has ended (`pgrep -af suites` shows it), or use another clone"
_FOLDER_HINT = f"hint: make {REPORTS} a folder that you can write, then run this again"
_HINT = "hint: scripts/test.sh tests/unit/test_keys.py, or a part of a test's name"


class _Output:
    """Standard output, until nobody reads it any more."""

    def __init__(self) -> None:
        self.is_lost = sys.stdout is None  # it was closed before the start
        # A log may have what the terminal's encoding lacks.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")

    def print(self, text: str) -> None:
        if self.is_lost:
            return
        try:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        except OSError:  # `| head` has seen enough, or the terminal was closed
            self.is_lost = True
            # What is left in the buffer would fail once more as the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> int:
    """Return 0 when everything passed, or the code that docs/testing.md lists."""
    parser = argparse.ArgumentParser(prog="scripts/test.sh", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--fast", action="store_true", help="lint, types and unit tests only")
    parser.add_argument("--needs", action="store_true", help="print what has to be installed")
    parser.add_argument("--from", type=Path, default=ROOT, dest="folder", help="of relative paths")
    options = parser.parse_args()
    try:
        suites = select(options.targets, fast=options.fast, folder=options.folder)
    except UnknownTargetError as error:
        sys.stderr.write(f"error: {error}\n{_HINT}\n")
        return _USAGE
    output = _Output()
    if options.needs:
        output.print(" ".join(dict.fromkeys(need for suite in suites for need in suite.needs)))
        return 0
    try:
        with exclusive(REPORTS / "lock", wait_s=0):
            with exclusive(REPORTS / LOCK, wait_s=0):
                pass  # no suite is left whose runner was killed
            return _run(suites, output)
    except DeploymentError as error:
        if not isinstance(error.__cause__, BlockingIOError):
            sys.stderr.write(f"error: {error.message}\n{_FOLDER_HINT}\n")
            return _UNPREPARED
        sys.stderr.write(f"error: another run of the tests goes on in {ROOT}\n{_WAIT_HINT}\n")
        return _USAGE


def _run(suites: Sequence[Suite], output: _Output) -> int:
    def say(text: str) -> None:
        output.print(text)
        run.is_interrupted |= output.is_lost

    def interrupt(*_: object) -> None:
        run.is_interrupted = True

    clock, started = ProcessorClock(), time.monotonic()
    run = Run(suites, REPORTS, say)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    results = run.run()
    wall_s, machine = time.monotonic() - started, clock.read()
    summary = as_json(results, wall_s, machine)
    is_written = _write(REPORTS / SUMMARY, json.dumps(summary, indent=1) + "\n", output)
    bad = [result for result in results if not result.is_good]
    if not run.is_interrupted:  # else the table has where the logs are
        for result in bad:
            output.print(f"\n--- {result.log} ---")
            output.print(Path(result.log).read_text(encoding="utf-8", errors="replace"))
    output.print(f"\n{as_text(results, wall_s, machine)}\n")
    _, _, skipped = totals(results)
    has_skipped = is_strict() and skipped > 0
    if has_skipped:
        output.print(f"CI={os.environ['CI']}: {skipped} skipped tests are a failure")
    chosen = {suite.name for suite in suites if suite.arguments}
    unknown = [result for result in bad if result.name in chosen and result.found_nothing]
    output.print(last_line(results, is_interrupted=run.is_interrupted))
    if output.is_lost:
        return _UNREAD
    if run.is_interrupted:
        return _INTERRUPTED
    _explain(unknown)
    if bad and bad == unknown:
        return _USAGE
    return 1 if bad or has_skipped or not is_written else 0


def _write(path: Path, text: str, output: _Output) -> bool:
    """Write a report; return False, having said so, when it cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        output.print(f"error: `{path}` cannot be written: {error.strerror}")
        return False
    return True


def _explain(unknown: Sequence[SuiteResult]) -> None:
    for result in unknown:
        sys.stderr.write(
            f"error: pytest found no test by `{result.shown}`; the log above has its reason\n"
            f"hint: .venv/bin/nox -s {result.name} -- --collect-only -q  # lists those there are\n"
        )


if __name__ == "__main__":
    raise SystemExit(main())
