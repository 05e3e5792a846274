"""TCP ports of this machine: free, taken and by whom, or not ours to take."""

import contextlib
import errno
import os
import random
import socket
from pathlib import Path

import psutil

from cloister import sockdiag
from cloister.errors import DeploymentError

# Below those that Linux hands out by itself (ip_local_port_range).
_LOWEST, _HIGHEST, _TRIES = 20_000, 32_000, 50
_ROOT = 0


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


def require_ours(host: str, port: int, state: Path) -> None:
    """Raise DeploymentError where only a program that `guard` refuses listens on a port.

    It would get the page and the key that are meant for the service. `host` is an IP address.
    """
    sockdiag.require_listener(host, port, guard(state).users)


def guard(state: Path) -> sockdiag.Guard:
    """Return whose program may be the gateway of a state folder: this user's, root's, its owner's.

    He has the keys anyway.
    """
    return sockdiag.Guard(frozenset({os.geteuid(), _ROOT, state.stat().st_uid}))


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
