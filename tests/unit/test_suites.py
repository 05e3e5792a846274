"""Which suites and tests a target names, and how a run is summed up."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from suites import catalogue
from suites.catalogue import PYTEST_SUITES, ROOT, SUITES, Suite, UnknownTargetError, select
from suites.summary import Machine, SuiteResult, as_json, as_text, last_line, totals


def names(*targets: str, fast: bool = False, folder: Path = ROOT) -> dict[str, tuple[str, ...]]:
    chosen = select(targets, fast=fast, folder=folder)
    return {suite.name: suite.arguments for suite in chosen}


def test_without_a_target_every_suite_runs_whole() -> None:
    assert names() == {suite.name: () for suite in SUITES}
    assert set(names(fast=True)) == {"lint", "types", "unit"}


def test_every_folder_of_tests_is_a_suite() -> None:
    tests = ROOT / "tests"
    found = {file.relative_to(tests).parts[:-1] for file in tests.rglob("*test*.py")}
    assert found - {()} == {(suite,) for suite in PYTEST_SUITES}
    assert not [file for file in tests.glob("*.py") if "\ndef test_" in file.read_text()]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("stack", {"stack": ()}),
        ("tests/stack", {"stack": ()}),
        ("tests", dict.fromkeys(PYTEST_SUITES, ())),
        ("tests/unit/test_keys.py", {"unit": ("tests/unit/test_keys.py",)}),
        ("tests/unit/test_keys.py::test_x", {"unit": ("tests/unit/test_keys.py::test_x",)}),
        ("./tests//unit/test_keys.py::test_x", {"unit": ("tests/unit/test_keys.py::test_x",)}),
        (
            "tests/unit/test_keys.py::test_x[a::b]",
            {"unit": ("tests/unit/test_keys.py::test_x[a::b]",)},
        ),
        (f"{ROOT}/tests/unit/test_keys.py", {"unit": ("tests/unit/test_keys.py",)}),
        ("test_keys.py", {"unit": ("tests/unit/test_keys.py",)}),
        ("test_keys.py::test_x", {"unit": ("tests/unit/test_keys.py::test_x",)}),
        ("all", {suite.name: () for suite in SUITES}),
        ("test_fuzz_http2", {"stack": ("tests/stack/test_fuzz_http2.py",)}),
        (
            "test_every_folder_of_tests_is_a_suite",
            {"unit": ("tests/unit/test_suites.py::test_every_folder_of_tests_is_a_suite",)},
        ),
        (
            "test_an_unknown_target_is_an_error[./README.md]",
            {
                "unit": (
                    "tests/unit/test_suites.py::test_an_unknown_target_is_an_error[./README.md]",
                )
            },
        ),
    ],
)
def test_a_target_is_a_suite_a_path_or_a_part_of_a_name(
    target: str, expected: dict[str, tuple[str, ...]]
) -> None:
    assert names(target) == expected


@pytest.mark.parametrize(
    ("folder", "target"),
    [
        ("tests", "unit/test_keys.py"),
        ("tests", "../tests/unit/test_keys.py"),
        ("tests", "tests/unit/test_keys.py"),
        ("tests/unit", "test_keys.py"),
        ("tests/stack", "test_keys.py"),
    ],
)
def test_a_path_is_from_the_folder_of_the_caller_or_from_the_root(folder: str, target: str) -> None:
    assert names(target, folder=ROOT / folder) == {"unit": ("tests/unit/test_keys.py",)}


def test_the_folder_of_the_caller_may_be_the_target() -> None:
    assert names(".", folder=ROOT / "tests/unit") == {"unit": ()}
    assert names(".", folder=ROOT / "tests") == dict.fromkeys(PYTEST_SUITES, ())


def test_a_name_in_a_string_is_no_test() -> None:
    """test_suite_runner.py has a `def test_good` in a string."""
    with pytest.raises(UnknownTargetError, match="test_good"):
        select(["test_good"])


def test_a_file_that_cannot_be_read_as_python_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "ROOT", tmp_path)
    (tmp_path / "tests/unit").mkdir(parents=True)
    (tmp_path / "tests/unit/test_x.py").write_text("\ndef test_some_thing(:\n")
    with pytest.raises(UnknownTargetError, match=r"tests/unit/test_x\.py:2: invalid syntax"):
        select(["some_thing"])


def test_a_whole_suite_beside_some_of_its_tests_is_whole() -> None:
    assert names("unit", "tests/unit/test_keys.py") == {"unit": ()}


def test_a_part_of_a_name_may_be_the_name_of_a_folder() -> None:
    assert "tests/docker/test_images.py" in names("images")["docker"]


@pytest.mark.parametrize(
    "target", ["nothing_has_this_name", "./README.md", "/etc/passwd", " ", "test_keys.py[1]", "."]
)
def test_an_unknown_target_is_an_error(target: str) -> None:
    with pytest.raises(UnknownTargetError, match=re.escape(target)):
        select([target])


def result(name: str = "unit", budget_s: float = 60.0) -> SuiteResult:
    return SuiteResult(name, f"nox -s {name}", f"reports/{name}.log", budget_s)


def outcome(test: str, kind: str, seconds: float = 1.0, message: str = "") -> dict[str, object]:
    return {
        "event": "test",
        "id": test,
        "outcome": kind,
        "seconds": seconds,
        "message": message,
    }


def test_events_are_counted() -> None:
    unit = result()
    unit.take({"event": "collected", "tests": 3})
    unit.take(outcome("f::a", "passed"))
    unit.take(outcome("f::b", "failed", message="assert 1 == 2\nmore"))
    unit.take(outcome("f::c", "skipped", message="no Docker"))
    unit.take({"event": "starts", "what": "nginx", "count": 2})
    unit.take({"event": "starts", "what": "nginx", "count": 1})
    assert (unit.collected, unit.done, unit.passed) == (3, 3, 1)
    assert unit.starts == {"nginx": 3}
    assert totals([unit, result("stack")]) == (1, 1, 1)


def test_a_test_has_one_outcome_and_a_worker_is_no_test() -> None:
    """The test of a worker that died runs again in another worker."""
    unit = result()
    unit.take({"event": "collected", "tests": 2})
    unit.take(outcome("f::a", "failed", 0.0, "worker 'gw0' crashed while running f::a"))
    unit.take({"event": "error", "what": "worker gw0", "message": "Not properly terminated"})
    unit.take(outcome("f::a", "passed", 2.0))
    unit.take(outcome("f::b", "passed"))
    assert totals([unit]) == (1, 1, 0)
    assert (unit.done, unit.missing, unit.seconds["f::a"]) == (2, 0, 2.0)
    text = as_text([unit], 65.0, None)
    assert "failed: f::a: worker 'gw0' crashed" in text
    assert "failed: worker gw0: Not properly terminated" in text
    (summary,) = json.loads(json.dumps(as_json([unit], 65.0, None)))["suites"]
    assert summary["failed"] == ["f::a"]
    assert summary["errors"] == ["worker gw0: Not properly terminated"]


def test_an_error_without_a_failed_test_is_a_failure() -> None:
    unit = result()
    unit.take({"event": "collected", "tests": 1})
    unit.take(outcome("f::a", "passed"))
    unit.code = 0
    assert unit.is_good
    unit.take({"event": "error", "what": "worker gw0", "message": "Not properly terminated"})
    assert not unit.is_good


@pytest.mark.parametrize("suite", [s for s in SUITES if s.has_tests], ids=lambda s: s.name)
def test_a_suite_is_hung_only_after_the_limits_of_its_tests(
    suite: Suite, pytestconfig: pytest.Config
) -> None:
    conftest: Any = pytestconfig.pluginmanager.get_plugin(str(ROOT / "tests/conftest.py"))
    limits = conftest.LIMITS[suite.name]
    texts = (file.read_text() for file in (ROOT / "tests" / suite.name).glob("*.py"))
    marks = (re.findall(r"mark\.timeout\(([^)]*)\)", text) for text in texts)
    longest_s = max([limits.test_s, *(float(mark) for found in marks for mark in found)])
    assert suite.silence_min * 60 >= limits.setup_s + longest_s + limits.teardown_s


def test_a_suite_that_fails_without_a_failed_test_is_not_good() -> None:
    for code, is_good in ((None, False), (0, True), (3, False)):
        unit = result()
        unit.take({"event": "collected", "tests": 1})
        unit.take(outcome("f::a", "passed"))
        unit.code = code
        assert unit.is_good is is_good


def test_an_unknown_event_is_an_error() -> None:
    with pytest.raises(ValueError, match="not an event"):
        result().take({"event": "test", "id": "a"})


def test_the_summary_names_failures_skips_leftovers_and_what_is_over_its_budget() -> None:
    unit = result(budget_s=60)
    unit.code, unit.wall_s, unit.processor_s = 1, 61.0, 100.0
    unit.take(outcome("slow", "passed", 30.0))
    unit.take(outcome("bad", "failed", 2.0, "assert 1 == 2\nmore"))
    unit.take(outcome("no", "skipped", 0.0, "no Docker"))
    unit.left.append("sleep 60")
    text = as_text([unit], 65.0, Machine(2, 120.0, 10.0))
    assert "failed: bad: assert 1 == 2\n" in text
    assert "skipped: no: no Docker" in text
    assert "still running after unit, ended: sleep 60" in text
    assert "over budget: unit took 1:01 of 1:00 min" in text
    assert "2 cores, 2:00 min busy, 0:10 min idle" in text
    assert text.index("30.0 s  slow") < text.index("2.0 s  bad")
    as_json_text = json.dumps(as_json([unit], 65.0, None))
    assert '"failed": ["bad"]' in as_json_text


def test_a_suite_without_any_outcome_is_named() -> None:
    unit = SuiteResult("unit", "nox", "log", 60.0, has_tests=True, code=1)
    assert "failed: unit: no tests ran" in as_text([unit], 1.0, None)
    stack = result("stack")
    stack.take({"event": "collected", "tests": 1})
    stack.take(outcome("f::a", "passed"))
    stack.code = 0
    line = "1 passed, 0 failed; failed suites: unit"
    assert last_line([unit, stack], is_interrupted=False) == line
    unit.is_interrupted = True
    line = "1 passed, 0 failed; interrupted: unit"
    assert last_line([unit, stack], is_interrupted=True) == line
    assert last_line([stack], is_interrupted=True) == "1 passed, 0 failed; interrupted"


def test_only_the_ten_slowest_are_shown() -> None:
    unit = result()
    for number in range(30):
        unit.take(outcome(f"test-{number:02}", "passed", float(number)))
    text = as_text([unit], 1.0, None)
    assert "slowest 10 tests" in text
    assert "test-20" in text
    assert "test-19" not in text
