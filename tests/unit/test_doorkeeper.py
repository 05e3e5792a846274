"""The gateway's files: nothing that nginx refuses is ever put in place."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cloister import config
from cloister.deployment import plan
from cloister.deployment.access import Access
from cloister.deployment.doorkeeper import Doorkeeper
from cloister.deployment.plan import Entry
from cloister.errors import GatewayError
from cloister.gateway import Place, Tls
from cloister.layout import Layout


class Refusing:
    """A runtime whose nginx may refuse, and that notes what it was shown."""

    def __init__(self, state: Path, owner: int | None = None) -> None:
        self.refuse = False
        self.shown: list[Mapping[str, str]] = []
        self._place = Place(state / "gateway", state / "logs", owner=owner)

    def place(self) -> Place:
        return self._place

    def check_gateway(self, files: Callable[[Place], Mapping[str, str]]) -> None:
        self.shown.append(files(Place(Path("/scratch"), None)))
        if self.refuse:
            raise GatewayError("no")


@pytest.fixture
def runtime(tmp_path: Path) -> Any:
    return Refusing(tmp_path)


def keeper(tmp_path: Path, runtime: Any, access: Access | None = None) -> Doorkeeper:
    environ = {"CLOISTER_CONFIG": "/dev/null", "CLOISTER_STATE_DIR": str(tmp_path)}
    settings = config.load(flags=("engine=tesseract", "replicas=2"), environ=environ).settings
    return Doorkeeper(plan(settings, 2), runtime, access or Access())


def test_what_nginx_refuses_leaves_the_files_as_they_are(tmp_path: Path, runtime: Any) -> None:
    path = Layout(tmp_path).nginx_configuration
    assert keeper(tmp_path, runtime).write(Entry())
    before = path.read_text()
    runtime.refuse = True
    certified = Access(tls=Tls("tls-2.pem"), files={"tls-2.pem": "secret"})
    with pytest.raises(GatewayError):
        keeper(tmp_path, runtime, certified).write(Entry())
    assert path.read_text() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_is_there_already_is_not_tried_again(tmp_path: Path, runtime: Any) -> None:
    door = keeper(tmp_path, runtime)
    assert door.write(Entry())
    assert not door.write(Entry())
    assert door.write(Entry(frozenset({"tesseract-2"})))
    assert len(runtime.shown) == 2


def test_a_key_is_its_owners_only(tmp_path: Path, runtime: Any) -> None:
    certified = Access(tls=Tls("tls-1.pem"), files={"tls-1.pem": "secret"})
    keeper(tmp_path, runtime, certified).write(Entry())
    path = tmp_path / "gateway" / "tls-1.pem"
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("secret", 0o600)
    assert set(runtime.shown[0]) == {"tls-1.pem", "nginx.conf"}


def test_who_cannot_give_a_key_away_closes_the_folder_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    certified = Access(tls=Tls("tls-1.pem"), files={"tls-1.pem": "secret"})
    runtime: Any = Refusing(tmp_path, owner=10001)
    keeper(tmp_path, runtime, certified).write(Entry())
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "gateway" / "tls-1.pem").stat().st_mode & 0o777 == 0o644
