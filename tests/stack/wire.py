"""HTTP as bytes: what is sent is not tidied up, and what comes back is read strictly."""

import re
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass

_STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [ -~]*\r\n")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\x20-\x7e]*)\r\n")
_CHUNK = re.compile(rb"([0-9a-f]+)\r\n")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_WAIT_S, _MORE_S = 30, 0.2
_BODILESS = (204, 304)


class MalformedError(AssertionError):
    """What came back is no HTTP, or does not end."""


@dataclass(frozen=True)
class Answer:
    """One answer; `status` is 0 for the bare body that HTTP/0.9 has."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __getitem__(self, name: str) -> str | None:
        """Return the value of the one header of that name, None when there is none."""
        values = [value for own, value in self.headers if own == name.lower()]
        assert len(values) <= 1, f"{name}: {values}"
        return values[0] if values else None

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.headers)


def exchange(port: int, sent: bytes, *, leaves: bool = False, tls: bool = False) -> bytes:
    """Send bytes on a connection of their own; return all that comes until its end.

    One that `leaves` says at once that it sends no more. Another says so when it has its answer:
    the gateway may wait for the rest of a body that it refused. A second answer would come at once.
    """
    head, received = asks_head(sent), b""
    with _connection(port, tls=tls) as client:
        with suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(sent)
            if leaves:
                client.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            try:
                while not _whole(received, head=head) and (piece := client.recv(1 << 16)):
                    received += piece
            except TimeoutError:
                raise MalformedError(f"no end: {received[:200]!r}") from None
            with suppress(OSError):  # closed by now
                client.shutdown(socket.SHUT_WR)
            client.settimeout(_MORE_S)
            with suppress(TimeoutError):
                while piece := client.recv(1 << 16):
                    received += piece
        return received


def asks_head(sent: bytes) -> bool:
    """Tell whether the answer will have no body, whatever its head says."""
    return sent.lstrip(b"\r\n").startswith(b"HEAD ")


def read(received: bytes, *, head: bool = False) -> Answer | None:
    """Return the one answer that was received, None for nothing at all.

    `head` tells that HEAD was asked. Raises MalformedError for anything else than one answer.
    """
    if not received:
        return None
    if not received.startswith(b"HTTP/"):
        return Answer(0, (), received)
    answer, rest = _read(received, head=head)
    while answer.status < 200:  # an interim answer, such as 100
        answer, rest = _read(rest, head=head)
    if rest:
        raise MalformedError(f"more than one answer: {rest[:200]!r}")
    return answer


def _connection(port: int, *, tls: bool) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=_WAIT_S)
    if not tls:
        return plain
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def _whole(received: bytes, *, head: bool) -> bool:
    """Tell whether an answer is there, as far as its head says."""
    start, blank, body = received.removeprefix(_CONTINUE).partition(b"\r\n\r\n")
    if not blank or head:
        return bool(blank)
    length = re.search(rb"\r\nContent-Length: ([0-9]+)", start)
    # Without a length it ends with the connection, or with a chunk that nothing follows.
    return length is not None and len(body) >= int(length[1])


def _read(received: bytes, *, head: bool) -> tuple[Answer, bytes]:
    line = _STATUS.match(received)
    if line is None:
        raise MalformedError(f"no status line: {received[:200]!r}")
    status, at, headers = int(line[1]), line.end(), []
    while not received.startswith(b"\r\n", at):
        found = _HEADER.match(received, at)
        if found is None:
            raise MalformedError(f"no header: {received[at : at + 200]!r}")
        headers.append((found[1].decode().lower(), found[2].decode()))
        at = found.end()
    answer = Answer(status, tuple(headers), b"")
    body, rest = _body(answer, received[at + 2 :], head=head)
    return Answer(status, answer.headers, body), rest


def _body(answer: Answer, rest: bytes, *, head: bool) -> tuple[bytes, bytes]:
    if head or answer.status < 200 or answer.status in _BODILESS:
        return b"", rest
    if answer["Transfer-Encoding"] is not None:
        return _chunks(rest)
    length = answer["Content-Length"]
    if length is None:
        return rest, b""
    if len(rest) < int(length):
        raise MalformedError(f"{len(rest)} of {length} bytes")
    return rest[: int(length)], rest[int(length) :]


def _chunks(rest: bytes) -> tuple[bytes, bytes]:
    body = b""
    while found := _CHUNK.match(rest):
        size = int(found[1], 16)
        piece, rest = rest[found.end() : found.end() + size], rest[found.end() + size :]
        if not rest.startswith(b"\r\n"):
            break
        rest, body = rest[2:], body + piece
        if not size:
            return body, rest
    raise MalformedError(f"no chunk: {rest[:200]!r}")
