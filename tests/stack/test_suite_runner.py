"""The runner of the suites, with a stand-in for nox: what is counted, reported, ended."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import deployments
import psutil
import pytest
from deployments import ROOT, eventually, program

from cloister.errors import DeploymentError
from cloister.files import exclusive
from suites.catalogue import Suite
from suites.events import EVENTS
from suites.run import Run
from suites.summary import SuiteResult

# Each "session" does something else; the word after --session says what.
_NOX = """
import json, os, subprocess, sys, time

def write(**event):
    with open(os.environ["SUITE_EVENTS"], "a") as file:
        file.write(json.dumps(event) + "\\n")

def test(name, outcome, message=""):
    write(event="test", id="file::" + name, outcome=outcome, seconds=0.5, message=message)

session = sys.argv[sys.argv.index("--session") + 1]
print("this is", session)
if session == "good":
    write(event="collected", tests=2)
    test("a", "passed"), test("b", "passed")
elif session == "bad":
    write(event="collected", tests=1)
    test("c", "failed", "assert 1 == 2")
    sys.exit(1)
elif session == "daemon":
    busy = "import time\\nwhile time.process_time() < 0.3: pass\\nprint(1, flush=True)"
    script = busy + "\\ntime.sleep(600)"
    command = [sys.executable, "-c", script]
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    daemon.stdout.readline()
elif session == "long":
    write(event="collected", tests=2)
    test("d", "passed")
    time.sleep(600)
elif session == "skip":
    write(event="collected", tests=1)
    test("e", "skipped", "no Docker")
elif session == "crash":
    os.kill(os.getpid(), 9)
elif session == "nothing":
    write(event="ended", code=4)
    sys.exit(1)
elif session == "foreign":
    sys.stdout.buffer.write("ü\\n".encode())
    sys.exit(1)
elif session == "early":
    write(event="collected", tests=3)
    test("f", "passed")
elif session == "garbage":
    with open(os.environ["SUITE_EVENTS"], "a") as file:
        file.write("not JSON\\n")
