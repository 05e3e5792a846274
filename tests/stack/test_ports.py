"""Ports that stay this user's, and whose program listens on one."""

import socket
from contextlib import closing
from pathlib import Path

import pytest
from deployments import free_ports

from cloister import ports
from cloister.errors import DeploymentError
from cloister.runtimes.reservation import Reservations, reserve, reserved

HOST, ANY, ANY_IPV6 = "127.0.0.1", "0.0.0.0", "::"  # noqa: S104  # what is tested


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


@pytest.mark.parametrize("address", [HOST, ANY, ANY_IPV6])
def test_a_program_of_another_user_is_not_taken_for_the_service(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_ports(1)
    ports.require_ours(HOST, port)
    with listen(address, port):
        ports.require_ours(HOST, port)
        monkeypatch.setattr("os.geteuid", lambda: 1234)
        monkeypatch.setattr(ports, "_ROOT", 1235)
        with pytest.raises(DeploymentError, match=f"listens on {HOST}:{port}, not the service's"):
            ports.require_ours(HOST, port)
        if address == HOST:
            ports.require_ours("127.0.0.3", port)
        ports.require_ours(HOST, port + 1)


def test_a_kernel_without_ipv6_has_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.name != "tcp6" and exists(path))
    ports.require_ours(HOST, free_ports(1))
