"""The rendered gateway."""

import json
import re
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

from cloister import gateway, nginx
from cloister.config import GatewaySettings
from cloister.engines import Replica
from cloister.errors import GatewayError, ToolError
from cloister.gateway import Place

PLACE = Place(Path("/state/gateway"), Path("/state/logs"))
EXPORTER = "127.0.0.1:8100"


def replicas(count: int) -> list[Replica]:
    return [Replica(f"tesseract-{number + 1}", 8101 + number) for number in range(count)]


def test_one_replica(golden: Callable[[str, str], None]) -> None:
    golden("nginx-1.conf", gateway.render(GatewaySettings(), replicas(1), EXPORTER, PLACE))


def test_three_replicas_on_ipv6_with_a_worker_user(golden: Callable[[str, str], None]) -> None:
    settings = GatewaySettings(address=ip_address("::1"), port=9001, timeout_s=600)
    place = Place(PLACE.folder, PLACE.logs, "nobody nogroup")
    golden("nginx-3.conf", gateway.render(settings, replicas(3), EXPORTER, place))


def test_a_replica_that_has_not_read_yet_gets_no_page() -> None:
    first, second = replicas(2)
    text = gateway.render(GatewaySettings(), [first, second], EXPORTER, PLACE, {"tesseract-2"})
    assert "server 127.0.0.1:8102 max_fails=0 down;" in text
    assert gateway.gives_pages_to(text, first)
    assert not gateway.gives_pages_to(text, second)


def test_every_refusal_is_json_in_openais_shape() -> None:
    text = gateway.render(GatewaySettings(), replicas(1), EXPORTER, PLACE)
    bodies = re.findall(r"return (\d+) '(\{\"error\".*)';", text)
    assert {int(status) for status, _ in bodies} >= {400, 404, 405, 413, 429, 500, 502, 503, 504}
    for _, body in bodies:
        assert "'" not in body  # it would end nginx' string
        assert "$" not in body  # it would be a variable
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("folder", ["/a b", '/a"b', "/a;b", "/a{b", "/a$b", "/a\nb", "/a'b"])
def test_a_path_that_nginx_would_misread_is_refused(folder: str) -> None:
    with pytest.raises(GatewayError, match="plain characters"):
        gateway.render(GatewaySettings(), replicas(1), EXPORTER, Place(Path(folder), PLACE.logs))


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8001"),
        ("::1", "http://[::1]:8001"),
        ("0.0.0.0", "http://localhost:8001"),  # noqa: S104  # what is tested
    ],
)
def test_the_url_is_one_that_this_machine_can_use(address: str, url: str) -> None:
    assert gateway.url(GatewaySettings(address=ip_address(address))) == url


def fake_nginx(folder: Path, version: str) -> Path:
    program = folder / "nginx"
    program.write_text(f"#!/bin/sh\necho 'nginx version: nginx/{version}' >&2\n")
    program.chmod(0o755)
    return program


def test_an_old_nginx_is_refused_and_a_new_one_taken(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"1\.18\.0.*expected nginx 1\.20 or newer"):
        nginx.find(fake_nginx(tmp_path, "1.18.0"))
    program = fake_nginx(tmp_path, "1.20.0")
    assert nginx.find(program) == program


def test_no_nginx_at_all_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(nginx, "_FOLDERS", ())
    with pytest.raises(ToolError, match="nginx is not installed") as raised:
        nginx.find(None)
    assert "apt-get install nginx" in str(raised.value)


def test_workers_are_nobody_only_where_nobody_can_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert nginx.worker_user(closed / "state") is None
    assert (nginx.worker_user(Path("/")) or "").startswith("nobody ")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert nginx.worker_user(Path("/")) is None
