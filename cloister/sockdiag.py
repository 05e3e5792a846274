"""Whose program is at the other end of a TCP connection on this machine, as the kernel tells.

By sock_diag(7), for one connection some 0.06 ms; its structures are those of linux/inet_diag.h.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from cloister.errors import DeploymentError

_SOCK_DIAG, _BY_FAMILY, _REQUEST, _ERROR = 4, 20, 1, 2  # of linux/netlink.h and sock_diag.h
_MESSAGE = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_QUESTION = struct.Struct("=BBBBI")  # inet_diag_req_v2: family, protocol, extensions, -, states
_PORTS, _ADDRESS_BYTES = struct.Struct(">HH"), 16
_REST = struct.Struct("=IQ")  # of inet_diag_sockid: any interface, no cookie
_ANSWER = struct.Struct("=4x2x2s44x4x4x4xII")  # inet_diag_msg; its ports are the network's
_ALL_STATES, _NO_COOKIE = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
_ANSWER_BYTES, _ANSWER_S = 8192, 2.0
_LISTENS = "0A"  # of include/net/tcp_states.h
_ORDER = -1 if sys.byteorder == "little" else 1  # of each word of an address in /proc/net

_Address = tuple[str, int]


@dataclass(frozen=True)
class _Found:
    """A socket: `port` is the other end's, 0 of one that listens; `inode` 0 if none has it open."""

    port: int
    user: int
    inode: int


@dataclass(frozen=True)
class Guard:
    """The `users` whose program may be the service's gateway."""

    users: frozenset[int]

    def require(self, connection: socket.socket) -> None:
        """Raise DeploymentError where another user's program is at a connection's other end.

        To be asked of each connection before anything is sent. Where the kernel does not tell, for
        want of sock_diag or because the other end is in a container, it is asked who listens.
        """
        if connection.family not in {socket.AF_INET, socket.AF_INET6}:
            return
        host, port = _address(connection.getpeername())
        user = find_user(connection)
        if user is None:
            require_listener(host, port, self.users)
        elif user not in self.users:
            raise _refused(user, host, port)


def find_user(connection: socket.socket) -> int | None:
    """Return whose program has the other end of a TCP connection, None where that is unknown.

    While nobody has accepted the connection it is the user who listens.
    """
    ours, theirs = _address(connection.getsockname()), _address(connection.getpeername())
    try:
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG
        ) as kernel:
            kernel.settimeout(_ANSWER_S)
            kernel.connect((0, 0))
            found = _ask(kernel, connection.family, theirs, ours)
            if found and found.inode and found.port == ours[1]:
                return found.user
            listens = _ask(kernel, connection.family, theirs, (ours[0], 0))
            # Accepted in between, and the one who listened gone: it is his as before.
            found = _ask(kernel, connection.family, theirs, ours)
            if found and found.inode and found.port == ours[1]:
                return found.user
    except OSError:
        return None  # a kernel without it, or one that does not let this program ask
    return listens.user if listens else None


def require_listener(host: str, port: int, users: frozenset[int]) -> None:
    """Raise DeploymentError where a program listens on a port, and none is of these users.

    `host` is an IP address.
    """
    listeners = [(user, address) for user, address, its_port in _listeners() if its_port == port]
    at_it = {user for user, address in listeners if address == _plain(ip_address(host))}
    # Who listens at all addresses gets what is for no other one, and may do so for IPv6 alone.
    there = at_it or {user for user, address in listeners if address.is_unspecified}
    if there and not there & users:
        raise _refused(min(there), host, port)


def _ask(kernel: socket.socket, family: int, local: _Address, remote: _Address) -> _Found | None:
    """Return a machine's socket by its own address and that of the other end.

    Where there is none it is the one that listens for such a connection, None for neither. Raises
    OSError.
    """
    (host, port), (other, its_port) = local, remote
    addresses = [
        socket.inet_pton(family, one).ljust(_ADDRESS_BYTES, b"\0") for one in (host, other)
    ]
    question = (
        _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES)
        + _PORTS.pack(port, its_port)
        + b"".join(addresses)
        + _REST.pack(0, _NO_COOKIE)
    )
    size = _MESSAGE.size + len(question)
    kernel.send(_MESSAGE.pack(size, _BY_FAMILY, _REQUEST, 1, 0) + question)
    answer = kernel.recv(_ANSWER_BYTES)
    if _MESSAGE.unpack_from(answer)[1] == _ERROR:
        (code,) = struct.unpack_from("=i", answer, _MESSAGE.size)
        if -code == errno.ENOENT:
            return None
        raise OSError(-code, os.strerror(-code))
    its_ports, user, inode = _ANSWER.unpack_from(answer, _MESSAGE.size)
    return _Found(int.from_bytes(its_ports), user, inode)


def _address(name: tuple[str, int]) -> _Address:
    """Return a socket's address without the interface of a link-local one."""
    return name[0].partition("%")[0], name[1]


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


def _refused(user: int, host: str, port: int) -> DeploymentError:
    return DeploymentError(
        f"a program of user {user} listens on {host}:{port}, not the service's gateway",
        hint="invoke status; another port is `gateway.port`",
    )
