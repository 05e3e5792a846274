"""Ways out by single packets: UDP, UDP-Lite and pings, past the routes and to everybody."""

import socket
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from cloister.inside.ways import interfaces, sending
from cloister.inside.ways.results import (
    PATIENCE_S,
    Result,
    describe,
    group,
    is_shortage,
    report_reached,
    report_stopped,
)

_PROTOCOLS = {"udp": socket.IPPROTO_UDP, "udplite": 136}
_ALL_NODES, _EVERYBODY = "224.0.0.1", "255.255.255.255"
# Requests and replies, as ICMP and as ICMPv6.
_ECHO = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}
_ANSWER_BYTES = 600


@dataclass(frozen=True)
class _Route:
    """How packets leave: by which interface ("each": all but the loopback), past which table."""

    device: str | None = None
    dontroute: bool = False
    broadcast: bool = False
    multicast: bool = False
    connected: bool = False

    @property
    def devices(self) -> list[str | None]:
        """The interfaces to send by; None is the kernel's choice."""
        return interfaces.choose(self.device or ("each" if self.multicast else None))

    def fill_in(self, host: str) -> str:
        """Return the host, or everybody where none is given; raises TypeError for nobody."""
        if host or self.multicast:
            return host or _ALL_NODES
        if self.broadcast:
            return _EVERYBODY
        raise TypeError("`host` is missing, and neither `broadcast` nor `multicast` is given")

    def prepare(self, sender: socket.socket, device: str | None) -> None:
        """Set the options of a socket that is to send by an interface; raises OSError."""
        if device is not None and self.multicast:
            _choose_multicast(sender, interfaces.read_index(device))
        elif device is not None:
            sending.bind_to_device(sender, device)
        if self.dontroute:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)
        if self.broadcast:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)

    def send(self, sender: socket.socket, message: bytes, address: tuple[Any, ...]) -> None:
        """Send a message; by a connected socket, which hears that a port is closed."""
        if self.connected:
            sender.connect(address)
            sender.send(message)
        else:
            sender.sendto(message, address)


def send_udp(
    *, port: int, nonce: str, host: str = "", protocol: str = "udp", **route: Any
) -> Result:
    """Send the nonce; what arrives is known where it arrives, an echo is reported here too.

    `route` has `device`, `dontroute`, `broadcast`, `multicast` and `connected`: by the last it is
    heard, too, that nobody listens there, which a machine says that took the nonce in.
    """
    way = _Route(**route)
    address = (way.fill_in(host), port)
    try:
        answer = _exchange(address, nonce.encode(), _PROTOCOLS[protocol], way)
    except ConnectionRefusedError:
        return report_reached("it arrived, and nobody listens there")
    except TimeoutError as error:
        if not way.connected:
            raise
        # The refusal that quotes it may have left by the default route of whoever took it.
        return report_reached(str(error))
    return report_reached(answer.decode(errors="replace"))


def ping(*, host: str = "", nonce: str = "", **route: Any) -> Result:
    """Ping once by the socket that needs no capability, with a nonce; `route` as for UDP."""
    way = _Route(**route)
    address = (way.fill_in(host), 0)
    family = _family(address)
    request, reply = _ECHO[family]
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    # The kernel fills in identifier and checksum.
    message = struct.pack("!BBHHH", request, 0, 0, 0, 1) + nonce.encode()
    kind = _exchange(address, message, protocol, way)[0]
    return report_reached("pong") if kind == reply else report_stopped(f"ICMP type {kind}")


def ask_udp(address: tuple[str, int], question: bytes) -> bytes:
    """Send a datagram and return the answer; raises OSError when none comes."""
    return _exchange(address, question, socket.IPPROTO_UDP, _Route())


def _exchange(address: tuple[str, int], message: bytes, protocol: int, route: _Route) -> bytes:
    """Send a message by every interface of a route, and return the first answer.

    Raises OSError: TimeoutError when it was sent and nothing came back, and the kernel's own when
    something is used up.
    """
    senders: dict[socket.socket, str] = {}
    failures: dict[str, str] = {}
    with ExitStack() as stack:
        for device in route.devices:
            try:
                sender = stack.enter_context(
                    socket.socket(_family(address), socket.SOCK_DGRAM, protocol)
                )
                route.prepare(sender, device)
                route.send(sender, message, sending.scope(address, device))
            except OSError as error:
                if is_shortage(error, is_inet4=_family(address) == socket.AF_INET):
                    raise
                failures[device or ""] = describe(error)
            else:
                senders[sender] = device or ""
        if not senders:
            raise OSError(group(failures))
        for sender in sending.wait_readable(senders, PATIENCE_S):
            return sender.recv(_ANSWER_BYTES)
    by = f", by {', '.join(senders.values())}" if any(senders.values()) else ""
    raise TimeoutError("; ".join(filter(None, (f"sent; no answer{by}", group(failures)))))


def _family(address: tuple[str, int]) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def _choose_multicast(sender: socket.socket, index: int) -> None:
    if sender.family == socket.AF_INET6:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    else:
        # struct ip_mreqn: an interface without an address can be named by its index only.
        choice = struct.pack("4s4si", b"", b"", index)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, choice)
