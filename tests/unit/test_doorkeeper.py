"""The gateway's files: nothing that nginx refuses is ever put in place."""

import errno
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from cloister import config, events, gateway
from cloister.deployment import record
from cloister.deployment.access import Access
from cloister.deployment.doorkeeper import Doorkeeper
from cloister.deployment.record import Record
from cloister.errors import DeploymentError, GatewayError
from cloister.events import Journal
from cloister.files import exclusive
from cloister.gateway import Place, Tls
from cloister.layout import Layout
from cloister.runtimes import RUNTIMES


class Refusing:
    """A runtime whose nginx may refuse, and that notes what it was shown."""

    def __init__(self, state: Path) -> None:
        self.refuse = False
        self.shown: list[Mapping[str, str]] = []
        self._place = Place(state / "gateway", state / "logs")

    def owned_by(self, user: int) -> None:
        self._place = replace(self._place, owner=user)

    def states(self) -> tuple[()]:
        return ()

    def session(self) -> requests.Session:
        return requests.Session()  # nobody asks anything

    def place(self) -> Place:
        return self._place

    def check_gateway(self, files: Callable[[Place], Mapping[str, str]]) -> None:
        self.shown.append(files(Place(Path("/scratch"), None)))
        if self.refuse:
            raise GatewayError("no")


@pytest.fixture
def runtime(tmp_path: Path) -> Any:
    return Refusing(tmp_path)


@pytest.fixture
def kept(tmp_path: Path, runtime: Any, monkeypatch: pytest.MonkeyPatch) -> Record:
    """A record of two replicas, and a doorkeeper's surroundings without a process."""
    kind = replace(RUNTIMES["process"], make=lambda _: runtime)
    monkeypatch.setitem(RUNTIMES, "process", kind)
    environ = {"CLOISTER_CONFIG": "/dev/null", "CLOISTER_STATE_DIR": str(tmp_path)}
    settings = config.load(flags=("engine=tesseract", "replicas=2"), environ=environ).settings
    return Record(
        settings=settings,
        cores=2,
        standings={"tesseract-1": "serving", "tesseract-2": "serving"},
    )


def keeper(kept: Record) -> Doorkeeper:
    return Doorkeeper(kept.settings, Journal(Layout(kept.settings.state_dir), "test"))


def certify(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    access = Access(tls=Tls(name), files={name: "secret"})
    monkeypatch.setattr("cloister.deployment.access.read", lambda _: access)


def test_files_that_are_not_the_planned_ones_are_told(
    tmp_path: Path, kept: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper(kept).adopt(lambda _: kept)
    path = Layout(tmp_path).nginx_configuration
    planned = path.read_text()
    told = [gateway.generation(planned)]
    monkeypatch.setattr("cloister.deployment.doorkeeper._told", lambda *_: told[0])

    def compare() -> tuple[str, ...]:
        return keeper(kept).compare(lambda: None)[0]

    assert compare() == ()
    path.write_text(planned.replace("listen ", "listen 8444;\n    listen ", 1))
    (path.parent / "further").touch()
    assert compare() == (
        "a file too many: further",
        "other content, or it cannot be read: nginx.conf",
    )
    (path.parent / "further").unlink()
    path.unlink()
    assert compare() == ("a file is missing: nginx.conf",)
    path.write_text(planned)
    told[0] = "another"
    assert compare() == ("nginx tells another generation",)


def test_a_folder_that_cannot_be_closed_is_told(
    tmp_path: Path, kept: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nginx' folder of one `sudo invoke up` is root's."""

    def refused(path: Path, _: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "chmod", refused)
    named = f"{tmp_path / 'gateway'}` cannot be closed to other users: Operation not permitted"
    with pytest.raises(DeploymentError, match=named):
        keeper(kept).adopt(lambda _: kept)


def test_nobody_changes_the_files_while_they_are_looked_at(kept: Record) -> None:
    keeper(kept).adopt(lambda _: kept)
    lock = Layout(kept.settings.state_dir).door_lock

    def look() -> bool:
        with pytest.raises(DeploymentError), exclusive(lock, wait_s=0):
            pass
        return True

    assert keeper(kept).compare(look)[1]


def test_what_nginx_refuses_leaves_the_files_as_they_are(
    tmp_path: Path, runtime: Any, kept: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Layout(tmp_path).nginx_configuration
    keeper(kept).adopt(lambda _: kept)
    before = path.read_text()
    runtime.refuse = True
    certify(monkeypatch, "tls-2.pem")
    with pytest.raises(GatewayError):
        keeper(kept).move(["tesseract-1"], "sick")
    assert path.read_text() == before
    assert record.required(kept.settings) == kept
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_is_there_already_is_not_tried_again(runtime: Any, kept: Record) -> None:
    door = keeper(kept)
    door.adopt(lambda _: kept)
    assert not door.move(["tesseract-2"], "serving")
    assert len(runtime.shown) == 1
    assert door.move(["tesseract-2"], "sick", why="it is")
    assert len(runtime.shown) == 2
    assert record.required(kept.settings).standings["tesseract-2"] == "sick"


def test_a_replica_is_moved_only_from_where_it_is_expected(kept: Record) -> None:
    """As the watchdog and a command may want different things of one replica."""
    door = keeper(kept)
    door.adopt(lambda _: kept)
    door.move(["tesseract-2"], "draining")
    assert not door.move(["tesseract-2"], "serving", only_from={"sick"})
    assert not door.move(["gone-7"], "sick")
    (event,) = events.read(Layout(kept.settings.state_dir))
    assert (event.event, event.replica) == ("draining", "tesseract-2")


def test_a_key_is_its_owners_only(
    tmp_path: Path, runtime: Any, kept: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    certify(monkeypatch, "tls-1.pem")
    keeper(kept).adopt(lambda _: kept)
    path = tmp_path / "gateway" / "tls-1.pem"
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("secret", 0o600)
    assert set(runtime.shown[0]) == {"tls-1.pem", "nginx.conf"}


def test_who_cannot_give_a_key_away_closes_the_folder_around_it(
    tmp_path: Path, runtime: Any, kept: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    certify(monkeypatch, "tls-1.pem")
    runtime.owned_by(10001)
    keeper(kept).adopt(lambda _: kept)
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "gateway" / "tls-1.pem").stat().st_mode & 0o777 == 0o644
