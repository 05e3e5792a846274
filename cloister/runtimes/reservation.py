"""Ports that stay this user's while no program listens on them; supervisord runs this.

Between the end of one nginx and the start of the next, any user could take the port otherwise, and
get the pages and keys of clients.
"""

import contextlib
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


class Reservations:
    """The ports that this process holds; supervisord offers `keep` as `ports.keep`."""

    def __init__(self) -> None:
        self._sockets: dict[Address, socket.socket] = {}

    def keep(self, addresses: Sequence[Address]) -> bool:
        """Hold these ports, and no others.

        One on which somebody listens is left out: nginx will say so, or it is that of an earlier
        version.
        """
        wanted = {(str(host), int(port)) for host, port in addresses}
        for address in self._sockets.keys() - wanted:
            self._sockets.pop(address).close()
        for address in wanted - self._sockets.keys():
            with contextlib.suppress(OSError):
                self._sockets[address] = reserve(*address)
        return True


def make(_supervisord: object) -> Reservations:
    """Return the methods of supervisord's that it calls `ports`."""
    return Reservations()
