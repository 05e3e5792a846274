"""Ways out by connections over the Internet protocols: TCP and its like, TLS and HTTP."""

import errno
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from cloister.inside.ways import interfaces, sending
from cloister.inside.ways.results import (
    PATIENCE_S,
    Result,
    describe,
    describe_code,
    group,
    is_shortage,
    report_reached,
)

# Type and protocol; Python has no name for some of them.
_PROTOCOLS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "mptcp": (socket.SOCK_STREAM, 262),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
_GREETING_S = 0.5  # for what is said on a connection, which is a way out whatever is said
Address = tuple[int, tuple[Any, ...]]


def connect_stream(
    *, host: str, port: int, nonce: str = "", device: str | None = None, protocol: str = "tcp"
) -> Result:
    """Connect, by each interface at once where asked; send the nonce to whoever accepts."""
    with connect(host, port, device=device, protocol=protocol) as connection:
        try:
            connection.sendall(nonce.encode())
            back = connection.recv(200) if nonce else b""
        except OSError as error:
            return report_reached(f"connected; {describe(error)}")
        return report_reached(back.decode(errors="replace") or "connected")


def connect_tls(*, host: str, port: int = 443) -> Result:
    """Connect and shake hands by TLS; whoever accepts was reached, whatever its certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with connect(host, port) as connection:
        try:
            with context.wrap_socket(connection, server_hostname=host) as secured:
                return report_reached(str(secured.version()))
        except OSError as error:
            return report_reached(f"connected, without TLS: {describe(error)}")


@contextmanager
def connect(
    host: str, port: int, *, device: str | None = None, protocol: str = "tcp"
) -> Iterator[socket.socket]:
    """Yield the first connection that is accepted, of those to each address by each interface.

    Raises OSError with the reason of each one when none is, and the kernel's own when something is
    used up; KeyError for an unknown protocol.
    """
    kind = _PROTOCOLS[protocol]
    addresses = _list_addresses(host, port)
    failures: dict[str, str] = {}
    waiting: dict[socket.socket, str] = {}
    with ExitStack() as stack:
        for name in interfaces.choose(device):
            for family, address in addresses:
                label = " ".join(filter(None, (address[0] if len(addresses) > 1 else "", name)))
                try:
                    opened = stack.enter_context(socket.socket(family, *kind))
                    _begin(opened, sending.scope(address, name), name)
                except OSError as error:
                    if is_shortage(error, is_inet4=family == socket.AF_INET):
                        raise
                    failures[label] = describe(error)
                else:
                    waiting[opened] = label
        connection = _await_accepted(waiting, failures)
        connection.settimeout(_GREETING_S)
        yield connection


def _list_addresses(host: str, port: int) -> list[Address]:
    """Return the addresses of a host, each once."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, address) for family, *_, address in answers))


def _begin(connection: socket.socket, address: tuple[Any, ...], device: str | None) -> None:
    connection.settimeout(0)
    if device is not None:
        sending.bind_to_device(connection, device)
    try:
        connection.connect(address)
    except BlockingIOError as error:
        if error.errno != errno.EINPROGRESS:
            raise


def _await_accepted(waiting: dict[socket.socket, str], failures: dict[str, str]) -> socket.socket:
    """Return the first connection that is accepted; raises OSError with all reasons."""
    deadline = sending.Deadline(PATIENCE_S)
    while waiting:
        ready = sending.wait_writable(waiting, deadline.remaining_s)
        for connection in ready:
            code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                return connection
            failures[waiting.pop(connection)] = describe_code(code)
        if not ready:
            failures.update(dict.fromkeys(waiting.values(), "timed out"))
            break
    raise OSError(group(failures))
