"""Ports that stay this user's, and whose program listens on one."""

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from deployments import free_ports, program

from cloister import chat, ports, sockdiag
from cloister.config import GatewaySettings
from cloister.errors import DeploymentError
from cloister.isolation import routes
from cloister.runtimes.reservation import Reservations, reserve, reserved
from cloister.sockdiag import Guard, find_user

HOST, ANY, ANY_IPV6 = "127.0.0.1", "0.0.0.0", "::"  # noqa: S104  # what is tested
# A state folder of nobody here.
STATE: Any = SimpleNamespace(stat=lambda: SimpleNamespace(st_uid=1236))


def listen(host: str, port: int, *, shares: bool = False) -> socket.socket:
    """Listen as nginx does, with `reuseport` or without."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shares)
        made.bind((host, port))
        made.listen()
    except BaseException:
        made.close()
        raise
    return made


@pytest.mark.parametrize("host", [HOST, ANY])
def test_a_reserved_port_is_for_who_shares_it_and_takes_no_connections(host: str) -> None:
    port = free_ports(1)
    with closing(reserve(host, port)):
        for other in (HOST, ANY):
            with pytest.raises(OSError, match="in use"):
                listen(other, port)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, port))
        with listen(host, port, shares=True) as server, socket.create_connection((HOST, port)):
            server.accept()[0].close()


def test_all_ipv6_addresses_are_held_without_those_of_ipv4() -> None:
    port = free_ports(1)
    with closing(reserve(ANY_IPV6, port)):
        listen(HOST, port).close()
        with pytest.raises(OSError, match="in use"):
            listen(ANY_IPV6, port)


def test_ports_are_held_until_others_are_to_be() -> None:
    first, held = free_ports(2), Reservations()
    with listen(HOST, first + 1):
        assert held.keep([(HOST, first), (HOST, first + 1)]), "who listens there is left alone"
    with pytest.raises(OSError, match="in use"):
        listen(HOST, first)
    held.keep([(HOST, first + 1)])
    listen(HOST, first).close()
    with pytest.raises(OSError, match="in use"):
        listen(HOST, first + 1)
    held.keep([])
    with reserved([(HOST, first + 1)]), pytest.raises(OSError, match="in use"):
        listen(HOST, first + 1)
    listen(HOST, first + 1).close()


def test_a_port_that_is_not_held_is_told_and_held_as_soon_as_it_can_be() -> None:
    port, held = free_ports(1), Reservations()
    with listen(HOST, port):
        held.keep([(HOST, port)])
        told = [f"{HOST}:{port} (Address already in use)"]
        assert (held.lost(), held.renew(), held.lost()) == (told, told, told)
    assert held.renew() == held.lost() == []
    with pytest.raises(OSError, match="in use"):
        listen(HOST, port)
    os.close(
        held._sockets[HOST, port]._socket.fileno()
    )  # as a program that closes all its descriptors
    assert held.lost() == [f"{HOST}:{port} (it was closed)"]
    with listen(HOST, port):
        assert held.renew() == told
    assert held.renew() == []
    held.keep([])
    assert held.lost() == []
    listen(HOST, port).close()


@pytest.mark.parametrize("address", [HOST, ANY, ANY_IPV6])
def test_a_program_of_another_user_is_not_taken_for_the_service(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_ports(1)
    ports.require_ours(HOST, port, STATE)
    with listen(address, port):
        ports.require_ours(HOST, port, STATE)
        monkeypatch.setattr("os.geteuid", lambda: 1234)
        monkeypatch.setattr(ports, "_ROOT", 1235)
        with pytest.raises(DeploymentError, match=f"listens on {HOST}:{port}, not the service's"):
            ports.require_ours(HOST, port, STATE)
        if address == HOST:
            ports.require_ours("127.0.0.3", port, STATE)
        ports.require_ours(HOST, port + 1, STATE)


OURS, STRANGER = Guard(frozenset({os.geteuid()})), Guard(frozenset({1235}))


@pytest.mark.parametrize("accepts", [True, False])
@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("address", [HOST, ANY, ANY_IPV6, "::1"])
def test_whose_program_is_at_the_other_end_of_a_connection(
    address: str,
    shares: bool,  # noqa: FBT001
    accepts: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it is not accepted the kernel calls it root's, and the next one could be anybody's."""
    port = free_ports(1)
    # The kernel has to know it without /proc/net.
    monkeypatch.setattr("cloister.sockdiag._listeners", lambda: iter(()))
    with ExitStack() as opened:
        server = opened.enter_context(listen(address, port, shares=shares))
        to = "::1" if address == "::1" else HOST
        client = opened.enter_context(socket.create_connection((to, port)))
        if accepts:
            opened.enter_context(server.accept()[0])
        assert find_user(client) == os.geteuid()
        OURS.require(client)
        with pytest.raises(DeploymentError, match=f"user {os.geteuid()} listens on {to}:{port}"):
            STRANGER.require(client)


