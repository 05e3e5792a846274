"""An engine that says whatever a test wants, byte by byte, on connections that it counts."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

PAGE = b'{"object":"chat.completion","choices":[{"finish_reason":"stop"}]}'
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n'
JSON, STREAM = "application/json", "text/event-stream"
_WAIT_S = 60


def head(
    status: str = "200 OK", kind: str | None = JSON, length: int | None = None, *more: str
) -> bytes:
    """Return an answer's head; without a `length` its body comes in chunks."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"HTTP/1.1 {status}", size, *([f"Content-Type: {kind}"] if kind else []), *more]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def chunk(piece: bytes) -> bytes:
    """Return one chunk; an empty one ends the body."""
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def whole(status: str = "200 OK", *more: str, body: bytes = PAGE, kind: str | None = JSON) -> bytes:
    """Return a whole answer."""
    return head(status, kind, len(body), *more) + body


def streamed(status: str = "200 OK", *more: str) -> bytes:
    """Return a stream of one event."""
    pieces = (EVENT, b"data: [DONE]\n\n", b"")
    return head(status, STREAM, None, *more) + b"".join(map(chunk, pieces))


@dataclass
class HostileEngine:
    """One that listens; `answer` is sent to each request, and `requests` are what came."""

    listener: socket.socket
    answer: Callable[[], Iterator[bytes]] = lambda: iter((whole(),))
    requests: list[bytes] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def say(self, *pieces: bytes) -> None:
        """Answer with these bytes from now on."""
        self.answer = lambda: iter(pieces)

    def serve(self) -> None:
        """Take connections until the listener is closed."""
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(_WAIT_S)
            self.requests.append(_read(connection))
            try:
                for piece in self.answer():
                    connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass
            finally:
                self.ended.set()


def _read(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(1 << 16)
        if not piece:
            return received
        received += piece
    start, _, body = received.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in start.split(b"\r\n")[1:])
    missing = int(fields.get(b"content-length", 0)) - len(body)
    while missing > 0:
        piece = connection.recv(1 << 16)
        if not piece:
            break
        received += piece
        missing -= len(piece)
    return received


@contextmanager
def hostile_engine() -> Iterator[HostileEngine]:
    """Serve on a free port until the end."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        engine = HostileEngine(listener)
        threading.Thread(target=engine.serve, daemon=True).start()
        yield engine
        # A thread that waits in accept() is not woken by close().
        listener.shutdown(socket.SHUT_RDWR)
