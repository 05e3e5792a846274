"""What all ways out over the Internet protocols share: interfaces, addresses and waiting."""

import selectors
import socket
import time
from collections.abc import Iterable
from typing import Any

from cloister.inside.ways import interfaces


class Deadline:
    """A moment from which nothing more is awaited."""

    def __init__(self, patience_s: float) -> None:
        self._at = time.monotonic() + patience_s

    @property
    def remaining_s(self) -> float:
        """How long there still is to wait; 0 when the moment has passed."""
        return max(0.0, self._at - time.monotonic())


def wait_writable(sockets: Iterable[socket.socket], timeout_s: float) -> list[socket.socket]:
    """Return the sockets whose connection has come about or failed; none after `timeout_s`."""
    return _wait(sockets, selectors.EVENT_WRITE, timeout_s)


def wait_readable(sockets: Iterable[socket.socket], timeout_s: float) -> list[socket.socket]:
    """Return the sockets on which something arrived; none after `timeout_s`."""
    return _wait(sockets, selectors.EVENT_READ, timeout_s)


def bind_to_device(one: socket.socket, device: str) -> None:
    """Send and receive by one interface, past the routes; raises OSError."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())


def scope(address: tuple[Any, ...], device: str | None) -> tuple[Any, ...]:
    """Return an IPv6 address as that of a host beyond an interface; others as they are.

    Raises OSError when there is no interface of that name.
    """
    is_inet6 = ":" in address[0]
    if device is None or not is_inet6:
        return address
    return (*address[:2], 0, interfaces.read_index(device))


def _wait(sockets: Iterable[socket.socket], event: int, timeout_s: float) -> list[socket.socket]:
    with selectors.DefaultSelector() as selector:
        for one in sockets:
            selector.register(one, event)
        ready = [key.fileobj for key, _ in selector.select(timeout_s)]
    return [one for one in ready if isinstance(one, socket.socket)]
