"""Refuses a JSON body that costs more to parse than it cost to send, before anything parses it.

An engine parses a body in its event loop and answers nobody else meanwhile: 1 MiB of
`{"messages":[{},{},...]}` keeps vLLM busy for 40 s. Both engines load this ASGI middleware, vLLM by
its flag `--middleware`. Standard library only: it runs inside vLLM's image too.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from cloister.engines.turns import Turns

# A request of 16 pages has some 100 values, one with a large JSON schema some 2,000.
MOST_VALUES = 10_000
MOST_CONTAINERS = 2_000
# Of each object in `messages` that is no message, vLLM describes 15 errors: 2,000 take 0.2 s.
MOST_MESSAGES = 500
DEEPEST = 64
# A context of 131,072 tokens is some 500 KB of text; written as \u00e9, it may be 800 KB.
MOST_TEXT_BYTES = 1 << 20
# A double takes 25 characters. Parsers take time that grows with the square of an integer's length.
LONGEST_NUMBER = 100
CODE = "body_too_complex"

_DATA = b"data:"
_LONGEST_KEPT = 64  # bytes of a string: all of a key, each letter of `messages` written as \u006d
# What a list or an object is, by what it is in, how it begins, and its key. For each element of the
# two lists vLLM tries ten kinds of messages: 10,000 numbers there take 1 s.
_KINDS = {
    ("", b"{", ""): "request",
    ("request", b"[", "messages"): "messages",
    ("messages", b"{", ""): "message",
    ("message", b"[", "content"): "content",
    ("content", b"{", ""): "part",
    ("part", b"{", "image_url"): "image",
}
_IMAGE_FIELDS = {("image", b"url"), ("part", b"image_url")}
_PAIRS = {b"]": b"[", b"}": b"{"}
_LISTS_OF_OBJECTS = {"messages", "content"}
_TOKEN = re.compile(rb'([\s,:]*)(["\[\]{}]|[^\s"\[\]{},:]+)?')
_ESCAPED = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]


class BodyRefusedError(Exception):
    """A body is outside the bounds; the text says which."""


class JsonCounter:
    """Counts what a JSON text holds while it arrives, in pieces of any size.

    It does not check the grammar: whatever it lets through still has to be parsed. `text_bytes` are
    all bytes except those of images, which are `data:` URLs where a message has its images.
    """

    def __init__(self) -> None:
        self.values = self.containers = self.messages = 0
        self._kinds: list[str] = []  # of the lists and objects that are open
        self._opened: list[bytes] = []  # how they began
        self.bytes = self._image_bytes = 0
        self._is_string = self._is_escaped = self._is_after_colon = False
        self._is_image_field = False
        self._string_bytes = 0
        # The start of the current string, or of the last one.
        self._start = b""
        self._literal_bytes = 0

    @property
    def text_bytes(self) -> int:
        """Bytes so far that are not an image's, nor the start of what may be one."""
        may_be_image = self._is_image_field and _DATA.startswith(self._start.lower())
        return self.bytes - self._image_bytes - (self._string_bytes if may_be_image else 0)

    def feed(self, piece: bytes) -> None:
        """Take the next piece; raises BodyRefusedError as soon as a bound is passed."""
        # Python's parser reads UTF-16 and UTF-32 too, where a quotation mark may be half of another
        # character. Both have such bytes wherever JSON has one of its marks; UTF-8 never has.
        if b"\0" in piece:
            raise BodyRefusedError("has NUL bytes; JSON is UTF-8 text")
        at = 0
        while at < len(piece):
            at = self._string(piece, at) if self._is_string else self._token(piece, at)
        self.bytes += len(piece)
        if self.text_bytes > MOST_TEXT_BYTES:
            raise BodyRefusedError(
                f"has more than {MOST_TEXT_BYTES >> 20} MiB besides images in `image_url`"
            )

    def _token(self, piece: bytes, at: int) -> int:
        """Take separators and what follows them; return where the next token begins."""
        match = _TOKEN.match(piece, at)
        separators, token = match.groups() if match else (b"", None)
        if separators:
            self._literal_bytes = 0
            self._is_after_colon = self._is_after_colon or b":" in separators
        if token == b'"':
            self._begin_string()
        elif token in {b"[", b"{"}:
            self._open(token)
        elif token in _PAIRS:
            self._close(token)
        elif token:
            self._add_literal(len(token))
        return match.end() if match else len(piece)

    def _open(self, token: bytes) -> None:
        key = self._key() if self._is_after_colon else ""
        self._add_value(token)
        self._kinds.append(_KINDS.get((self._kind, token, key), "other"))
        self._opened.append(token)
        self.containers += 1
        self.messages += self._kind == "message"
        if self.messages > MOST_MESSAGES:
            raise BodyRefusedError(f"has more than {MOST_MESSAGES} messages")
        if self.containers > MOST_CONTAINERS:
            raise BodyRefusedError(f"has more than {MOST_CONTAINERS:,} lists and objects")
        if len(self._kinds) > DEEPEST:
            raise BodyRefusedError(f"is nested more than {DEEPEST} levels deep")

    def _close(self, token: bytes) -> None:
        if not self._opened or self._opened.pop() != _PAIRS[token]:
            raise BodyRefusedError("is no JSON: it closes a list or an object that is not open")
        self._kinds.pop()
        self._literal_bytes = 0

    def _add_literal(self, size: int) -> None:
        """Count a number or a word, whose beginning may have come with the piece before."""
        if not self._literal_bytes:
            self._add_value(b"")
        self._literal_bytes += size
        if self._literal_bytes > LONGEST_NUMBER:
            raise BodyRefusedError(f"has a number or word of more than {LONGEST_NUMBER} characters")

    @property
    def _kind(self) -> str:
        return self._kinds[-1] if self._kinds else ""

    def _key(self) -> str:
        """Return the last string as its parser reads it, or nothing where it is none."""
        try:
            return str(json.loads(b'"' + self._start + b'"'))
        except ValueError:
            return ""

    def _add_value(self, token: bytes) -> None:
        if self._kind in _LISTS_OF_OBJECTS and token != b"{":
            raise BodyRefusedError(f"has something else than objects in `{self._kind}`")
        self.values += 1
        self._is_after_colon = False
        self._literal_bytes = 0
        if self.values > MOST_VALUES:
            raise BodyRefusedError(f"has more than {MOST_VALUES:,} keys and values")

    def _begin_string(self) -> None:
        field = self._kind, self._start
        self._is_image_field = self._is_after_colon and field in _IMAGE_FIELDS
        self._add_value(b'"')
        self._is_string, self._start, self._string_bytes = True, b"", 0

    def _string(self, piece: bytes, at: int) -> int:
        """Take the rest of a string as far as it is here; return where it ends."""
        start = at
        if self._is_escaped:
            self._is_escaped, at = False, at + 1
        end = piece.find(b'"', at)
        end = len(piece) if end < 0 else end
        if piece.find(b"\\", at, end) >= 0:
            match = _ESCAPED.match(piece, at)
            end = match.end() if match else at
            if piece[end : end + 1] == b"\\":  # what it escapes comes with the next piece
                self._is_escaped, end = True, end + 1
        self._add_to_string(piece, start, end)
        if end == len(piece):
            return end
        self._is_string = self._is_image_field = False
        return end + 1

    def _add_to_string(self, piece: bytes, start: int, end: int) -> None:
        self._start += piece[start : min(end, start + _LONGEST_KEPT - len(self._start))]
        self._string_bytes += end - start
        if self._is_image_field and self._start[: len(_DATA)].lower() == _DATA:
            # What came before the URL was known for one counts with it.
            self._image_bytes += self._string_bytes
            self._string_bytes = 0


