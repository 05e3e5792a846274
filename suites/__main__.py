"""Runs the test suites side by side, and sums up what passed, how long it took and what it cost."""

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from suites.catalogue import REPORTS, ROOT, SUMMARY, UnknownTargetError, select
from suites.run import ProcessorClock, Run
from suites.strict import is_strict
from suites.summary import as_json, as_text, totals

_USAGE, _INTERRUPTED = 2, 130
_WAIT_HINT = "hint: wait until it has ended, or run these tests in another clone"
_HINT = "hint: scripts/test.sh tests/unit/test_keys.py, or a part of a test's name"


def _print(text: str) -> None:
    with suppress(OSError):  # a terminal that was closed; the suites are still to be ended
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def _write(path: Path, text: str) -> bool:
    """Write a report; return False, having said so, when it cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        _print(f"error: `{path}` cannot be written: {error.strerror}")
        return False
    return True


def main() -> int:
    """Return 0 when everything passed, 1 when anything failed, 2 for a wrong command line."""
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
    if options.needs:
        _print(" ".join(dict.fromkeys(need for suite in suites for need in suite.needs)))
        return 0
    REPORTS.mkdir(parents=True, exist_ok=True)
    lock = (REPORTS / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(f"error: another run of the tests goes on in {ROOT}\n{_WAIT_HINT}\n")
        return _USAGE
    clock, started = ProcessorClock(), time.monotonic()
    run = Run(suites, REPORTS, _print)

    def interrupt(*_: object) -> None:
        run.is_interrupted = True

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    results = run.run()
    wall_s, machine = time.monotonic() - started, clock.read()
    summary = as_json(results, wall_s, machine)
    is_written = _write(REPORTS / SUMMARY, json.dumps(summary, indent=1) + "\n")
    for result in results:
        if not result.is_good:
            _print(f"\n--- {result.log} ---")
            _print(Path(result.log).read_text(encoding="utf-8", errors="replace"))
    _print(f"\n{as_text(results, wall_s, machine)}\n")
    passed, failed, skipped = totals(results)
    has_skipped = is_strict() and skipped > 0
    if has_skipped:
        _print(f"CI={os.environ['CI']}: {skipped} skipped tests are a failure")
    bad = [result.name for result in results if not result.is_good]
    _print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    if run.is_interrupted:
        return _INTERRUPTED
    return 1 if bad or has_skipped or not is_written else 0


if __name__ == "__main__":
    raise SystemExit(main())