elif session == "successor":
    script = (
        "import os, signal, subprocess, sys, time\\n"
        "more = [sys.executable, '-c', 'import time; time.sleep(601)']\\n"
        "def end(*_): subprocess.Popen(more, start_new_session=True); os._exit(0)\\n"
        "signal.signal(signal.SIGTERM, end)\\n"
        "print(1, flush=True)\\n"
        "time.sleep(600)"
    )
    command = [sys.executable, "-c", script]
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    daemon.stdout.readline()
"""


@pytest.fixture
def nox(tmp_path: Path) -> list[str]:
    path = tmp_path / "nox.py"
    path.write_text(_NOX)
    return [sys.executable, str(path)]


def suite(name: str, lane: str = "") -> Suite:
    return Suite(name, lane or name, 1.0)


def run(nox: list[str], folder: Path, *suites: Suite) -> tuple[Run, list[str]]:
    said: list[str] = []
    return Run(suites, folder, said.append, nox, print_every_s=0.2), said


def test_suites_run_side_by_side_and_in_lanes(nox: list[str], tmp_path: Path) -> None:
    suites = (suite("good", "one"), suite("bad", "two"), suite("crash", "one"))
    running, said = run(nox, tmp_path / "out", *suites)
    good, bad, crash = running.run()
    assert (good.passed, good.collected, good.code, good.is_good) == (2, 2, 0, True)
    assert bad.failed == [("file::c", "assert 1 == 2")]
    assert not bad.is_good
    assert crash.code == -signal.SIGKILL
    assert Path(good.log).read_text() == "this is good\n"
    text = "\n".join(said)
    assert "bad: FAILED file::c: assert 1 == 2" in text
    assert text.index("good: passed") < text.index("crash: started"), "one lane, one at a time"
    assert text.index("bad: started") < text.index("good: passed"), "lanes are side by side"


def test_what_a_suite_leaves_running_is_named_counted_and_ended(
    nox: list[str], tmp_path: Path
) -> None:
    running, _ = run(nox, tmp_path / "out", suite("daemon"))
    (result,) = running.run()
    (left,) = result.left
    assert "time.sleep(600)" in left
    assert result.processor_s >= 0.3, "a daemon's processor time is the suite's too"
    # Of a zombie psutil gives None.
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert left not in {" ".join(command) for command in commands}


def test_a_successor_of_what_was_ended_is_ended_too(nox: list[str], tmp_path: Path) -> None:
    running, _ = run(nox, tmp_path / "out", suite("successor"))
    (result,) = running.run()
    assert ["time.sleep(600)" in result.left[0], "time.sleep(601)" in result.left[1]] == [True] * 2
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert not [command for command in commands if "import time; time.sleep(601)" in command]


def test_a_suite_that_ends_too_early_or_reports_nonsense_is_not_good(
    nox: list[str], tmp_path: Path
) -> None:
    running, _ = run(nox, tmp_path / "out", suite("early"), suite("garbage"), suite("good"))
    early, garbage, good = running.run()
    assert (early.code, early.missing, early.is_good) == (0, 2, False)
    assert (garbage.code, garbage.is_good) == (0, False)
    assert "not JSON" in garbage.errors[0][1]
    assert good.is_good, "the others run to their end"
    nothing = SuiteResult("unit", "unit", "log", 1.0, has_tests=True, code=0)
    assert not nothing.is_good, "a suite of tests without any"


def test_a_suite_of_which_nothing_is_heard_is_ended_and_says_where_it_was(
    nox: list[str], tmp_path: Path
) -> None:
    # A session that pytest runs: no other is expected to tell of its tests.
    (tmp_path / "nox.py").write_text(
        "import faulthandler, time\nfaulthandler.enable()\ntime.sleep(600)"
    )
    hung = Suite("unit", "unit", 1.0, silence_min=1 / 60)
    running, said = run(nox, tmp_path / "out", hung)
    (result,) = running.run()
    assert not result.is_good
    assert "no test ended for" in result.errors[0][1]
    assert "no test ended for" in "\n".join(said)
    assert 'nox.py", line 3' in Path(result.log).read_text()


def test_programs_that_start_do_not_keep_a_suite_alive(nox: list[str], tmp_path: Path) -> None:
    started = '{"event": "starts", "what": "nginx", "count": 1}'
    (tmp_path / "nox.py").write_text(
        "import os, time\n"
        "while True:\n"
        "    with open(os.environ['SUITE_EVENTS'], 'a') as file:\n"
        f"        file.write('{started}\\n')\n"
        "    time.sleep(0.2)\n"
    )
    running, _ = run(nox, tmp_path / "out", Suite("unit", "unit", 1.0, silence_min=1 / 30))
    (result,) = running.run()
    assert "no test ended for" in result.errors[0][1]
    assert result.starts["nginx"] > 1


def test_a_suite_without_tests_that_does_not_end_is_ended(nox: list[str], tmp_path: Path) -> None:
    (tmp_path / "nox.py").write_text("import time\ntime.sleep(600)")
    running, said = run(nox, tmp_path / "out", Suite("lint", "lint", 1.0, silence_min=1 / 60))
    (result,) = running.run()
    assert not result.is_good
    assert result.errors[0][1].startswith("it did not end in 0:0")
    assert "FAILED it did not end in" in "\n".join(said)


def command(nox: list[str], folder: Path, *sessions: str) -> list[str]:
    """Return what runs the runner's main with other suites and the stand-in."""
    script = (
        "import functools, sys\n"
        "from pathlib import Path\n"
        "from suites import __main__ as main\n"
        "from suites.catalogue import Suite\n"
        "from suites.run import Run\n"
        f"main.REPORTS = Path({str(folder)!r})\n"
        f"main.select = lambda *_, **__: tuple(Suite(name, 'a', 1, (), ('x',)) "
        f"for name in {sessions!r})\n"
        f"main.Run = functools.partial(Run, nox={nox!r})\n"
        "sys.argv = ['test.sh']\n"
        "raise SystemExit(main.main())\n"
    )
    return [sys.executable, "-c", script]


