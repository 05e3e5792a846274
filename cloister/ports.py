"""TCP ports of this machine: free, taken and by whom, or not ours to take."""

import contextlib
import errno
import os
import random
import socket
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import psutil

from cloister.errors import DeploymentError

# Below those that Linux hands out by itself (ip_local_port_range).
_LOWEST, _HIGHEST, _TRIES = 20_000, 32_000, 50
_ROOT, _LISTENS = 0, "0A"  # of include/net/tcp_states.h
_ORDER = -1 if sys.byteorder == "little" else 1  # of each word of an address in /proc/net


def require_free(host: str, port: int, *, key: str) -> None:
    """Raise DeploymentError unless `host:port` can be bound; `key` is the setting to change."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise DeploymentError(
                f"port {port} on {host} cannot be used: {_reason(error, port)}",
                hint=f"stop what uses it, or choose another with `{key}`",
            ) from error


def require_ours(host: str, port: int) -> None:
    """Raise DeploymentError where only another user's program, root's aside, listens on a port.

    It would get the page and the key that are meant for the service. `host` is an IP address.
    """
    listeners = [(user, address) for user, address, its_port in _listeners() if its_port == port]
    at_it = {user for user, address in listeners if address == ip_address(host)}
    # Who listens at all addresses gets what is for no other one, and may do so for IPv6 alone.
    users = at_it or {user for user, address in listeners if address.is_unspecified}
    if users and not users & {os.geteuid(), _ROOT}:
        raise DeploymentError(
            f"a program of user {min(users)} listens on {host}:{port}, not the service's gateway",
            hint="invoke status; another port is `gateway.port`",
        )


def _listeners() -> Iterator[tuple[int, IPv4Address | IPv6Address, int]]:
    """Yield the user, address and port of every TCP socket that listens; psutil tells no user."""
    for path in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in path.read_text(encoding="ascii").splitlines()[1:] if path.exists() else ():
            columns = line.split()
            if columns[3] != _LISTENS:
                continue
            digits, _, port = columns[1].partition(":")
            words = [bytes.fromhex(digits[n : n + 8])[::_ORDER] for n in range(0, len(digits), 8)]
            yield int(columns[7]), _plain(ip_address(b"".join(words))), int(port, 16)


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def free(count: int) -> int:
    """Return the first of `count` ports in a row on 127.0.0.1 that nobody listens on now.

    Raises DeploymentError when there are none.
    """
    for first in random.sample(range(_LOWEST, _HIGHEST - count), _TRIES):
        with contextlib.ExitStack() as sockets:
            try:
                for port in range(first, first + count):
                    sockets.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
        return first
    raise DeploymentError(f"no {count} free ports in a row on 127.0.0.1")


def _reason(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{_owner(port)} listens on it"
    if error.errno == errno.EACCES:
        return "ports below 1024 need root"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    return str(error.strerror)


def _owner(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid
            ):
                return f"`{psutil.Process(connection.pid).name()}` (process {connection.pid})"
    except psutil.Error:  # another user's process: its name is not ours to know
        pass
    return "another process"
