"""What one runtime leaves in the state folder, and what the other finds there."""

import contextlib
import os
import shutil
from pathlib import Path
from unittest import mock

import pytest

from cloister import config, sockets
from cloister.config import Settings
from cloister.deployment.plan import plan, programs
from cloister.errors import DeploymentError
from cloister.layout import Layout
from cloister.runtimes import GATEWAY, Changes
from cloister.runtimes.docker.runtime import DockerRuntime
from cloister.runtimes.process import ProcessRuntime


def load(state: Path, runtime: str) -> Settings:
    environ = {"CLOISTER_CONFIG": "/dev/null", "CLOISTER_STATE_DIR": str(state)}
    return config.load(flags=(f"runtime={runtime}", "engine=tesseract"), environ=environ).settings


def leave(state: Path) -> Layout:
    """Make what a process runtime leaves that was killed: files, and sockets that nobody serves."""
    layout = Layout(state)
    for name in ("body", "proxy", "unused"):
        (layout.gateway / name / "0").mkdir(parents=True)
    for name in ("start.log", "nginx.pid", "nginx.conf"):
        (layout.gateway / name).touch()
    for name in ("engine-1", "exporter", "gateway"):
        (layout.sockets / name).mkdir(parents=True)
        sockets.listen(layout.sockets / name / "sock").close()
    layout.spool.mkdir()
    (layout.spool / "access.log").write_text("a line\n")
    return layout


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_down_of_processes_leaves_neither_sockets_nor_spool_nor_nginx_files(tmp_path: Path) -> None:
    layout = leave(tmp_path)
    runtime = ProcessRuntime(load(tmp_path, "process"))
    assert not runtime.stop(), "nothing ran"
    assert not layout.sockets.exists()
    assert [path.name for path in layout.gateway.iterdir()] == ["nginx.conf"]
    assert not runtime.stop(), "nor is there anything left to remove"


def test_down_of_processes_leaves_what_somebody_serves(tmp_path: Path) -> None:
    layout = leave(tmp_path)
    before = files(layout.sockets)
    with contextlib.closing(sockets.listen(layout.sockets / "exporter" / "sock")):
        ProcessRuntime(load(tmp_path, "process")).stop()
        assert files(layout.sockets) == before
        assert sockets.is_served(layout.sockets / "exporter" / "sock")


@pytest.mark.parametrize("failing", [(sockets, "remove_all"), (shutil, "rmtree")])
def test_down_of_processes_says_what_it_cannot_remove(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failing: tuple[object, str]
) -> None:
    leave(tmp_path)
    monkeypatch.setattr(*failing, mock.Mock(side_effect=PermissionError(13, "no")))
    with pytest.raises(DeploymentError, match="cannot be emptied: no") as raised:
        ProcessRuntime(load(tmp_path, "process")).stop()
    assert "sudo rm -rf" in str(raised.value.hint)


def apply_in_docker(state: Path, monkeypatch: pytest.MonkeyPatch, *there: str) -> None:
    """Let the docker runtime start all of a deployment's programs, some of which are there."""
    settings = load(state, "docker")
    runtime = DockerRuntime(settings)
    inside = tuple(one for one in programs(plan(settings, 4), None) if one.role != "watchdog")
    names = frozenset(one.name for one in inside)
    monkeypatch.setattr(runtime, "_containers", lambda: dict.fromkeys(there, mock.Mock()))
    monkeypatch.setattr(runtime, "changes", lambda _: Changes(names - set(there), names))
    monkeypatch.setattr(runtime, "_compose", lambda *_: "")
    runtime.apply(inside, names)


def test_containers_find_nothing_of_processes_that_were_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They are another user, who could neither replace a socket nor append to the spool."""
    layout = leave(tmp_path)
    apply_in_docker(tmp_path, monkeypatch)
    assert files(layout.sockets) == set()
    assert {path.name for path in layout.gateway.iterdir()} == {"nginx.conf"}


def test_a_gateway_in_docker_that_is_replaced_leaves_its_lines_to_the_exporter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    layout = leave(tmp_path)
    apply_in_docker(tmp_path, monkeypatch, GATEWAY)
    assert files(layout.sockets) == {"spool/access.log"}


@pytest.mark.parametrize("is_foreign", [True, False])
def test_processes_replace_a_spool_that_containers_left_and_keep_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, is_foreign: bool
) -> None:
    layout = leave(tmp_path)
    runtime = ProcessRuntime(load(tmp_path, "process"))
    monkeypatch.setattr(runtime, "_with_nginx", lambda described: described)
    supervisor = mock.Mock(alive=lambda: False)
    monkeypatch.setattr(runtime, "_supervisor", supervisor)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + is_foreign)
    runtime.apply((), set())
    supervisor.start.assert_called_once_with(())
    assert (layout.spool / "access.log").exists() is not is_foreign
    assert {path.name for path in layout.gateway.iterdir()} == {"nginx.conf"}
