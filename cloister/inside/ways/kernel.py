"""Ways out by what the kernel itself offers: socket families, and changes of the network."""

import errno
import secrets
import socket
import struct
from collections.abc import Sequence

from cloister.inside.ways.results import (
    PATIENCE_S,
    Result,
    describe,
    describe_code,
    report_code,
    report_reached,
)

# As <linux/netlink.h>, <linux/rtnetlink.h>, <linux/if_link.h> and <linux/if_addr.h>.
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_ERROR = 2
_NEW = {"link": 16, "address": 20, "route": 24}
_DELETE_STEP = 1
_LINK_NAME, _LINK_INFO, _LINK_KIND = 3, 18, 1
_ADDRESS, _LOCAL = 1, 2
_DESTINATION, _MAIN_TABLE, _STATIC, _BLACKHOLE = 1, 254, 4, 6
_LOOPBACK_INDEX = 1
# Of networks for documentation, so that nothing is there.
_EXAMPLE_ADDRESS = socket.inet_aton("198.51.100.66")
_EXAMPLE_NETWORK = socket.inet_aton("198.51.100.128")
_VSOCK = 40


def open_socket(
    *,
    family: int,
    type: int = 1,  # noqa: A002  # as the attempt has it
    protocol: int = 0,
    connect: Sequence[Sequence[int]] = (),
) -> Result:
    """Open a socket by its numbers; `connect` is contexts and ports of AF_VSOCK to try then.

    Raises OSError when it cannot be opened, TypeError for `connect` with another family.
    """
    if connect and family != _VSOCK:
        raise TypeError(f"`connect` is for family {_VSOCK}")
    with socket.socket(family, type, protocol):
        pass
    tries = (f"context {context} port {port}: {_try(context, port)}" for context, port in connect)
    return report_reached("; ".join(("opened", *tries)))


def open_packets() -> Result:
    """Open a socket that writes frames of its own, past every table of the kernel."""
    return open_socket(family=socket.AF_PACKET, type=socket.SOCK_RAW)


def change_network(*, make: str) -> Result:
    """Ask the kernel for an address, a route or a link of a kind, and delete it again.

    Any answer but a refusal is a way: the kernel asks for the right before it looks further.
    """
    name = f"cl{secrets.token_hex(4)}"
    what = make if make in _NEW else "link"
    body = {"address": _describe_address, "route": _describe_route}.get(
        make, lambda: _describe_link(name, make)
    )()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as asking:
        asking.settimeout(PATIENCE_S)
        code = _ask(asking, _NEW[what], _CREATE | _EXCLUSIVE, body)
        if code:
            return report_code(code)
        left = _ask(asking, _NEW[what] + _DELETE_STEP, 0, body)
    return report_reached(
        f"made: {make}" + (f"; still there: {describe_code(left)}" if left else "")
    )


def _try(context: int, port: int) -> str:
    """Return what came of a connection to another machine on the same hardware."""
    try:
        with socket.socket(_VSOCK, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            connection.connect((context, port))
    except OSError as error:
        return describe(error)
    return "connected"


def _ask(asking: socket.socket, kind: int, flags: int, body: bytes) -> int:
    """Send one message, and return the error number of the answer; 0 is a yes."""
    header = struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | _ACK | flags, 1, 0)
    asking.sendto(header + body, (0, 0))
    answer = asking.recv(4096)
    _, answered, _, _, _, code = struct.unpack_from("=IHHIIi", answer)
    return -code if answered == _ERROR else errno.EPROTO


def _attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute of a message, padded to whole words."""
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def _describe_link(name: str, kind: str) -> bytes:
    info = _attribute(_LINK_INFO, _attribute(_LINK_KIND, kind.encode()))
    header = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
    return header + _attribute(_LINK_NAME, name.encode() + b"\0") + info


def _describe_address() -> bytes:
    header = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, _LOOPBACK_INDEX)
    return header + b"".join(_attribute(kind, _EXAMPLE_ADDRESS) for kind in (_LOCAL, _ADDRESS))


def _describe_route() -> bytes:
    table = (_MAIN_TABLE, _STATIC, 0, _BLACKHOLE)
    header = struct.pack("=BBBBBBBBI", socket.AF_INET, 25, 0, 0, *table, 0)
    return header + _attribute(_DESTINATION, _EXAMPLE_NETWORK)
