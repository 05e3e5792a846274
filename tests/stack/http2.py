"""HTTP/2 as frames: enough to say what no library says, and to read an answer's status and body."""

import socket
import ssl
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
# What an answer's `:status` begins with: an entry of HPACK's static table, or a literal.
_STATUSES = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}
_LITERAL = 0x48
_MASK = 0x7F
_FIRST = 1
_WAIT_S = 30
_HEAD = struct.Struct(">BHBBL")


@dataclass
class Heard:
    """What came on one connection: status and body by stream, and whether the peer ended it."""

    statuses: dict[int, int] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    pongs: int = 0
    over: bool = False


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return _HEAD.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def block(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a header block of literals that nobody keeps, without Huffman's code."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in headers)


def start(*, settings: bytes = b"") -> bytes:
    """Return what a client begins with."""
    return PREFACE + frame(SETTINGS, payload=settings)


def talk(port: int, sent: bytes, *, whole: bool) -> Heard:
    """Send bytes over TLS; return what comes until the connection or the first stream has ended.

    Where that stream is not `whole`, until the gateway has taken note of all frames.
    """
    heard, kept = Heard(), b""
    with _connection(port) as client, suppress(ConnectionError, ssl.SSLError):
        client.sendall(sent + frame(PING, payload=b"the last"))
        while not heard.over and not (_FIRST in heard.ended if whole else heard.pongs):
            try:
                piece = client.recv(1 << 16)
            except TimeoutError:
                raise AssertionError(f"no end: {heard}") from None
            heard.over = not piece
            kept = _read(heard, kept + piece)
    return heard


def _connection(port: int) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    plain = socket.create_connection(("127.0.0.1", port), timeout=_WAIT_S)
    client = context.wrap_socket(plain)
    assert client.selected_alpn_protocol() == "h2"
    return client


def _string(text: bytes) -> bytes:
    if len(text) < _MASK:
        return bytes((len(text),)) + text
    prefix, rest = bytes((_MASK,)), len(text) - _MASK
    while rest > _MASK:
        prefix, rest = prefix + bytes((rest & _MASK | 0x80,)), rest >> 7
    return prefix + bytes((rest,)) + text


def _read(heard: Heard, received: bytes) -> bytes:
    """Note all whole frames; return what is left."""
    while len(received) >= _HEAD.size:
        high, low, kind, flags, stream = _HEAD.unpack_from(received)
        end = _HEAD.size + (high << 16 | low)
        if len(received) < end:
            break
        payload, received = received[_HEAD.size : end], received[end:]
        if kind == HEADERS:
            # nginx may begin with a change of the table's size, which has the bits 001.
            first = payload.lstrip(bytes(range(0x20, 0x40)))
            heard.statuses[stream] = (
                int(first[2:5]) if first[0] == _LITERAL else _STATUSES[first[0]]
            )
        elif kind == DATA:
            heard.bodies[stream] = heard.bodies.get(stream, b"") + payload
        heard.pongs += kind == PING and flags & ACK
        if kind == RESET or (kind in {HEADERS, DATA} and flags & END_STREAM):
            heard.ended.add(stream)
    return received
