"""What the supervisor is told, and how leftovers are found."""

import ctypes
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import stubborn

from cloister import takeover
from cloister.errors import DeploymentError
from cloister.layout import Layout
from cloister.runtimes import EXPORTER, GATEWAY, Program, socket_folder
from cloister.runtimes.supervisor import Supervisor
from cloister.runtimes.supervisord import render

FOLDERS = {"folder": Path("/state/run"), "logs": Path("/state/logs"), "root": Path("/project")}


def test_the_supervisors_configuration(golden: Callable[[str, str], None]) -> None:
    programs = (
        Program("engine-1", "engine", ("python", "-m", "engine"), ("--name=a b", "--share=50%")),
        Program("gateway", "gateway", ("nginx",), stop_signal="QUIT", stop_wait_s=310),
    )
    text = render(programs, **FOLDERS)
    golden("supervisord.conf", text.replace(shlex.quote(sys.executable), "PYTHON"))


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("tesseract-12", "engine-12"),
        ("vllm-nanonets-ocr-1", "engine-1"),
        (GATEWAY, "gateway"),
        (EXPORTER, "exporter"),
        ("redis-1", "redis-1"),
    ],
)
def test_engines_alone_have_the_folders_of_engines(name: str, folder: str) -> None:
    assert socket_folder(name) == folder


@pytest.mark.parametrize("word", ["a ;b", "a #b", 'a"b', "a\nb"])
def test_what_the_configuration_cannot_hold_is_refused(word: str) -> None:
    with pytest.raises(DeploymentError, match="cannot hold"):
        render((Program("engine-1", "engine", ("run", word)),), **FOLDERS)


def sleeper() -> subprocess.Popen[bytes]:
    """Start a process that leads a group of its own, with a child, as the supervisor does."""
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, start_new_session=True
    )
    while not psutil.Process(process.pid).children():
        assert process.poll() is None
    return process


def test_leftovers_are_the_recorded_group_even_without_its_leader(tmp_path: Path) -> None:
    path = tmp_path / "program.group"
    assert takeover.leftovers(path) == []
    with sleeper() as ours, sleeper() as another:
        takeover.record(path, ours.pid)
        (child,) = psutil.Process(ours.pid).children()
        assert {process.pid for process in takeover.leftovers(path)} == {ours.pid, child.pid}
        ours.kill()
        ours.wait()
        assert takeover.leftovers(path) == [child]
        takeover.end({"program": takeover.leftovers(path)})
        assert takeover.leftovers(path) == []
        assert another.poll() is None
        for process in psutil.Process(another.pid).children():
            process.kill()


def test_who_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "_GRACE_S", 1.0)
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"{script}; input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as deaf:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        process = psutil.Process(deaf.pid)
        takeover.end({"deaf": [process]})
        assert not process.is_running()


def test_who_is_there_after_he_was_killed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "_GRACE_S", 0.1)
    monkeypatch.setattr(takeover, "KILLED_S", 1.0)
    path = tmp_path / "engine-1.group"
    with stubborn.process() as pid:
        takeover.record(path, pid)
        for _ in range(2):
            named = rf"still there: `engine-1` \(process {pid}, state zombie\)"
            with pytest.raises(DeploymentError, match=named) as raised:
                takeover.end({"engine-1": takeover.leftovers(path)})
        assert "restart the machine" in str(raised.value.hint)
    takeover.end({"engine-1": takeover.leftovers(path)})


def test_a_process_that_nobody_took_note_of_is_over(tmp_path: Path) -> None:
    """Where the first process of a container reaps nothing, as in many, it is there for good."""
    path = tmp_path / "engine-1.group"
    script = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', '']); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, start_new_session=True
    ) as careless:
        takeover.record(path, careless.pid)
        leader = psutil.Process(careless.pid)
        while not leader.children() or leader.children()[0].status() != psutil.STATUS_ZOMBIE:
            assert careless.poll() is None
        assert takeover.leftovers(path) == [leader]


