"""Conversations in HTTP/2 that hypothesis makes up."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import http2
import smuggling
from anything import OPERATIONS, SHOWN
from http2 import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS
from hypothesis import strategies as st
from key_guessing import GOOD
from siege import QUERY, WORDS

Draw = Callable[..., Any]
Pair = tuple[bytes, bytes]

_INNER = tuple(smuggling.hidden().values())
_ODD: dict[bytes, tuple[bytes, ...]] = {
    b":method": (
        *(b"PUT", b"CONNECT", b"GET /smuggled HTTP/1.1\r\nX:", b"get", b"", b"PRI", b"TRACE"),
    ),
    b":scheme": (b"http", b"", b"https://a/smuggled?", b"file", b"h\r\n"),
    b":path": (
        *(b"/smuggled", b"", b"*", b"health", b"//health", b"/v1/../smuggled", b"/health\0"),
        *(b"/health HTTP/1.1\r\nX: a", b"/health#a", b"http://a/health", b"/%2e%2e/health"),
        *(b"/v1/models?a\r\n\r\n", b"/\xff"),
    ),
    b":authority": (b"", b"a b", b"a\r\nX: a", b"a/b", b"u@a", b"[::1]", b"a:b", b"\0", b"A" * 300),
}
# Settings of a client: a window of 0, no table, no streams, pushes.
_SETTINGS = (b"\0\4\0\0\0\0", b"\0\1\0\0\0\0", b"\0\3\0\0\0\0", b"\0\2\0\0\0\1")
_FRAMES = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 7), st.binary(max_size=40)),
    min_size=1,
    max_size=3,
)
_EXTRA: tuple[Pair, ...] = (
    *((b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"identity")),
    *((b"content-length", b"0"), (b"content-length", b"5"), (b"content-length", b"-1")),
    *((b"content-length", b"99999999"), (b"content-length", b"2, 2")),
    *((b"connection", b"keep-alive"), (b"connection", b"transfer-encoding"), (b"host", b"b")),
    *((b"te", b"gzip"), (b"expect", b"100-continue"), (b"upgrade", b"h2c"), (b"cookie", b"a")),
    *((b"x", b"a\r\nContent-Length: 0\r\n\r\n" + _INNER[0]), (b"x", b"a\nb: c"), (b"x", b"a\0")),
    *((b"X-Upper", b"a"), (b"x: a\r\nb", b"c"), (b"x y", b"a"), (b"", b"a"), (b":status", b"200")),
    *((b":path", b"/smuggled"), (b"transfer-encoding ", b"chunked"), (b"x" * 9000, b"a")),
    *((b"x", b"a" * 9000), (b"x_y", b"a")),
)
_BODIES = (
    *(b"", b"{}", b'{"stream":true}', WORDS.encode()),
    *(b"0\r\n\r\n" + _INNER[0], b"{}" + _INNER[1]),
)


@dataclass(frozen=True)
class Talk:
    """One conversation; the first stream must be answered or reset when it is `whole`."""

    wire: bytes
    whole: bool
    with_key: int


@st.composite
def talks(draw: Draw) -> Talk:
    """Ask for up to three things at once, rightly or not, with odd frames between."""
    begin = draw(st.sampled_from((b"", b"", b"", b"", *_SETTINGS)))
    frames = [http2.start(settings=begin)]
    first, with_key = False, 0
    for number in range(draw(st.sampled_from((1, 1, 1, 3)))):
        stream = 2 * number + 1
        pairs = draw(_heads())
        with_key += any(GOOD.encode() in value for _, value in pairs)
        more, whole = draw(_stream(stream, pairs))
        frames += more
        # nginx takes one request a connection, and leaves the others to another connection.
        first = first or (whole and not number)
    if draw(st.integers(0, 7)) == 7:
        for kind, flags, stream, payload in draw(_FRAMES):
            at = draw(st.integers(1, len(frames)))
            frames.insert(at, http2.frame(kind, flags, stream, payload))
        first = False
    # With a window of 0 an answer's body never comes.
    return Talk(b"".join(frames), first and begin[1:2] != b"\4", with_key)


@st.composite
def _heads(draw: Draw) -> list[Pair]:
    method, path = draw(st.sampled_from(OPERATIONS))
    usual = {
        b":method": method.encode(),
        b":scheme": b"https",
        b":path": path.encode() + draw(st.sampled_from((b"", f"?a={QUERY}".encode()))),
        b":authority": b"a",
    }
    odd = draw(st.sampled_from(("nothing", "nothing", "value", "none", "header", "header", "two")))
    if odd == "value":
        name = draw(st.sampled_from(sorted(_ODD)))
        usual[name] = draw(st.sampled_from(_ODD[name]))
    pairs = list(usual.items())
    shown = draw(st.sampled_from(("good", "good", "wrong", "expired", "none")))
    pairs += [(b"authorization", value) for value in SHOWN[shown]]
    if odd == "none":
        pairs.pop(draw(st.integers(0, len(pairs) - 1)))
    elif odd == "header":
        pairs += draw(st.lists(st.sampled_from(_EXTRA), min_size=1, max_size=2))
    elif odd == "two":
        pairs.insert(draw(st.integers(0, len(pairs))), draw(st.sampled_from(pairs)))
    return pairs


@st.composite
def _stream(draw: Draw, stream: int, pairs: list[Pair]) -> tuple[list[bytes], bool]:
    body = draw(st.sampled_from(_BODIES))
    ended = draw(st.integers(0, 9)) < 9
    whole = http2.block(pairs)
    cut = draw(st.sampled_from((len(whole), len(whole), len(whole) // 2)))
    flags = END_STREAM if ended and not body else 0
    frames = [
        http2.frame(HEADERS, flags | (END_HEADERS if cut == len(whole) else 0), stream, whole[:cut])
    ]
    if cut < len(whole):
        frames.append(http2.frame(CONTINUATION, END_HEADERS, stream, whole[cut:]))
    if body:
        at = draw(st.integers(0, len(body)))
        frames.append(http2.frame(DATA, 0, stream, body[:at]))
        frames.append(http2.frame(DATA, END_STREAM if ended else 0, stream, body[at:]))
    return frames, ended
