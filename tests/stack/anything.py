"""Requests that hypothesis makes up, from what the document asks for to bytes without a meaning."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import api_document
import pieces
import smuggling
from hypothesis import strategies as st
from key_guessing import GOOD
from siege import EXPIRED, QUERY, WORDS, WRONG

Draw = Callable[..., Any]

OPERATIONS = sorted(api_document.operations())
SHOWN: dict[str, tuple[bytes, ...]] = {
    "good": (f"Bearer {GOOD}".encode(),),
    "wrong": (f"Bearer {WRONG}".encode(),),
    "expired": (f"Bearer {EXPIRED}".encode(),),
    "none": (),
}


@dataclass(frozen=True)
class Sent:
    """One request as bytes.

    One that `leaves` says no more after it and may go without an answer. `operation` is what of the
    document it asks for, where that is certain.
    """

    kind: str
    wire: bytes
    leaves: bool = False
    operation: tuple[str, str] | None = None

    @property
    def has_a_good_key(self) -> bool:
        return GOOD.encode() in self.wire


@st.composite
def documented(draw: Draw) -> Sent:
    """Ask for what the document has, with any body and any key."""
    method, path = draw(st.sampled_from(OPERATIONS))
    target = path + draw(st.sampled_from(("", "", f"?a={QUERY}")))
    headers = list(_authorization(draw))
    body = b""
    if method == "POST":
        body = json.dumps(draw(_BODY)).encode() if draw(st.booleans()) else draw(_JUNK)
        headers.append(b"Content-Type: application/json")
    if body and draw(st.booleans()):
        headers.append(b"Transfer-Encoding: chunked")
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    else:
        headers.append(b"Content-Length: %d" % len(body))
    line = f"{method} {target} HTTP/1.1".encode()
    return Sent("documented", _joined(line, [b"Host: a", *headers], body), operation=(method, path))


@st.composite
def composed(draw: Draw) -> Sent:
    """Put a request together from parts that are right, and some that are odd or wrong."""
    odd = draw(st.sets(st.sampled_from(pieces.ODD), max_size=3))
    method, target = (part.encode() for part in draw(st.sampled_from(OPERATIONS)))
    version, host, times = b"HTTP/1.1", b"a", 1
    if "method" in odd:
        method = draw(st.sampled_from(pieces.METHODS))
    if "path" in odd:
        at = draw(st.integers(0, len(target)))
        target = target[:at] + b"".join(draw(_SOME_PIECES)) + target[at:]
    if "start" in odd:
        target = draw(st.sampled_from(pieces.BEFORE)) + draw(st.sampled_from((b"", target)))
    if "version" in odd:
        version = draw(st.sampled_from(pieces.VERSIONS))
    if "host" in odd:
        host, times = draw(st.sampled_from(pieces.HOSTS)), draw(st.sampled_from((1, 1, 2, 0)))
    target += draw(st.sampled_from((b"", f"?a={QUERY}".encode())))
    headers = [b"Host: " + host] * times + _authorization(draw)
    headers += [b": ".join(pair) for pair in draw(_ODD_HEADERS if "headers" in odd else _HEADERS)]
    body = b""
    if draw(st.booleans()):
        body = draw(_JUNK)
        headers.append(b"Content-Length: %d" % len(body))
    line = b" ".join(part for part in (method, target, version) if part)
    at = draw(st.integers(0, len(headers)))
    wire = _joined(line, [*headers[at:], *headers[:at]], body)
    return Sent("composed", wire, leaves=b"HTTP/1" not in line)


@st.composite
def smuggled(draw: Draw) -> Sent:
    """Hide a second request in one of the known ways, or in one that is made up."""
    inner = draw(st.sampled_from(sorted(smuggling.hidden().values())))
    method, target = draw(st.sampled_from(_OUTER))
    lines = _authorization(draw)
    if draw(st.booleans()):
        known = draw(st.sampled_from(_KNOWN[inner]))
        lines = [*lines, *known.headers.removesuffix(b"\r\n").split(b"\r\n")]
        line = b" ".join((method, target, known.version))
        return Sent("smuggled", _joined(line, [b"Host: a", *lines], known.body))
    frames = draw(st.lists(st.sampled_from(pieces.FRAMES), min_size=1, max_size=3))
    parts = draw(st.lists(st.sampled_from(pieces.PARTS), max_size=4))
    at = draw(st.integers(0, len(parts)))
    body = b"".join((*parts[:at], inner, *parts[at:]))
    line = b" ".join((method, target, draw(st.sampled_from((b"HTTP/1.1", b"HTTP/1.0")))))
    return Sent("smuggled", _joined(line, [b"Host: a", *lines, *frames], body), leaves=True)


@st.composite
def broken(draw: Draw) -> Sent:
    """Take a request and cut, double, replace or insert bytes somewhere."""
    whole = draw(documented() | composed()).wire
    # Without its question mark a query is a path, which is logged.
    wire = bytearray(whole.replace(QUERY.encode(), b"q"))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(wire)))
        until = at + draw(st.integers(0, 12))
        there = bytes(wire[at:until])
        instead = st.sampled_from((b"", there * 2, b"\r", b"\n", b"\0", b"\r\n\r\n", b" "))
        wire[at:until] = draw(instead | st.binary(max_size=6))
    return Sent("broken", bytes(wire), leaves=True)


@st.composite
def meaningless(draw: Draw) -> Sent:
    """Send what is no HTTP."""
    start = draw(st.sampled_from((b"", *pieces.GREETINGS)))
    return Sent("meaningless", start + draw(st.binary(max_size=200)), leaves=True)


@st.composite
def large(draw: Draw) -> Sent:
    """Send a body, a header or a target around and above its limit."""
    size = draw(st.sampled_from((1 << 20, (1 << 20) + 1, 3 << 19, 2 << 20, (2 << 20) + 1, 3 << 20)))
    length = draw(st.sampled_from((1000, 8100, 8170, 8192, 9000, 33_000)))
    where = draw(st.sampled_from(("body", "chunk", "header", "target")))
    target, headers, body = b"/v1/chat/completions", [b"Host: a", *_authorization(draw)], b""
    if draw(st.booleans()):
        target += f"?a={QUERY}".encode()
    if where in {"body", "chunk"}:
        body = WORDS.encode().ljust(size, b"a")
        headers.append(b"Content-Length: %d" % size)
    if where == "chunk":
        headers[-1] = b"Transfer-Encoding: chunked"
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (size, body)
    elif where == "header":
        headers.append(b"X-Long: " + b"a" * length)
    elif where == "target":
        target += b"?" + b"a" * length
    return Sent("large", _joined(b"POST " + target + b" HTTP/1.1", headers, body))


def _authorization(draw: Draw) -> list[bytes]:
    values = SHOWN[draw(st.sampled_from(("good", "good", "wrong", "expired", "none")))]
    if draw(st.integers(0, 9)) == 0:
        values = (*values, *SHOWN[draw(st.sampled_from(("good", "wrong")))])
    return [b"Authorization: " + value for value in values]


def _joined(line: bytes, headers: list[bytes], body: bytes) -> bytes:
    return b"\r\n".join((line, *headers, b"", body))


_OUTER = ((b"POST", smuggling.PAGE), (b"GET", b"/v1/models"), (b"GET", b"/health"))
_KNOWN = {inner: list(smuggling.all_of_them(inner)) for inner in smuggling.hidden().values()}
_SOME_PIECES = st.lists(st.sampled_from(pieces.PIECES), min_size=1, max_size=5)
_HEADERS = st.lists(
    st.tuples(st.sampled_from(pieces.NAMES), st.sampled_from(pieces.VALUES)), max_size=4
)
_ODD_NAMES = st.sampled_from(
    (*pieces.NAMES, b"X-\xff", b"(x)", b"X ", b" X", b"", b"X\0", b"\tX", b"X\r")
)
_ODD_VALUES = st.sampled_from(
    (b"a\rb", b"a\0b", b"a\r\n b", b"a\nb", b"", b"a" * 7000)
) | st.binary(max_size=12)
_ODD_HEADERS = st.lists(st.tuples(_ODD_NAMES, _ODD_VALUES), min_size=1, max_size=3)
_TEXT = st.sampled_from((WORDS, f"{WORDS} \u00e9\u4e2d\U0001f600", "", '"}', "\0"))
_PART = st.fixed_dictionaries({"type": st.sampled_from(("text", "image_url", "video_url"))}).map(
    lambda part: part | {"text": WORDS, "image_url": {"url": "data:image/png;base64,aGk="}}
)
_BODY = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries(
                {
                    "role": st.sampled_from(("user", "root")),
                    "content": _TEXT | st.lists(_PART, max_size=2),
                }
            ),
            max_size=2,
        )
    },
    optional={
        "model": _TEXT,
        "stream": st.booleans(),
        "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}),
        "max_tokens": st.integers(-1, 1 << 40),
        "temperature": st.floats(allow_nan=True),
    },
)
_JUNK = st.sampled_from(pieces.BODIES) | st.binary(max_size=60)