class JsonBoundsMiddleware:
    """ASGI middleware: answers 400 for a body outside the bounds, whose app sees a disconnect.

    Bodies inside the bounds are parsed one in a round of the event loop, so that a hundred of them
    at once keep nobody waiting longer than one does, the watchdog's question least of all. While
    they arrive they are counted in turns, the smallest one so far first.
    """

    def __init__(self, app: _App) -> None:
        self._app = app
        self._turn = asyncio.Lock()
        self._turns = Turns()

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send
    ) -> None:
        """Pass one request through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive, self._turn, self._turns)

        async def pass_on(message: _Message) -> None:
            if not body.refusal:
                await send(message)

        try:
            await self._app(scope, body.receive, pass_on)
        except Exception:
            # Of a body that ends in the middle an app may make any error of its own.
            if not body.refusal:
                raise
        if body.refusal:
            await _refuse(send, body.refusal)


class _Body:
    """The body of one request as the app gets it, and why it is refused, if it is."""

    def __init__(self, receive: _Receive, turn: asyncio.Lock, turns: Turns) -> None:
        self.refusal = ""
        self._receive = receive
        self._turn, self._turns = turn, turns
        self._counter = JsonCounter()

    async def receive(self) -> _Message:
        """Return the next message; a disconnect once the body is refused."""
        message = await self._receive()
        if not self.refusal and message["type"] == "http.request":
            await self._count(message)
        return {"type": "http.disconnect"} if self.refusal else message

    async def _count(self, message: _Message) -> None:
        await self._turns.wait(self._counter.bytes)
        try:
            with self._turns.spending():
                self._counter.feed(message.get("body", b""))
        except BodyRefusedError as error:
            self.refusal = str(error)
            return
        if self._counter.bytes and not message.get("more_body"):
            # The app parses in the very step in which it gets the last message.
            async with self._turn:
                await asyncio.sleep(0)


async def _refuse(send: _Send, refusal: str) -> None:
    error = {
        "message": f"the body {refusal}",
        "type": "invalid_request_error",
        "param": None,
        "code": CODE,
    }
    body = json.dumps({"error": error}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})
