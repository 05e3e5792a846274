"""Requests that hide a second one: the ways in which two programs disagree where the first ends."""

from collections.abc import Iterator
from dataclasses import dataclass

MARKER = b"smuggled"
PAGE = b"/v1/chat/completions"


@dataclass(frozen=True)
class Smuggle:
    """Headers and body that follow a request's line, its host and its key.

    A `harmless` one has one meaning only, and nginx may take it for what it is; `version` and
    `newline` are those of the first line.
    """

    name: str
    headers: bytes
    body: bytes
    harmless: bool = False
    version: bytes = b"HTTP/1.1"

    def wire(self, *, method: bytes = b"POST", target: bytes = PAGE, key: str | None) -> bytes:
        """Return the whole of what is sent."""
        line = b" ".join((method, target, self.version))
        shown = b"" if key is None else b"Authorization: Bearer " + key.encode() + b"\r\n"
        return line + b"\r\nHost: a\r\n" + shown + self.headers + b"\r\n" + self.body


def hidden() -> dict[str, bytes]:
    """Return what is hidden, by what it would do."""
    return {
        "another path": b"GET /" + MARKER + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        "a page without key": b"POST " + PAGE + b" HTTP/1.1\r\nHost: a\r\n"
        b"X-Marker: " + MARKER + b"\r\nContent-Length: 2\r\n\r\n{}",
    }


def all_of_them(inner: bytes) -> Iterator[Smuggle]:
    """Yield every way to hide `inner`."""
    yield from _lengths(inner)
    yield from _length_and_chunks(inner)
    yield from _encodings(inner)
    yield from _chunks(inner)
    yield from _lines(inner)
    yield from _behind(inner)


def _lengths(inner: bytes) -> Iterator[Smuggle]:
    size = b"%d" % len(inner)
    for name, headers in {
        "CL.CL, first short": (b"0", size),
        "CL.CL, first long": (size, b"0"),
        "CL.CL, the same": (size, size),
    }.items():
        lines = b"".join(b"Content-Length: " + value + b"\r\n" for value in headers)
        yield Smuggle(name, lines, inner)
    for name, value in {
        "a list": size + b", " + size,
        "a sign": b"+" + size,
        "a minus": b"-" + size,
        "hexadecimal": b"0x%x" % len(inner),
        "an exponent": size + b"e0",
        "a point": size + b".0",
        "words": b"zero",
        "nothing": b"",
        "above 64 bits": b"%d" % (2**64 + len(inner)),
        "a NUL": size + b"\0",
        "a space within": size[:1] + b" " + size[1:],
        "a tab before": b"\t" + size,
        "a vertical tab": b"\x0b" + size,
    }.items():
        yield Smuggle(f"length with {name}", b"Content-Length: " + value + b"\r\n", inner)
    for name, header in {
        "a space before the colon": b"Content-Length : " + size,
        "a leading space": b" Content-Length: " + size,
        "a folded value": b"Content-Length:\r\n " + size,
        "a NUL in the name": b"Content\0-Length: " + size,
    }.items():
        yield Smuggle(f"length with {name}", header + b"\r\n", inner)


def _length_and_chunks(inner: bytes) -> Iterator[Smuggle]:
    coded = b"Transfer-Encoding: chunked\r\n"
    ended = b"0\r\n\r\n" + inner
    whole = b"Content-Length: %d\r\n" % len(ended)
    wrapped = b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)
    first = b"Content-Length: %d\r\n" % (wrapped.index(b"\n") + 1)
    yield Smuggle("CL.TE", whole + coded, ended)
    yield Smuggle("CL.TE, the encoding first", coded + whole, ended)
    yield Smuggle("TE.CL", first + coded, wrapped)
    yield Smuggle("TE.CL, the encoding first", coded + first, wrapped)
    yield Smuggle("CL.TE with length 0", b"Content-Length: 0\r\n" + coded, ended)
    yield Smuggle("TE in HTTP/1.0", coded, ended, version=b"HTTP/1.0")
    yield Smuggle(
        *("CL.TE in HTTP/1.0", whole + coded + b"Connection: keep-alive\r\n", ended),
        version=b"HTTP/1.0",
    )


