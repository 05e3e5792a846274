"""What came of a run, as text for people and as JSON for scripts; pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from suites.catalogue import TOTAL_BUDGET_MIN

SLOWEST = 10
_FOUND_NOTHING = (4, 5)  # pytest's codes for a wrong command line and for no tests


@dataclass
class SuiteResult:
    """One suite, while it runs and afterwards; times in seconds."""

    name: str
    shown: str
    log: str
    budget_s: float
    has_tests: bool = False
    collected: int = 0
    # The outcome and the message of each test, and of each file that is skipped or no Python.
    outcomes: dict[str, tuple[str, str]] = field(default_factory=dict)
    # What failed and is no test, such as a worker of pytest-xdist; with the message.
    errors: list[tuple[str, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    code: int | None = None
    wall_s: float = 0.0
    processor_s: float = 0.0
    left: list[str] = field(default_factory=list)
    # Of pytest, whose own code nox does not pass on.
    pytest_code: int | None = None
    is_interrupted: bool = False

    def take(self, event: dict[str, object]) -> None:
        """Add one event of the plugin in progress.py, or of what tests count."""
        match event:
            case {"event": "collected", "tests": int(tests)}:
                self.collected += tests
            case {"event": "ended", "code": int(code)}:
                self.pytest_code = code
            case {"event": "starts", "what": str(what), "count": int(count)}:
                self.starts[what] = self.starts.get(what, 0) + count
            case {"event": "error", "what": str(what), "message": str(message)}:
                self.errors.append((what, message))
            case {
                "event": "test",
                "id": str(test),
                "outcome": str(outcome),
                "seconds": float(seconds),
                "message": str(message),
            }:
                self.seconds[test] = self.seconds.get(test, 0.0) + seconds
                # A test whose worker died has failed, though it may pass in the next worker.
                if self.outcomes.get(test, ("",))[0] != "failed":
                    self.outcomes[test] = (outcome, message)
            case _:
                raise ValueError(f"not an event of a suite: {event}")

    @property
    def passed(self) -> int:
        """Return how many tests passed."""
        return len(self._with("passed"))

    @property
    def failed(self) -> list[tuple[str, str]]:
        """Return the tests that failed, each with its message."""
        return self._with("failed")

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Return the tests that were skipped, each with its reason."""
        return self._with("skipped")

    def _with(self, kind: str) -> list[tuple[str, str]]:
        return [(test, text) for test, (outcome, text) in self.outcomes.items() if outcome == kind]

    @property
    def done(self) -> int:
        """Return how many tests have an outcome; files are named without `::`."""
        return sum("::" in test for test in self.outcomes)

    @property
    def missing(self) -> int:
        """Return how many tests have no outcome; where there must be tests, at least one."""
        return self.collected - self.done if self.collected or not self.has_tests else 1

    @property
    def is_good(self) -> bool:
        """Return whether the session ended well, and every test that was collected has run."""
        return self.code == 0 and not (self.failed or self.errors or self.missing)

    @property
    def verdict(self) -> str:
        """Return what came of it, in a word or four."""
        if self.is_good:
            return "passed"
        return "interrupted" if self.is_interrupted else f"FAILED with code {self.code}"

    @property
    def found_nothing(self) -> bool:
        """Return whether pytest knew no such test, or found none in what it was given."""
        return self.pytest_code in _FOUND_NOTHING and not (self.collected or self.seconds)


@dataclass(frozen=True)
class Machine:
    """Processor time of the whole machine over the run, in seconds, from /proc/stat."""

    cores: int
    busy_s: float
    waiting_s: float


def minutes(seconds: float) -> str:
    """Return `M:SS`."""
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02}"


