"""The suites: what each needs, how it is started, and its budget."""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "reports" / "tests"
SUMMARY = "summary.json"
PYTEST_SUITES = ("unit", "stack", "docker", "clients")


@dataclass(frozen=True)
class Suite:
    """One nox session as the runner starts it.

    `lane` orders suites: those of one lane run one after the other, lanes run side by side.
    `budget_min` is wall time in minutes on 2 cores with every other suite running. A suite in which
    no test ends for `silence_min` is hung; one setup may build images or start vLLM. `nice` is
    added to the niceness of the run: the suite that takes longest gets the processors first.
    """

    name: str
    lane: str
    budget_min: float
    needs: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    nice: int = 0
    silence_min: float = 15

    @property
    def has_tests(self) -> bool:
        """Return whether pytest runs it."""
        return self.name in PYTEST_SUITES

    @property
    def command(self) -> tuple[str, ...]:
        """Return the arguments for nox."""
        posargs = ("--", *self.arguments) if self.arguments else ()
        return ("--session", self.name, "--error-on-missing-interpreters", *posargs)

    @property
    def shown(self) -> str:
        """Return the command as a person types it."""
        return shlex.join(
            ("nox", "-s", self.name, *(("--", *self.arguments) * bool(self.arguments)))
        )


# The lane with the longest wait begins first; the small suites share one lane.
SUITES = (
    Suite("docker", "docker", 23, ("nginx", "docker", "registry", "skopeo"), silence_min=60),
    Suite("stack", "stack", 20, ("nginx",), nice=3),
    Suite("lint", "small", 1, nice=5),
    Suite("types", "small", 3, nice=5),
    Suite("workflows", "small", 1, nice=5),
    Suite("unit", "small", 6, nice=5),
    Suite("clients", "small", 6, ("nginx", "client_tools"), nice=5),
)
FAST = ("lint", "types", "unit")
TOTAL_BUDGET_MIN = 25


class UnknownTargetError(Exception):
    """A word that is neither a suite, a path below tests/, nor in the name of a test."""


def select(targets: Iterable[str], *, fast: bool = False) -> tuple[Suite, ...]:
    """Return the suites that `targets` name, each with the pytest arguments for just those tests.

    A target is a suite's name, `tests` or a path below it (pytest's `::` included), or a part of a
    test's name. Without targets: all suites, or the fast ones. Raises UnknownTargetError.
    """
    targets = tuple(targets)
    if fast and targets:
        raise UnknownTargetError("`--fast` names its suites itself, and takes no other target")
    arguments: dict[str, list[str]] = {}
    whole: set[str] = set()
    for target in targets:
        for name, tests in _resolve(target).items():
            arguments.setdefault(name, []).extend(tests)
            if not tests:
                whole.add(name)
    if not arguments:
        return tuple(s for s in SUITES if s.name in FAST) if fast else SUITES
    return tuple(
        replace(suite, arguments=() if suite.name in whole else tuple(arguments[suite.name]))
        for suite in SUITES
        if suite.name in arguments
    )


def _resolve(target: str) -> dict[str, list[str]]:
    if any(suite.name == target for suite in SUITES):
        return {target: []}
    if not target.strip():
        raise UnknownTargetError("a target is empty")
    return _by_path(target) or _by_name(target)


def _by_path(target: str) -> dict[str, list[str]]:
    if (ROOT / target).resolve() == ROOT / "tests":
        return {name: [] for name in PYTEST_SUITES}
    file = Path(target.partition("::")[0])
    path = file if file.is_absolute() else ROOT / file
    is_path = len(file.parts) > 1 or file.suffix == ".py"
    if is_path and path.exists():
        parts = path.resolve().relative_to(ROOT).parts if path.is_relative_to(ROOT) else ()
        match parts:
            case ("tests", suite) if suite in PYTEST_SUITES:
                return {suite: []}
            case ("tests", suite, *_) if suite in PYTEST_SUITES:
                return {suite: [str(Path(*parts)) + target[len(str(file)) :]]}
        raise UnknownTargetError(f"`{target}` is in none of tests/{{{','.join(PYTEST_SUITES)}}}")
    return {}


def _by_name(target: str) -> dict[str, list[str]]:
    matches: dict[str, list[str]] = {}
    for name in PYTEST_SUITES:
        for test_file in sorted((ROOT / "tests" / name).glob("test_*.py")):
            tests = re.findall(r"^def (test_\w+)", test_file.read_text(), re.MULTILINE)
            relative = str(test_file.relative_to(ROOT))
            if target in test_file.stem:
                matches.setdefault(name, []).append(relative)
            else:
                in_file = [f"{relative}::{test}" for test in tests if target in test]
                matches.setdefault(name, []).extend(in_file)
    matches = {name: arguments for name, arguments in matches.items() if arguments}
    if not matches:
        raise UnknownTargetError(f"no suite, path or test has `{target}` in its name")
    return matches
