"""One streamed answer, byte by byte: what it said, and when."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from cloister.bounded import tokens
from cloister.cleaning import Cleaned, clean

# A surrogate without its other half is no character, and orjson takes no line with one: another
# code that is no character takes its place.
_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_MOST_TEXT = 400_000  # characters: a runaway answer is judged by its end, not kept whole
_DATA = b"data:"
# An event has one token, or a few. Without an end of its line it would be kept and looked through
# again with every piece.
_LARGEST_EVENT_MIB = 1


class _OddError(ValueError):
    """An event is nothing that the API has; the text says why."""


@dataclass
class Answer:
    """What came of a request; seconds count from `start`, tokens are what `usage` says.

    `broken` is why it ended before its end, `odd` that this was an event that the API does not
    have: the connection was well, and what came before counts.
    """

    start: float
    first_s: float | None = None
    end_s: float = 0.0
    chunks: int = 0
    gap_s: float = 0.0
    done: bool = False
    finish_reason: str | None = None
    broken: str | None = None
    odd: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    model: str | None = None
    characters: int = 0
    _parts: list[str] = field(default_factory=list)
    _last: float = 0.0
    _rest: bytes = b""

    @property
    def raw(self) -> str:
        """What it said, as it came."""
        return "".join(self._parts)

    @property
    def page(self) -> Cleaned:
        """What it said as a page's text; an escape may have come in several pieces."""
        return clean(self.raw)

    def follow(self, listen: Callable[[Callable[[bytes], None]], None]) -> None:
        """Let `listen` tell the body's pieces; whatever breaks it is noted, not raised.

        Time is taken when a piece is there, before it is parsed.
        """
        try:
            listen(self._hear)
            self._hear_rest(time.perf_counter() - self.start)
        except _OddError as error:
            self.broken, self.odd = self.broken or str(error), True
        except (OSError, ValueError, EOFError) as error:
            self.broken = self.broken or of_connection(error)
        except Exception as error:  # the HTTP library's own derive from nothing narrower
            if type(error).__module__.partition(".")[0] != "geventhttpclient":
                raise
            self.broken = self.broken or of_connection(error)
        self.end_s = time.perf_counter() - self.start

    def _hear(self, piece: bytes) -> None:
        at_s = time.perf_counter() - self.start
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if line:
                self._hear_line(line, at_s)
        if len(self._rest) > _LARGEST_EVENT_MIB << 20:
            raise _OddError(f"an event is larger than {_LARGEST_EVENT_MIB} MiB")

    def _hear_rest(self, at_s: float) -> None:
        """Take what came after the last line: a whole event, or half of one."""
        is_begun = _DATA.startswith(self._rest) and self._rest != b""
        try:
            if not is_begun:
                self._hear_line(self._rest, at_s)
        except _OddError:
            is_begun = True
        if is_begun:
            self.broken = self.broken or "cut short"

    def _hear_line(self, line: bytes, at_s: float) -> None:
        if line.startswith(b"data: [DONE]"):
            self.done = True
            return
        if not line.startswith(_DATA):
            if line.strip() and not line.startswith(b":"):
                self.broken = self.broken or "not a stream"
            return
        event = _parsed(line[len(_DATA) :])
        if "error" in event:
            self.broken = "an error in the answer"
            return
        self._count(event.get("usage"))
        model = event.get("model")
        self.model = self.model or (model if isinstance(model, str) else None)
        for choice in _checked(event.get("choices"), list, "`choices` is no list") or ():
            if not isinstance(choice, dict):
                raise _OddError("a choice is no object")
            delta = _checked(choice.get("delta"), dict, "`delta` is no object") or {}
            reason = choice.get("finish_reason")
            _checked(reason, str, "`finish_reason` is no text")
            self.finish_reason = reason or self.finish_reason
            if said := _checked(delta.get("content"), str, "`content` is no text"):
                self._say(said, at_s)

    def _say(self, said: str, at_s: float) -> None:
        if self.first_s is None:
            self.first_s = at_s
        else:
            self.gap_s = max(self.gap_s, at_s - self._last)
        self._last = at_s
        self.chunks += 1
        self.characters += len(said)
        self._parts.append(said)
        if len(self._parts) > _MOST_TEXT:
            del self._parts[: _MOST_TEXT // 2]

    def _count(self, usage: object) -> None:
        if not isinstance(usage, dict):
            return
        self.prompt_tokens = tokens(usage.get("prompt_tokens"))
        self.completion_tokens = tokens(usage.get("completion_tokens"))
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict):
            self.cached_tokens = tokens(details.get("cached_tokens"))


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        event = _repaired(line)
    if not isinstance(event, dict):
        raise _OddError("an event is no object")
    return event


def _repaired(line: bytes) -> Any:
    try:
        return orjson.loads(_HALF.sub(rb"\\ufdd0", line))
    except orjson.JSONDecodeError as error:
        raise _OddError("an event is no JSON") from error


def _checked(value: Any, kind: type, otherwise: str) -> Any:
    """Return a value of a kind, or None; raises _OddError for any other."""
    if value is not None and not isinstance(value, kind):
        raise _OddError(otherwise)
    return value


def of_connection(error: BaseException) -> str:
    """Return what a connection died of, in one word or two."""
    name = type(error).__name__
    known = {
        "ConnectionRefusedError": "refused",
        "ConnectionResetError": "reset",
        "HTTPConnectionClosed": "cut short",
        "HTTPParseError": "cut short",
        "IncompleteRead": "cut short",
        "timeout": "timed out",
        "TimeoutError": "timed out",
        "gaierror": "unknown host",
        "StrangerError": "another user's",
    }
    return known.get(name, name)