def as_text(results: Sequence[SuiteResult], wall_s: float, machine: Machine | None) -> str:
    """Return the table, the slowest tests, failures and what was over its budget."""
    row = "{:<10} {:>7} {:>7} {:>8} {:>8} {:>10} {:>8}".format
    lines = [row("suite", "passed", "failed", "skipped", "wall", "processor", "budget")]
    for result in results:
        verdict = "" if result.is_good else f"  {result.verdict}, log: {result.log}"
        counts: tuple[object, ...] = ("-", "-", "-")
        if result.collected or result.seconds:
            counts = (result.passed, len(result.failed), len(result.skipped))
        times = (result.wall_s, result.processor_s, result.budget_s)
        lines.append(row(result.name, *counts, *map(minutes, times)) + verdict)
    lines.append(row("all", *totals(results), minutes(wall_s), *_processor(results, machine)))
    if machine:
        lines.append(
            f"machine: {machine.cores} cores, {minutes(machine.busy_s)} min busy, "
            f"{minutes(machine.waiting_s)} min idle"
        )
    slowest = sorted(
        ((seconds, test) for result in results for test, seconds in result.seconds.items()),
        reverse=True,
    )[:SLOWEST]
    if slowest:
        lines += ["", f"slowest {len(slowest)} tests, setup and teardown included:"]
        lines += [f"{seconds:8.1f} s  {test}" for seconds, test in slowest]
    for result in results:
        lines += [f"failed: {test}: {_first_line(text)}" for test, text in result.failed]
        lines += [f"failed: {what}: {_first_line(text)}" for what, text in result.errors]
        if result.missing and result.code is not None and not result.is_interrupted:
            some = f"{result.done} of {result.collected} tests have an outcome"
            lines.append(f"failed: {result.name}: {some if result.collected else 'no tests ran'}")
        lines += [f"skipped: {test}: {_first_line(text)}" for test, text in result.skipped]
        lines += [f"still running after {result.name}, ended: {line}" for line in result.left]
        if result.wall_s > result.budget_s and not result.is_interrupted:
            lines.append(
                f"over budget: {result.name} took {minutes(result.wall_s)} of "
                f"{minutes(result.budget_s)} min; move counts to `.venv/bin/nox -s soak` "
                "(tests/repetitions.py), or raise the budget with a reason"
            )
    if wall_s > TOTAL_BUDGET_MIN * 60 and not any(one.is_interrupted for one in results):
        lines.append(f"over budget: the run took {minutes(wall_s)} of {TOTAL_BUDGET_MIN}:00 min")
    return "\n".join(lines)


def _processor(results: Sequence[SuiteResult], machine: Machine | None) -> tuple[str, str]:
    spent = machine.busy_s if machine else sum(result.processor_s for result in results)
    return minutes(spent), minutes(TOTAL_BUDGET_MIN * 60)


def last_line(results: Sequence[SuiteResult], *, is_interrupted: bool) -> str:
    """Return the counts, and the suites that failed or were interrupted."""
    passed, failed, skipped = totals(results)
    line = f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")
    bad = [result for result in results if not result.is_good]
    if ended := [result.name for result in bad if not result.is_interrupted]:
        line += f"; failed suites: {', '.join(ended)}"
    if is_interrupted:
        cut = [result.name for result in bad if result.is_interrupted]
        line += f"; interrupted: {', '.join(cut)}" if cut else "; interrupted"
    return line


def totals(results: Sequence[SuiteResult]) -> tuple[int, int, int]:
    """Return how many tests passed, failed and were skipped."""
    return (
        sum(result.passed for result in results),
        sum(len(result.failed) for result in results),
        sum(len(result.skipped) for result in results),
    )


def as_json(
    results: Sequence[SuiteResult], wall_s: float, machine: Machine | None
) -> dict[str, object]:
    """Return all that is known, for scripts; times in seconds."""
    return {
        "schema": 1,
        "wall_s": round(wall_s, 1),
        "machine": None if machine is None else vars(machine),
        "suites": [
            {
                "name": result.name,
                "command": result.shown,
                "code": result.code,
                "collected": result.collected,
                "passed": result.passed,
                "failed": [test for test, _ in result.failed],
                "errors": [f"{what}: {text}" for what, text in result.errors],
                "skipped": dict(result.skipped),
                "wall_s": round(result.wall_s, 1),
                "processor_s": round(result.processor_s, 1),
                "budget_s": result.budget_s,
                "starts": result.starts,
                "left": result.left,
                "tests_s": {test: round(seconds, 2) for test, seconds in result.seconds.items()},
            }
            for result in results
        ],
    }


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")[:200]
