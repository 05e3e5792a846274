"""Changes of a gateway that is carrying pages: none is lost, and nothing bad is taken up."""

import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE

import pytest
import requests
from deployments import Stack, eventually, program
from gateways import PEM, Gateway, gateway, without
from load import PATH, load, until
from repetitions import REPETITIONS
from stubs import Stub, stub

from cloister import certificates, chat
from cloister.endpoint import TcpAddress, UnixSocket
from cloister.gateway import generation
from cloister.layout import Layout

RELOADS = REPETITIONS.reloads
PAGES = 4  # that are answered between two reloads


@pytest.fixture
def replicas() -> Iterator[list[Stub]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(stub(name, chunks=10, chunk_ms=4)) for name in ("first", "second")
        ]


@pytest.mark.parametrize("stream", [False, True])
def test_reloads_under_load_cost_no_page(replicas: list[Stub], stream: bool) -> None:  # noqa: FBT001
    """The replicas are taken out and in again in turns, as scaling does it."""
    with (
        gateway([one.address for one in replicas]) as door,
        load(door.url, stream=stream) as outcome,
    ):
        doors = [without(door.door, name) for name in ("stub-1", "stub-2")]
        for number in range(RELOADS):
            door.reload(doors[number % 2])
            until(outcome, PAGES)
    print(f"{RELOADS} reloads: {outcome}")  # noqa: T201  # with -s, the figures of the docs
    assert outcome.sent >= RELOADS * PAGES
    assert outcome.lost == 0
    assert min(outcome.by_replica.values()) >= RELOADS // 2


def test_a_stream_that_has_begun_ends_with_the_old_worker(replicas: list[Stub]) -> None:
    replicas[0].behave("slow", chunk_ms=300)
    with gateway([replicas[0].address]) as door:
        body = {"model": "stub", "stream": True}
        with requests.post(f"{door.url}{PATH}", json=body, stream=True, timeout=30) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith(b"data:")
            for _ in range(3):
                door.reload(replace(door.door, exporter=TcpAddress("127.0.0.1", 9 + _)))
            rest = [line for line in lines if line]
    assert rest[-1] == b"data: [DONE]"
    assert len(rest) == 10


def _pem(folder: Path) -> str:
    return certificates.load(*certificates.server(folder, [], 10)).text


def _served(port: int) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain) as one,
    ):
        return one.getpeercert(binary_form=True) or b""


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_new_certificate_is_taken_up_under_load(replicas: list[Stub], tmp_path: Path) -> None:
    certificates.authority(tmp_path)
    with gateway([one.address for one in replicas], pem=_pem(tmp_path)) as door:
        with load(door.url) as outcome:
            seen = {_served(door.port)}
            for number in range(5):
                changed = replace(door.door, exporter=TcpAddress("127.0.0.1", 9 + number))
                door.reload(changed, {PEM: _pem(tmp_path)})
                seen.add(eventually(lambda: _another(door, seen)))
        print(f"5 certificates: {outcome}")  # noqa: T201
    assert outcome.lost == 0
    assert len(seen) == 6


def _another(door: Gateway, seen: set[bytes]) -> bytes:
    now = _served(door.port)
    assert now not in seen
    return now


def test_a_certificate_that_cannot_be_used_changes_nothing(fresh: Stack) -> None:
    fresh.invoke("tls.create")
    fresh.invoke("up")
    before = (fresh.state / "gateway" / "nginx.conf").read_bytes()
    pids, served = fresh.pids(), _served(fresh.port)
    key = fresh.state / "tls" / "server.key"
    key.write_text("-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n")
    assert "not a private key" in fresh.invoke("up", code=13).stderr
    assert (fresh.state / "gateway" / "nginx.conf").read_bytes() == before
    assert _served(fresh.port) == served
    fresh.invoke("tls.create")
    assert _served(fresh.port) != served, "the new one is in force when the command ends"
    assert fresh.pids() == pids
    assert len(list((fresh.state / "gateway").glob("*.pem"))) == 1


def test_what_nginx_refuses_never_replaces_what_works(
    fresh: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh.invoke("up")
    path = fresh.state / "gateway" / "nginx.conf"
    before, pids = path.read_bytes(), fresh.pids()
    # An authority that is a certificate, and that no client's could ever be checked against.
    fresh.invoke("tls.create")
    made = fresh.state / "tls" / "client-operator.pem"
    made.write_text((fresh.state / "tls" / "server.crt").read_text())
    monkeypatch.setitem(fresh.settings, "CLOISTER_GATEWAY_CLIENT_CERTIFICATE", str(made))
    monkeypatch.setitem(fresh.settings, "CLOISTER_GATEWAY_CLIENT_CA", "/etc/hostname")
    assert "no certificate in PEM" in fresh.invoke("up", code=13).stderr
    assert path.read_bytes() == before
    assert fresh.pids() == pids
    assert requests.get(f"{fresh.url}/health", timeout=5).status_code == 200


def test_what_a_killed_command_left_is_taken_up_by_the_next(fresh: Stack) -> None:
    """A command that was killed between writing the files and the signal."""
    fresh.invoke("up")
    path, url = fresh.state / "gateway" / "nginx.conf", f"{fresh.url}/v1/models"
    without_keys = path.read_text()
    fresh.settings["CLOISTER_GATEWAY_KEYS"] = "true"
    fresh.invoke("keys.create", "alice")
    assert requests.get(url, timeout=5).status_code == 200, "only `up` changes what is asked for"
    fresh.invoke("up")
    assert requests.get(url, timeout=5).status_code == 401
    status = UnixSocket(Layout(fresh.state).sockets / "gateway" / "sock")
    with chat.session(status.url) as session:
        told = session.get(f"{status.url}/-/generation", timeout=5)
    assert told.text == generation(path.read_text())
    # The text that is wanted is there, and the gateway never saw it.
    path.write_text(without_keys)
    assert requests.get(url, timeout=5).status_code == 401
    fresh.settings["CLOISTER_GATEWAY_KEYS"] = "false"
    fresh.invoke("up")
    assert requests.get(url, timeout=5).status_code == 200


def test_two_commands_at_once_do_not_meet(fresh: Stack) -> None:
    fresh.settings["CLOISTER_GATEWAY_KEYS"] = "true"
    fresh.invoke("up")
    command = [sys.executable, "-m", "invoke", "keys.create"]
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                program([*command, f"key-{number}"], env=fresh.environment, stderr=PIPE)
            )
            for number in range(4)
        ]
        said = [one.communicate(timeout=240)[1].decode() for one in running]
    codes = [one.returncode for one in running]
    assert set(codes) <= {0, 6}
    assert sum("another Cloister command" in text for text in said) == codes.count(6)
    names = {key["name"] for key in fresh.json("keys.list")}
    assert len(names - {"operator"}) == codes.count(0) >= 1
