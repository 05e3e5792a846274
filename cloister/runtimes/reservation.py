"""Ports that stay this user's while no program listens on them; supervisord runs this.

Between the end of one nginx and the start of the next, any user could take the port otherwise, and
get the pages and keys of clients.
"""

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence

NAMESPACE = "ports"
Address = tuple[str, int]


def reserve(host: str, port: int) -> socket.socket:
    """Return a socket that holds a port and gets no connections; raises OSError.

    Only one of the same user that has SO_REUSEPORT as well can be bound to the port then: nginx's.
    """
    is_ipv6 = ":" in host
    made = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if is_ipv6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
    except BaseException:
        made.close()
        raise
    return made


@contextlib.contextmanager
def reserved(addresses: Sequence[Address]) -> Iterator[None]:
    """Hold ports for as long as the block takes."""
    ports = Reservations()
    try:
        ports.keep(addresses)
        yield
    finally:
        ports.keep(())


class _Held:
    """A socket of this process, the rest of which may close it by its number."""

    def __init__(self, made: socket.socket) -> None:
        self._socket, self._inode = made, os.fstat(made.fileno()).st_ino

    def is_open(self) -> bool:
        try:
            return os.fstat(self._socket.fileno()).st_ino == self._inode
        except OSError:
            return False

    def release(self) -> None:
        if self.is_open():
            self._socket.close()
        else:
            self._socket.detach()  # its number may be another file's by now


class Reservations:
    """The ports that this process holds; supervisord offers its methods as `ports.keep` etc."""

    def __init__(self) -> None:
        self._wanted: tuple[Address, ...] = ()
        self._sockets: dict[Address, _Held] = {}
        self._reasons: dict[Address, str] = {}

    def keep(self, addresses: Sequence[Address]) -> bool:
        """Hold these ports, and no others.

        One on which somebody listens is left out: nginx will say so, or it is that of an earlier
        version. `renew` tries it again.
        """
        self._wanted = tuple((str(host), int(port)) for host, port in addresses)
        for address in self._sockets.keys() - set(self._wanted):
            self._sockets.pop(address).release()
        self.renew()
        return True

    def renew(self) -> list[str]:
        """Hold what was asked for and is not held; return what cannot be, as `lost`."""
        for address in self._wanted:
            if address in self._sockets and not self._sockets[address].is_open():
                self._sockets.pop(address).release()
            if address not in self._sockets:
                try:
                    self._sockets[address] = _Held(reserve(*address))
                    self._reasons.pop(address, None)
                except OSError as error:
                    self._reasons[address] = str(error.strerror)
        return self.lost()

    def lost(self) -> list[str]:
        """Return what was asked for and is not held, with the reason."""
        return [
            f"{address[0]}:{address[1]} ({self._reasons.get(address, 'it was closed')})"
            for address in self._wanted
            if address not in self._sockets or not self._sockets[address].is_open()
        ]


def make(_supervisord: object) -> Reservations:
    """Return the methods of supervisord's that it calls `ports`."""
    return Reservations()
