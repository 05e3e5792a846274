"""The suites: what each needs, how it is started, and its budget."""

import ast
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
    no test ends for `silence_min` is hung, and so is one without tests that takes longer: this is
    more than tests/conftest.py allows to setup, test and teardown. `nice` is added to the niceness
    of the run: the suite that takes longest gets the processors first.
    """

    name: str
    lane: str
    budget_min: float
    needs: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    nice: int = 0
    silence_min: float = 30

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
            (".venv/bin/nox", "-s", self.name, *(("--", *self.arguments) * bool(self.arguments)))
        )


# The lane with the longest wait begins first; the small suites share one lane.
SUITES = (
    Suite("docker", "docker", 23, ("nginx", "docker", "registry", "skopeo"), silence_min=170),
    Suite("stack", "stack", 20, ("nginx",), nice=3, silence_min=60),
    Suite("lint", "small", 1, nice=5),
    Suite("types", "small", 3, nice=5),
    Suite("workflows", "small", 1, nice=5),
    Suite("unit", "small", 6, nice=5),
    Suite("clients", "small", 6, ("nginx", "client_tools"), nice=5, silence_min=60),
)
FAST = ("lint", "types", "unit")
TOTAL_BUDGET_MIN = 25


class UnknownTargetError(Exception):
    """A word that is neither a suite, a path below tests/, nor in the name of a test."""


def select(targets: Iterable[str], *, fast: bool = False, folder: Path = ROOT) -> tuple[Suite, ...]:
    """Return the suites that `targets` name, each with the pytest arguments for just those tests.

    A target is a suite's name, `all`, `tests` or a path below it (pytest's `::` and `[]` included)
    from `folder` or from the root, the name of a test file, or a part of a test's name. Without
    targets: all suites, or the fast ones. Raises UnknownTargetError.
    """
    targets = tuple(targets)
    if fast and targets:
        raise UnknownTargetError("`--fast` names its suites itself, and takes no other target")
    arguments: dict[str, list[str]] = {}
    whole: set[str] = set()
    for target in targets:
        for name, tests in _resolve(target, folder).items():
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


def _resolve(target: str, folder: Path) -> dict[str, list[str]]:
    if any(suite.name == target for suite in SUITES):
        return {target: []}
    if target == "all":
        return {suite.name: [] for suite in SUITES}
    if not target.strip():
        raise UnknownTargetError("a target is empty")
    return _by_path(target, folder) or _by_name(target)


def _by_path(target: str, folder: Path) -> dict[str, list[str]]:
    if target == "tests":
        return {name: [] for name in PYTEST_SUITES}
    # The value of a parameter, in brackets at the end, may have `::` in it.
    file, separator, test = target.partition("::")
    paths = [folder / file, ROOT / file] if "/" in file or file in {".", ".."} else []
    if not paths and file.endswith(".py"):
        paths = [folder / file, *(ROOT / "tests" / name / file for name in PYTEST_SUITES)]
    found = next((path.resolve() for path in paths if path.exists()), None)
    if found is None:
        return {}
    match found.relative_to(ROOT).parts if found.is_relative_to(ROOT) else ():
        case ("tests",):
            return {name: [] for name in PYTEST_SUITES}
        case ("tests", suite) if suite in PYTEST_SUITES:
            return {suite: []}
        case ("tests", suite, *_) if suite in PYTEST_SUITES:
            return {suite: [f"{found.relative_to(ROOT)}{separator}{test}"]}
    raise UnknownTargetError(f"`{target}` is in none of tests/{{{','.join(PYTEST_SUITES)}}}")


def _by_name(target: str) -> dict[str, list[str]]:
    """Look for `target` in names; what comes before a parameter in brackets is a whole name."""
    name, bracket, parameter = target.partition("[")
    matches: dict[str, list[str]] = {}
    for suite in PYTEST_SUITES:
        for file in sorted((ROOT / "tests" / suite).glob("test_*.py")):
            relative = str(file.relative_to(ROOT))
            if name in file.stem and not bracket:
                matches.setdefault(suite, []).append(relative)
                continue
            for test in _tests(file, name):
                if name == test or (name in test and not bracket):
                    found = f"{relative}::{test}{bracket}{parameter}"
                    matches.setdefault(suite, []).append(found)
    if not matches:
        raise UnknownTargetError(f"no suite, path or test has `{target}` in its name")
    return matches


def _tests(file: Path, name: str) -> list[str]:
    """Return the tests of a file; none where `name` is nowhere in it, which is quick to tell."""
    text = file.read_text(encoding="utf-8")
    if name not in text:
        return []
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        where = f"{file.relative_to(ROOT)}:{error.lineno}"
        raise UnknownTargetError(f"no tests can be found by name: {where}: {error.msg}") from error
    functions = [node.name for node in body if isinstance(node, ast.FunctionDef)]
    return [function for function in functions if function.startswith("test_")]