@pytest.mark.parametrize(
    ("sessions", "ci", "code", "last"),
    [
        (("good",), "", 0, "2 passed, 0 failed"),
        (("good", "bad"), "", 1, "2 passed, 1 failed; failed suites: bad"),
        (("good", "crash"), "", 1, "2 passed, 0 failed; failed suites: crash"),
        (("good", "nothing"), "", 2, "2 passed, 0 failed; failed suites: nothing"),
        (("bad", "nothing"), "", 1, "0 passed, 1 failed; failed suites: bad, nothing"),
        (("skip",), "", 0, "0 passed, 0 failed, 1 skipped"),
        (("skip",), "true", 1, "0 passed, 0 failed, 1 skipped"),
    ],
)
def test_the_verdict_is_in_the_last_line_and_the_code(
    nox: list[str], tmp_path: Path, sessions: tuple[str, ...], ci: str, code: int, last: str
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CI": ci}
    done = subprocess.run(
        command(nox, tmp_path / "out", *sessions),
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.splitlines()[-1]) == (code, last)
    assert ("skipped tests are a failure" in done.stdout) is (ci == "true")
    unknown = "error: pytest found no test by `.venv/bin/nox -s nothing -- x`"
    assert (unknown in done.stderr) is ("nothing" in sessions)


def test_a_folder_of_reports_that_cannot_be_written_is_two_lines(
    nox: list[str], tmp_path: Path
) -> None:
    (tmp_path / "out").touch()
    done = subprocess.run(
        command(nox, tmp_path / "out", "good"),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (10, "")
    error, hint = done.stderr.splitlines()
    assert error == f"error: `{tmp_path / 'out' / 'lock'}` cannot be written: File exists"
    assert hint.startswith("hint: make ")


def test_a_log_may_have_what_the_terminal_cannot_show(nox: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        command(nox, tmp_path / "out", "foreign"),
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "\n\\xfc\n" in done.stdout


def test_the_suites_end_when_nobody_reads_what_is_printed(nox: list[str], tmp_path: Path) -> None:
    with program(
        command(nox, tmp_path / "out", "good", "long"),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as runner:
        assert runner.stdout
        assert runner.stderr
        assert "good: started" in runner.stdout.readline()
        runner.stdout.close()
        assert (runner.wait(60), runner.stderr.read()) == (128 + signal.SIGPIPE, "")


_TESTS = """
import os, pytest

def test_good(): pass
def test_bad(): assert 1 == 2
def test_skipped(): pytest.skip("no Docker")
def test_dies(): os._exit(3)

@pytest.fixture
def deadly(): os._exit(4)
def test_dies_before_it_begins(deadly): pass
"""


def reported(folder: Path, *arguments: str) -> SuiteResult:
    """Run pytest in a folder, and return what the plugin told of it."""
    events = folder / "events"
    flags = ("-p", "suites.progress", "-p", "no:cacheprovider", "--rootdir=.")
    subprocess.run(
        [sys.executable, "-m", "pytest", *flags, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), EVENTS: str(events)},
        check=False,
        capture_output=True,
    )
    result = SuiteResult("it", "it", "log", 1.0)
    for line in events.read_text().splitlines():
        result.take(json.loads(line))
    return result


def test_the_plugin_reports_every_test_also_one_whose_worker_died(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(_TESTS)
    (tmp_path / "test_none.py").write_text("import pytest\npytest.importorskip('no_such_package')")
    result = reported(tmp_path, "-n", "2", ".")
    assert (result.collected, result.passed, result.pytest_code) == (5, 1, 1)
    (file, why), (test, reason) = sorted(result.skipped, reverse=True)
    assert (file, "no_such_package" in why) == ("test_none.py", True)
    assert (test, reason) == ("test_it.py::test_skipped", "Skipped: no Docker")
    failed = {test.partition("::")[2]: text for test, text in result.failed}
    assert "assert 1 == 2" in failed["test_bad"]
    assert "crashed" in failed["test_dies"]
    assert "crashed" in failed["test_dies_before_it_begins"]
    assert {what.split()[0] for what, _ in result.errors} == {"worker"}
    assert sorted(failed) == ["test_bad", "test_dies", "test_dies_before_it_begins"]
    assert result.missing == 0


@pytest.mark.parametrize(
    ("arguments", "code", "found_nothing", "message"),
    [
        (["test_good.py"], 0, False, None),
        (["test_good.py::test_none"], 4, True, None),
        (["test_good.py", "-k", "none"], 5, True, None),
        (["test_wrong.py"], 2, False, "SyntaxError: '(' was never closed"),
        (["test_wrong.py::test_none"], 4, False, "SyntaxError: '(' was never closed"),
        (["test_bare.py"], 1, False, "fixture 'nothing' not found"),
    ],
)
def test_the_plugin_tells_why_there_is_no_test(
    tmp_path: Path, arguments: list[str], code: int, message: str | None, *, found_nothing: bool
) -> None:
    (tmp_path / "test_good.py").write_text("def test_good(): pass\n")
    (tmp_path / "test_wrong.py").write_text("def test_wrong(\n")
    (tmp_path / "test_bare.py").write_text("def test_bare(nothing): pass\n")
    result = reported(tmp_path, *arguments)
    assert (result.pytest_code, result.found_nothing) == (code, found_nothing)
    assert [text for _, text in result.failed] == ([message] if message else [])


_HANGING = """
import threading
from concurrent.futures import ThreadPoolExecutor
import pytest

@pytest.mark.timeout(1)
def test_hangs():
    with ThreadPoolExecutor(1) as threads:  # also after an exception
        threads.submit(released.wait)
        threading.Event().wait()

released = threading.Event()
def test_next(): released.set()
"""


def test_a_test_that_hangs_ends_and_the_next_one_runs(tmp_path: Path) -> None:
    suite = tmp_path / "unit"
    suite.mkdir()
    for name in ("conftest.py", "repetitions.py"):
        (tmp_path / name).write_bytes((ROOT / "tests" / name).read_bytes())
    (suite / "test_it.py").write_text(_HANGING)
    flags = ("-p", "no:cacheprovider", "--rootdir=.")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *flags, "unit"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "TEST_REPETITIONS": ""},
        check=False,
        capture_output=True,
        text=True,
    )
    assert "the test of unit/test_it.py::test_hangs took longer than 1 s" in done.stdout
    assert "1 failed, 1 passed" in done.stdout


def test_container_tests_in_one_process_are_skipped_where_there_is_no_docker() -> None:
    """What docker's client leaves open would fail one of them."""
    test = "tests/docker/test_compose.py::test_compose_2_reads_the_same_files"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", test],
        cwd=ROOT,
        env={**os.environ, "CI": "", "DOCKER_HOST": "unix:///nonexistent"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, "1 skipped" in done.stdout) == (0, True), done.stdout + done.stderr


_SLEEPS = "import time; print('it sleeps', flush=True); time.sleep(600)"


def exit_code_when_overdue(*, is_text: bool = True, is_stopped: bool = False) -> int:
    """Return the exit code of a program that does not end in time."""
    pipe = subprocess.PIPE
    with (
        suppress(subprocess.TimeoutExpired),
        program([sys.executable, "-c", _SLEEPS], stdout=pipe, stderr=pipe, text=is_text) as process,
    ):
        process.stdout.readline()
        if is_stopped:
            process.send_signal(signal.SIGSTOP)
        process.wait(0.1)
    return int(process.returncode)


@pytest.mark.parametrize("is_text", [True, False])
def test_a_program_that_does_not_end_in_time_prints_where_it_was(
    capsys: pytest.CaptureFixture[str], *, is_text: bool
) -> None:
    assert exit_code_when_overdue(is_text=is_text) == -signal.SIGABRT
    assert 'File "<string>", line 1 in <module>' in capsys.readouterr().err


def test_a_program_that_is_stopped_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployments, "_ABORT_S", 0.1)
    assert exit_code_when_overdue(is_stopped=True) == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_ends_every_suite_and_sums_up(
    nox: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = command(nox, tmp_path / "out", "long", "good")
    with program(words, env=environment, stdout=subprocess.PIPE, text=True) as runner:
        eventually(lambda: _has_events(tmp_path / "out" / "long.events"))
        runner.send_signal(number)
        said, _ = runner.communicate(timeout=60)
    assert runner.returncode == 130
    assert said.splitlines()[-1] == "1 passed, 0 failed; interrupted: long"
    assert "good" not in said, "what waits is not started any more"
    assert f"interrupted, log: {tmp_path / 'out' / 'long.log'}" in said
    assert "this is long" not in said, "a log of what was interrupted says nothing"
    assert "FAILED" not in said
    assert "failed:" not in said
    assert (tmp_path / "out" / "summary.json").exists()


def test_two_runs_of_one_clone_do_not_mix(nox: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words, out = command(nox, tmp_path / "out", "long"), tmp_path / "out" / "long.events"
    with program(words, env=environment, stdout=subprocess.DEVNULL) as runner:
        eventually(lambda: _has_events(out))
        second = subprocess.run(words, env=environment, check=False, capture_output=True, text=True)
        assert second.returncode == 2
        assert "another run of the tests goes on" in second.stderr
        _has_events(out)
        runner.send_signal(signal.SIGINT)


def _has_events(path: Path) -> None:
    assert path.read_text().count("\n") == 2


def test_a_runner_that_is_killed_takes_its_suites_with_it(nox: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    events = tmp_path / "out" / "long.events"
    with program(command(nox, tmp_path / "out", "long"), env=environment) as runner:
        eventually(lambda: _has_events(events))
        suites = psutil.Process(runner.pid).children(recursive=True)
        assert len(suites) >= 2
        runner.kill()
    _, alive = psutil.wait_procs(suites, timeout=60)
    assert alive == []


@pytest.mark.parametrize("seconds", [0.0, 0.2, 1.0])
def test_a_suite_whose_runner_was_killed_at_once_ends_and_holds_off_the_next_run(
    nox: list[str], tmp_path: Path, seconds: float
) -> None:
    """It wrote its outcomes into those of the next run, which failed with more than there were."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = command(nox, tmp_path / "out", "long")
    with program(words, env=environment, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        assert "long: started" in runner.stdout.readline()
        time.sleep(seconds)  # at different points of the suite's start
        runner.kill()
    lock = tmp_path / "out" / "suites.lock"

    def over() -> None:
        alive = [one for one in psutil.process_iter(["cmdline"]) if _is_of(one, tmp_path)]
        try:
            with exclusive(lock, wait_s=0):  # which the next run takes before it starts a suite
                assert alive == []
        except DeploymentError:
            raise AssertionError("it is still ending") from None

    eventually(over, within_s=120)


def _is_of(process: psutil.Process, folder: Path) -> bool:
    return any(str(folder) in word for word in process.info["cmdline"] or ())


def test_a_standard_output_that_is_closed_is_one_that_nobody_reads(
    nox: list[str], tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *command(nox, tmp_path / "out", "good")]
    done = subprocess.run(closed, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 141, done.stderr
    assert "Traceback" not in done.stderr