def accept(server: socket.socket, opened: ExitStack) -> None:
    opened.enter_context(server.accept()[0])
    server.close()


def test_who_accepts_and_listens_no_more_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two questions to the kernel: then he is not the one who listens now."""
    port, asked, asks = free_ports(1), [0], sockdiag._ask
    with ExitStack() as opened:
        server = opened.enter_context(listen(HOST, port))
        client = opened.enter_context(socket.create_connection((HOST, port)))

        def ask(kernel: socket.socket, *which: Any) -> Any:
            found = asks(kernel, *which)
            asked[0] += 1
            if asked[0] == 1:
                accept(server, opened)
            return found

        monkeypatch.setattr(sockdiag, "_ask", ask)
        assert find_user(client) == os.geteuid()
        assert asked == [3]


@pytest.mark.parametrize("number", [99, 31])  # no such protocol, and one of another kind
def test_without_sock_diag_it_is_asked_who_listens(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockdiag, "_SOCK_DIAG", number)
    port = free_ports(1)
    with listen(HOST, port), socket.create_connection((HOST, port)) as client:
        assert find_user(client) is None
        OURS.require(client)
        with pytest.raises(DeploymentError, match="listens on"):
            STRANGER.require(client)


def test_a_session_sends_nothing_to_another_users_program() -> None:
    """Each new connection is asked for: the program that listened before may be gone by now."""
    port = free_ports(1)
    enter = chat.Pass(f"http://{HOST}:{port}", key="secret", guard=STRANGER)
    with listen(HOST, port) as server:
        for url in (enter.url, enter.url.replace("http:", "https:")):
            with chat.session(enter) as session, pytest.raises(DeploymentError, match="listens on"):
                session.get(url, timeout=30)
            with server.accept()[0] as taken:
                assert taken.recv(4096) == b""
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        with (
            ThreadPoolExecutor(1) as threads,
            chat.session(replace(enter, guard=OURS)) as session,
        ):
            got = threads.submit(session.get, enter.url, timeout=30)
            with server.accept()[0] as taken:
                assert b"Bearer secret" in taken.recv(4096)
                taken.sendall(answer)
            assert got.result().ok


def test_a_proof_of_the_seal_sends_no_key_to_another_users_program() -> None:
    port = free_ports(1)
    enter = chat.Pass(f"http://{HOST}:{port}", key="secret", guard=STRANGER)
    with listen(HOST, port) as server:
        settings = GatewaySettings(port=port)
        found = routes.other_addresses(settings, enter, [HOST, "127.0.0.2"])
        assert (found.verdict, found.evidence) == ("unproven", f"no answer on {HOST}")
        with server.accept()[0] as taken:
            assert taken.recv(4096) == b""


ASK_AS_LOCUST = """
import sys
from geventhttpclient import HTTPClient
from loadtests import guarding
guarding.guard(None if sys.argv[2] == "None" else [int(sys.argv[2])])
try:
    print(HTTPClient("127.0.0.1", int(sys.argv[1])).get("/").status_code)
except OSError as error:
    print(type(error).__name__, error.strerror)
"""


@pytest.mark.parametrize("user", [None, os.geteuid(), 1235])
def test_a_load_test_sends_nothing_to_another_users_program(user: int | None) -> None:
    port = free_ports(1)
    command = [sys.executable, "-c", ASK_AS_LOCUST, str(port), str(user)]
    with (
        listen(HOST, port) as server,
        program(command, stdout=subprocess.PIPE, text=True) as client,
        server.accept()[0] as taken,
    ):
        got = taken.recv(4096)
        taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" if got else b"")
        said = client.communicate(timeout=60)[0]
    refused = f"StrangerError a program of user {os.geteuid()} listens on {HOST}:{port}, not the "
    assert bool(got) is (user != 1235)
    assert said.startswith("200" if got else refused)


def test_a_kernel_without_ipv6_has_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.name != "tcp6" and exists(path))
    ports.require_ours(HOST, free_ports(1), STATE)
