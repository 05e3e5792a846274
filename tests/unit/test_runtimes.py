"""What the supervisor is told, and how leftovers are found."""

import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cloister import takeover
from cloister.errors import DeploymentError
from cloister.runtimes import EXPORTER, GATEWAY, Program, socket_folder
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
        takeover.end(takeover.leftovers(path))
        assert not child.is_running()
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
        takeover.end([process])
        assert not process.is_running()


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
        takeover.end(psutil.Process(stranger.pid).children())
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