def test_a_program_does_not_begin_while_its_earlier_run_does_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "_GRACE_S", 0.1)
    monkeypatch.setattr(takeover, "KILLED_S", 0.1)
    path = tmp_path / "engine-1.group"
    with stubborn.process() as pid:
        takeover.record(path, pid)
        monkeypatch.setattr(sys, "argv", ["takeover", str(path), "", "echo", "started"])
        with pytest.raises(SystemExit, match=f"`engine-1` .process {pid}"):
            takeover.main()
        assert json.loads(path.read_text())["pid"] == pid


@pytest.fixture
def keeps_orphans() -> Iterator[None]:
    """Let what a supervisor starts stay below this process, which may hold its threads then."""
    libc, subreaper = ctypes.CDLL(None), 36  # PR_SET_CHILD_SUBREAPER
    libc.prctl(subreaper, 1, 0, 0, 0)
    yield
    libc.prctl(subreaper, 0, 0, 0, 0)


@pytest.mark.usefixtures("keeps_orphans")
def test_a_supervisor_names_who_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """`restart` and the watchdog halt one program, `up` replaces it, `scale` removes it."""
    monkeypatch.setattr("cloister.runtimes.supervisor._MARGIN_S", 2.0)
    monkeypatch.setattr(takeover, "KILLED_S", 1.0)
    # Not pytest's own folder: a Unix socket's path has room for 107 bytes.
    with tempfile.TemporaryDirectory(prefix="cloister-") as folder:
        layout = Layout(Path(folder))
        for place in (layout.run, layout.logs):
            place.mkdir()
        supervisor = Supervisor(layout, longest_stop_s=1)
        (layout.run / "program.py").write_text(stubborn.PROGRAM)
        command = (sys.executable, str(layout.run / "program.py"))
        mine = Program("engine-1", "engine", command, stop_wait_s=1)
        supervisor.start((mine,))
        while not supervisor.tail("engine-1", 1).isdecimal():
            assert supervisor.states()
        (state,) = supervisor.states()
        named = rf"still there: `engine-1` \(process {state.pid}, "
        with stubborn.held(int(supervisor.tail("engine-1", 1))):
            with pytest.raises(DeploymentError, match=named):
                supervisor.halt("engine-1", at_once=True)
            with pytest.raises(DeploymentError, match=named):
                supervisor.halt("engine-1", at_once=False)
            with pytest.raises(DeploymentError, match=named):
                supervisor.apply((replace(mine, flags=("new",)),), {"engine-1"})
            with pytest.raises(DeploymentError, match=named):
                supervisor.remove({"engine-1"})
            for _ in range(2):
                with pytest.raises(DeploymentError, match=named):
                    supervisor.stop()
            with pytest.raises(DeploymentError, match=named):
                supervisor.start((mine,))
            assert not supervisor.alive()
        supervisor.stop()
        assert not supervisor.stop()


def test_what_another_user_has_by_an_old_number_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He leads a group of the recorded number, leaves a child in it, and ends himself."""
    path = tmp_path / "program.group"
    with sleeper() as stranger:
        takeover.record(path, stranger.pid)
        (child,) = psutil.Process(stranger.pid).children()
        stranger.kill()
        stranger.wait()
        assert takeover.leftovers(path) == [child]
        user = os.geteuid()
        monkeypatch.setattr("os.geteuid", lambda: user + 1)
        assert takeover.leftovers(path) == []
        child.kill()


def test_a_number_that_came_back_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "program.group"
    with sleeper() as stranger:
        takeover.record(path, stranger.pid)
        assert takeover.leftovers(path), "or there would be nothing to leave alone"
        path.write_text(path.read_text().replace('"born": ', '"born": 1'))
        assert takeover.leftovers(path) == []
        takeover.end({"child": psutil.Process(stranger.pid).children()})
        stranger.kill()


def test_a_program_takes_over_from_its_last_run(tmp_path: Path) -> None:
    path = tmp_path / "program.group"
    with sleeper() as old:
        takeover.record(path, old.pid)
        threading.Thread(target=old.wait).start()  # as the supervisor collects its dead
        done = subprocess.run(
            [sys.executable, "-m", "cloister.takeover", str(path), "", "echo", "started"],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
            start_new_session=True,
        )
        assert done.stdout == "started\n"
        assert old.wait(10) is not None
