"""TCP ports of this machine: free, taken and by whom, or not ours to take."""

import errno
import socket

import psutil

from cloister.errors import DeploymentError


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
