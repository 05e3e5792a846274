"""The rendered gateway."""

import datetime as dt
import json
import re
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from cloister import gateway, keys, nginx
from cloister.config import GatewaySettings
from cloister.endpoint import Listener, UnixSocket
from cloister.engines import AnswerLimits, Replica
from cloister.errors import GatewayError, ToolError
from cloister.gateway import Door, Place, Tls, Upstream, render
from cloister.gateway.answers import STATUSES, TYPES
from cloister.keys import Key

PLACE = Place(Path("/state/gateway"), Path("/state/logs"), Path("/state/run/http/spool/access.log"))
ANSWER = AnswerLimits(64, 3600)
ALICE = Key(
    name="alice",
    digest=keys.digest("cloister_alice.secret"),
    created=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    rate="60/min",
    concurrency=4,
    expires=dt.datetime(2030, 1, 1, tzinfo=dt.UTC),
)
BOB = Key(name="bob", digest="b" * 22, created=ALICE.created, rate="1/min")


def at(folder: str) -> UnixSocket:
    return UnixSocket(Path(f"/state/run/http/{folder}/sock"))


def door(count: int, settings: GatewaySettings | None = None, **more: Any) -> Door:
    replicas = (
        Replica(f"tesseract-{number}", Listener.at(at(f"engine-{number}")))
        for number in range(1, count + 1)
    )
    upstreams = tuple(Upstream(replica, max_conns=34) for replica in replicas)
    told = settings or GatewaySettings()
    return Door(told, upstreams, ANSWER, 310, exporter=at("exporter"), status=at("gateway"), **more)


def test_one_replica(golden: Callable[[str, str], None]) -> None:
    golden("nginx-1.conf", render(door(1), PLACE))


def test_three_replicas_with_everything(golden: Callable[[str, str], None]) -> None:
    settings = GatewaySettings(
        address=ip_address("::1"),
        port=9001,
        timeout_s=600,
        server_names=("ocr.example.org", "localhost"),
        cors_origins=("https://app.example.org",),
    )
    place = replace(PLACE, worker_user="root root", version=(1, 22), reserved=True)
    told = door(3, settings, keys=(ALICE, BOB), tls=Tls("tls-1.pem", "clients-2.pem"))
    golden("nginx-3.conf", render(told, place))


def test_a_replica_that_has_not_read_yet_gets_no_page() -> None:
    told = door(2)
    first, second = told.upstreams
    text = render(replace(told, upstreams=(first, replace(second, down=True))), PLACE)
    server = f"server {at('engine-2')} weight=1 max_conns=34 max_fails=3 fail_timeout=5s down;"
    assert server in text
    assert text.count(" down;") == 2  # for pages, and for what is none


def test_the_documented_statuses_are_those_that_pass() -> None:
    documented = (Path(__file__).parents[2] / "docs/gateway.md").read_text(encoding="utf-8")
    assert f"| status | {', '.join(map(str, STATUSES))} |" in documented
    for kind in TYPES:
        assert f"`{kind}`" in documented


def test_the_generation_changes_with_every_word() -> None:
    texts = [
        render(told, PLACE) for told in (door(1), door(2), door(1, keys=()), door(1, keys=(ALICE,)))
    ]
    generations = [gateway.generation(text) for text in texts]
    assert all(len(one) == 16 for one in generations)
    assert len(set(generations)) == len(texts)
    assert gateway.generation(render(door(1), PLACE)) == generations[0]
    assert gateway.generation("something else") == ""


def test_keys_are_written_as_hashes_and_limits_once_each() -> None:
    text = render(door(1, keys=(ALICE, BOB, BOB.model_copy(update={"name": "carol"}))), PLACE)
    assert "cloister_alice.secret" not in text
    assert f'"{ALICE.digest},1893456000"' in text
    assert text.count("zone=rate_60_m:1m rate=60r/m") == 1
    assert text.count("zone=rate_1_m:1m rate=1r/m") == 1
    assert "limit_req zone=rate_60_m burst=59 nodelay;" in text
    assert "limit_req zone=rate_1_m;" in text
    assert 'local most = { ["alice"] = 4, }' in text
    assert 'bob" 61;' in text, "when a key of one request a minute may come back"


def test_without_keys_nobody_is_asked_and_with_none_left_nobody_enters() -> None:
    assert "return 401;" not in render(door(1), PLACE)
    assert "return 401;" in render(door(1, keys=()), PLACE)


@pytest.mark.parametrize(("version", "line"), [((1, 22), "ssl http2;"), ((1, 26), "http2 on;")])
def test_http2_is_written_as_the_version_wants_it(version: tuple[int, int], line: str) -> None:
    text = render(door(1, tls=Tls("tls-1.pem")), replace(PLACE, version=version))
    assert line in text
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in text


def test_every_refusal_is_json_in_openais_shape() -> None:
    text = render(door(1), PLACE)
    bodies = re.findall(r"return (\d+) '(\{\"error\".*)';", text)
    wanted = {400, 401, 404, 405, 413, 421, 429, 500, 502, 503, 504}
    assert {int(status) for status, _ in bodies} >= wanted
    for _, body in bodies:
        assert "'" not in body  # it would end nginx' string
        assert "$" not in body  # it would be a variable
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("folder", ["/a b", '/a"b', "/a;b", "/a{b", "/a$b", "/a\nb", "/a'b"])
def test_a_path_that_nginx_would_misread_is_refused(folder: str) -> None:
    with pytest.raises(GatewayError, match="plain characters"):
        render(door(1), Place(Path(folder), PLACE.logs))


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8001"),
        ("::1", "http://[::1]:8001"),
        ("0.0.0.0", "http://127.0.0.1:8001"),  # noqa: S104  # what is tested
        ("::", "http://[::1]:8001"),
    ],
)
def test_the_url_is_one_that_this_machine_can_use(address: str, url: str) -> None:
    settings = GatewaySettings(address=ip_address(address))
    assert gateway.url(settings) == url
    secure = settings.model_copy(update={"certificate": Path("/server.crt")})
    assert gateway.url(secure) == url.replace("http:", "https:")


def fake_nginx(folder: Path, version: str) -> Path:
    program = folder / "nginx"
    told = f"nginx version: nginx/{version} --modules-path={folder}"
    program.write_text(f"#!/bin/sh\necho '{told}' >&2\n")
    program.chmod(0o755)
    return program


def test_an_old_nginx_is_refused_and_a_new_one_taken(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"1\.18\.0.*expected nginx 1\.20 or newer"):
        nginx.find(fake_nginx(tmp_path, "1.18.0"))
    for name in ("ndk_http_module.so", "ngx_http_lua_module.so"):
        (tmp_path / name).touch()
    program = fake_nginx(tmp_path, "1.20.0")
    assert nginx.find(program) == program


def test_an_nginx_without_its_lua_module_says_which_package_has_it(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="lacks its Lua module") as raised:
        nginx.find(fake_nginx(tmp_path, "1.22.1"))
    assert "apt-get install libnginx-mod-http-lua" in str(raised.value)


def test_no_nginx_at_all_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(nginx, "_FOLDERS", ())
    with pytest.raises(ToolError, match="nginx is not installed") as raised:
        nginx.find(None)
    assert "apt-get install nginx" in str(raised.value)


def test_the_workers_of_roots_nginx_are_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a user, nginx gave them to the one that it was compiled with."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert nginx.worker_user() == "root root"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert nginx.worker_user() is None
