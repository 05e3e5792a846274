"""Containers of a project that this state folder's `up` did not make are left alone."""

from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from cloister import config, containers, deployment
from cloister.config import Settings
from cloister.deployment import record
from cloister.deployment.lifecycle import check, target
from cloister.errors import DeploymentError
from cloister.layout import Layout
from cloister.runtimes.docker.runtime import DockerRuntime

LABEL = "com.docker.compose.project.config_files"
PLAIN = "/srv/cloister/compose/compose.yaml,/srv/cloister/compose/tesseract.yaml"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(containers, "compose", lambda: ("docker-compose",))
    for name in ("connect", "sweep"):
        monkeypatch.setattr(containers, name, mock.Mock())
    environ = {"CLOISTER_CONFIG": "/dev/null", "CLOISTER_STATE_DIR": str(tmp_path)}
    return config.load(flags=("runtime=docker", "engine=tesseract"), environ=environ).settings


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """What Compose is called with, which changes nothing."""
    called = mock.Mock(return_value="")
    monkeypatch.setattr(DockerRuntime, "_compose", called)
    return called


def run(monkeypatch: pytest.MonkeyPatch, files: str, status: str = "running") -> None:
    """Let the project have one container, of these Compose files."""
    state = {"Status": status, "StartedAt": "2026-01-01T00:00:00Z", "ExitCode": 0, "Pid": 7}
    state["FinishedAt"] = state["StartedAt"]
    attrs: dict[str, Any] = {"State": state, "Created": state["StartedAt"], "Image": "sha256:1"}
    found = mock.Mock(labels={LABEL: files}, status=status, attrs=attrs)
    monkeypatch.setattr(containers, "members", lambda *_: {"tesseract-1": found})


@pytest.mark.parametrize("status", ["restarting", "paused"])
def test_what_does_not_run_just_now_is_somebody_elses_as_well(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    run(monkeypatch, PLAIN, status)
    with pytest.raises(DeploymentError, match="already up by plain Compose"):
        check(target(settings, "up"), None)


def test_a_path_with_a_comma_is_ones_own(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = tmp_path / "a, b"
    overlay = Layout(state).docker / "compose.yaml"
    run(monkeypatch, f"/srv/cloister/compose/compose.yaml,{overlay}")
    moved = settings.model_copy(update={"state_dir": state})
    assert [one.name for one in DockerRuntime(moved).states()] == ["tesseract-1"]


@pytest.mark.parametrize("files", [PLAIN, f"{PLAIN},/srv/other/state/docker/compose.yaml", ""])
def test_commands_say_whose_the_project_is_and_change_nothing(
    settings: Settings, composed: mock.Mock, monkeypatch: pytest.MonkeyPatch, files: str
) -> None:
    run(monkeypatch, files)
    wanted = target(settings, "up")
    with pytest.raises(DeploymentError, match="project `cloister` is already up by") as raised:
        check(wanted, None)
    assert files.rpartition(",")[2] in str(raised.value)
    assert "docker.project" in str(raised.value.hint)
    with pytest.raises(DeploymentError, match="already up by plain Compose"):
        deployment.down(settings)
    record.write(wanted)
    with pytest.raises(DeploymentError, match="already up by plain Compose"):
        deployment.status(settings)
    assert DockerRuntime(settings).states() == ()
    composed.assert_not_called()


def test_a_running_older_version_of_the_same_state_folder_is_ones_own(
    settings: Settings, composed: mock.Mock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    older = "/srv/cloister-0.1/compose/compose.yaml"
    run(monkeypatch, f"{older},{link}/docker/compose.yaml,/srv/override.yaml")
    runtime = DockerRuntime(settings)
    runtime.require_own()
    assert [state.name for state in runtime.states()] == ["tesseract-1"]
    assert deployment.down(settings)
    composed.assert_called_once_with("down", "--remove-orphans")


def test_what_somebody_else_stopped_is_in_nobodys_way(
    settings: Settings, composed: mock.Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, PLAIN, "exited")
    DockerRuntime(settings).require_own()
    assert not deployment.down(settings)
    composed.assert_not_called()