def _encodings(inner: bytes) -> Iterator[Smuggle]:
    ended = b"0\r\n\r\n" + inner
    length = b"Content-Length: %d\r\n" % len(ended)
    for name, header in {
        "x before": b"Transfer-Encoding: xchunked",
        "quotes": b'Transfer-Encoding: "chunked"',
        "identity": b"Transfer-Encoding: identity",
        "a list": b"Transfer-Encoding: identity, chunked",
        "a list, twice": b"Transfer-Encoding: chunked, chunked",
        "gzip first": b"Transfer-Encoding: gzip, chunked",
        "a parameter": b"Transfer-Encoding: chunked;q=1",
        "a tab before": b"Transfer-Encoding:\tchunked",
        "a vertical tab": b"Transfer-Encoding: \x0bchunked",
        "a form feed after": b"Transfer-Encoding: chunked\x0c",
        "a NUL after": b"Transfer-Encoding: chunked\0",
        "a no-break space": b"Transfer-Encoding: \xa0chunked",
        "nothing": b"Transfer-Encoding:",
        "a space before the colon": b"Transfer-Encoding : chunked",
        "a tab before the colon": b"Transfer-Encoding\t: chunked",
        "a leading space": b" Transfer-Encoding: chunked",
        "a folded value": b"Transfer-Encoding:\r\n chunked",
        "a bare CR before": b"X: a\rTransfer-Encoding: chunked",
        "two, unknown first": b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
        "two, unknown last": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
        "two, the same": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    }.items():
        yield Smuggle(f"TE.TE: {name}", header + b"\r\n", ended)
        yield Smuggle(f"TE.TE and a length: {name}", header + b"\r\n" + length, ended)


def _chunks(inner: bytes) -> Iterator[Smuggle]:
    coded = b"Transfer-Encoding: chunked\r\n"
    for name, body in {
        "a sign": b"+0\r\n\r\n",
        "a minus": b"-1\r\n\r\n",
        "0x": b"0x0\r\n\r\n",
        "no digit": b"\r\n\r\n",
        "another letter": b"g\r\n\r\n",
        "a size above 64 bits": b"1" + b"0" * 16 + b"\r\n\r\n",
        "more than its size": b"2\r\n{}}0\r\n\r\n",
        "no newline after it": b"2\r\n{}0\r\n\r\n",
        "a bare CR": b"2\r{}\r0\r\r",
        "a NUL": b"2\0\r\n{}\r\n0\r\n\r\n",
    }.items():
        yield Smuggle(f"chunk with {name}", coded, body + inner)
    for name, body in {
        "an extension": b"2;a=b\r\n{}\r\n0;c\r\n\r\n",
        "a quoted extension": b'2;a="\r\n{}\r\n0\r\n\r\n',
        "an extension that looks like an end": b"2;0\r\n{}\r\n0\r\n\r\n",
        "a bare LF": b"2\n{}\n0\n\n",
        "leading zeros": b"0000000002\r\n{}\r\n000\r\n\r\n",
        "trailers": b"2\r\n{}\r\n0\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n",
        "a request in its trailers": b"2\r\n{}\r\n0\r\n" + inner,
    }.items():
        yield Smuggle(f"chunk with {name}", coded, body + inner, harmless=True)


def _lines(inner: bytes) -> Iterator[Smuggle]:
    length = b"Content-Length: %d\r\n" % len(inner)
    for name, headers in {
        "a bare CR in a value": b"X: a\rContent-Length: 0\r\n" + length,
        "a NUL in a value": b"X: a\0b\r\n" + length,
        "a line without colon": b"a line\r\n" + length,
        "an empty name": b": a\r\n" + length,
        "a folded line": b"X: a\r\n b\r\n" + length,
        "two hosts": b"Host: b\r\n" + length,
        "a long header": b"X: " + b"a" * 9000 + b"\r\n" + length,
        "many headers": b"X: a\r\n" * 6000 + length,
    }.items():
        yield Smuggle(f"head with {name}", headers, inner)


def _behind(inner: bytes) -> Iterator[Smuggle]:
    """Requests that end where they say, with more behind them."""
    none = b"Content-Length: 0\r\n"
    for name, headers in {
        "nothing": none,
        "no length at all": b"",
        "keep-alive": none + b"Connection: keep-alive\r\n",
        "an underscore": b"Transfer_Encoding: chunked\r\nContent_Length: 9\r\n",
        "an upgrade to HTTP/2": none + b"Connection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "an upgrade to a websocket": none + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        "headers that are not to be passed on": none + b"Connection: Host, Content-Length\r\n",
        "a long name": none + b"X" * 4000 + b": a\r\n",
        "a line feed alone": b"X: a\nContent-Length: 0\n",
    }.items():
        yield Smuggle(f"behind {name}", headers, inner, harmless=True)
    # The body is read before the answer to these two, and the length has one meaning.
    body = b"Content-Length: 2\r\n"
    yield Smuggle("behind 100-continue", body + b"Expect: 100-continue\r\n", b"{}" + inner, True)  # noqa: FBT003
    yield Smuggle("behind a body", body, b"{}" + inner, harmless=True)
    yield Smuggle("behind CHUNKED", b"Transfer-Encoding: CHUNKED\r\n", b"0\r\n\r\n" + inner, True)  # noqa: FBT003
