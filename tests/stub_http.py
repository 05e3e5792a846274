"""HTTP/1.1 for the stub's side of a connection: quick with large bodies, which it drops."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

_KEPT = 4096  # bytes of a body's start and end that are looked at
# One for all connections: asyncio and uvloop hand it over right after they filled it.
_BUFFER = memoryview(bytearray(1 << 18))


@dataclass
class Request:
    """One request: what its head says, and how its body begins and ends."""

    method: str
    path: str
    headers: dict[str, str]
    start: bytes = b""
    end: bytes = b""
    bytes: int = 0

    def keep(self, piece: memoryview) -> None:
        self.bytes += len(piece)
        if len(self.start) < _KEPT:
            self.start += bytes(piece[: _KEPT - len(self.start)])
        if len(piece) >= _KEPT:
            self.end = bytes(piece[-_KEPT:])
        else:
            self.end = (self.end + bytes(piece))[-_KEPT:]

    @property
    def stream(self) -> bool:
        wanted = (b'"stream": true', b'"stream":true')
        return any(text in part for text in wanted for part in (self.start, self.end))


class Http(asyncio.BufferedProtocol):
    """HTTP/1.1 on one connection; a subclass says what a received request gets."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.request: Request | None = None
        self._head = bytearray()
        self._early = b""
        self._line = b""
        self._left = 0
        self._trailers = False
        self._step: Callable[[memoryview], memoryview] = self._read_head

    def received(self, request: Request) -> None:
        raise NotImplementedError

    def begun(self, request: Request) -> None:
        """Hear of a request whose body is still to come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own says it is none

    def get_buffer(self, _hint: int) -> memoryview:
        return _BUFFER

    def buffer_updated(self, count: int) -> None:
        self.feed(_BUFFER[:count])

    def feed(self, piece: memoryview) -> None:
        while piece and not self.transport.is_closing():
            piece = self._step(piece)

    def answer(self, status: int, body: bytes, headers: str = "", kind: str = "json") -> None:
        """Send a whole answer and go on to the next request."""
        self.transport.write(self.whole(status, body, headers, kind))
        self.finish()

    def whole(self, status: int, body: bytes, headers: str = "", kind: str = "json") -> bytes:
        """Return a whole answer's bytes, without the body when HEAD was asked."""
        kind = "text/plain" if kind == "text" else "application/json"
        head = f"HTTP/1.1 {status} Stub\r\nContent-Type: {kind}\r\n{headers}"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        asked = self.request and self.request.method == "HEAD"
        return head.encode() + (b"" if asked else body)

    def finish(self) -> None:
        early, self._early, self.request = self._early, b"", None
        self._step = self._read_head
        if early:
            self.feed(memoryview(early))

    def _read_head(self, piece: memoryview) -> memoryview:
        self._head += piece
        head, blank, rest = self._head.partition(b"\r\n\r\n")
        if not blank:
            return piece[:0]
        self._head = bytearray()
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        self.request = Request(method, target.partition("?")[0], headers)
        self.begun(self.request)
        if headers.get("expect") == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._left = int(headers.get("content-length", 0))
        if headers.get("transfer-encoding", "").lower() == "chunked":
            self._trailers = False
            self._step = self._read_chunked
        elif self._left:
            self._step = self._read_body
        else:
            self._complete()
        return memoryview(rest)

    def _read_body(self, piece: memoryview) -> memoryview:
        rest = self._take(piece)
        if not self._left:
            self._complete()
        return rest

    def _read_chunked(self, piece: memoryview) -> memoryview:
        if self._left:
            return self._take(piece)
        start, newline, _ = bytes(piece[:64]).partition(b"\n")
        self._line += start
        if not newline:
            return piece[len(start) :]
        line, self._line = self._line.strip(), b""
        if line and not self._trailers:
            self._left = int(line.partition(b";")[0], 16)
            self._trailers = not self._left
        elif self._trailers and not line:
            self._complete()
        return piece[len(start) + 1 :]

    def _take(self, piece: memoryview) -> memoryview:
        assert self.request
        own, rest = piece[: self._left], piece[self._left :]
        self._left -= len(own)
        self.request.keep(own)
        return rest

    def _wait(self, piece: memoryview) -> memoryview:
        self._early += bytes(piece)
        return piece[:0]

    def _complete(self) -> None:
        assert self.request
        self._step = self._wait
        self.received(self.request)
