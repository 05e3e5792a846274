"""YAML and JSON that may come from a stranger: bounded before anything is built of it.

A configuration, a lock, a profile, a report or a model's config.json is copied from machine to
machine. A few kilobytes of it can stand for gigabytes (aliases), take a parser minutes (brackets)
or say two things at once (a name that is there twice), and a file need not be one at all. So: a
regular file of a bounded size, no aliases and no tags, every name once, and a bounded depth and
number of values, which are counted before an object is made.
"""

import contextlib
import json
import os
import re
import select
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

YAML_BYTES, JSON_BYTES = 4 << 20, 64 << 20
CONFIG_BYTES = 4 << 20  # of a model: a list of every layer is some 100 KB
PIPE_S = 30.0  # the longest that a pipe is read, from its opening to its end
_YAML_NODES, _JSON_VALUES = 200_000, 2_000_000
_DEPTH = 64
_CHUNK_BYTES = 1 << 16
_LONGEST_NUMBER = 400  # characters
# Without O_NONBLOCK a pipe waits for somebody who writes into it.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where it is there
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NUMBER = re.compile(r"[-+.0-9_:a-fA-FxoXO]+")

_ALIAS = "put a value that begins with * in quotes, or write out what it stands for"
_TAG = "put a value that begins with ! in quotes"
_KEY = "put a key that begins with [ or { in quotes"


class DataError(ValueError):
    """A file's content is not what can be read; the text is one line that says why.

    `hint` says what to change, where that is known.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file. Raises DataError for anything else, or OSError."""
    number = os.open(path, _FLAGS)
    try:
        _require_regular(os.fstat(number))
    except BaseException:
        os.close(number)
        raise
    with os.fdopen(number, "rb") as file:
        yield file


def _require_regular(found: os.stat_result) -> None:
    # /dev/null is how a user says that there is nothing.
    if not stat.S_ISREG(found.st_mode) and not os.path.samestat(found, Path(os.devnull).stat()):
        raise DataError("it is not a regular file")


def read(path: Path, most_bytes: int = JSON_BYTES) -> bytes:
    """Return a regular file's content. Raises DataError for anything else, or OSError."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > most_bytes else file.read(most_bytes + 1)
    if max(len(content), size) > most_bytes:
        raise DataError(f"it is larger than {most_bytes:,} bytes")
    return content


def read_pipe(path: Path, most_bytes: int) -> bytes:
    """Return all that comes through a pipe that the user named, such as bash's `<(...)`.

    Raises DataError for anything else, for what is larger, or does not end within PIPE_S seconds,
    and for nothing: a pipe gives its content once. Raises OSError as well.
    """
    number = os.open(path, _FLAGS)
    try:
        if not stat.S_ISFIFO(os.fstat(number).st_mode):
            raise DataError("it is not a pipe any more")
        content = b"".join(_chunks(number, most_bytes))
    finally:
        os.close(number)
    if len(content) > most_bytes:
        raise DataError(f"it is larger than {most_bytes:,} bytes")
    if not content:
        raise DataError("nothing came through it; a pipe can be read only once")
    return content


def _chunks(pipe: int, most_bytes: int) -> Iterator[bytes]:
    """Yield what comes until the end, or until it is too much; raises DataError when none comes."""
    ends, size = time.monotonic() + PIPE_S, 0
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    while size <= most_bytes:
        with contextlib.suppress(BlockingIOError):
            chunk = os.read(pipe, _CHUNK_BYTES)
            size += len(chunk)
            yield chunk
            if size and not chunk:
                return
        left_s = ends - time.monotonic()
        events = poller.poll(left_s * 1000) if left_s > 0 else []
        if not events and size:
            raise DataError(f"it did not end within {PIPE_S:g} s")
        if not events or not events[0][1] & select.POLLIN:
            return  # nobody writes, or has it open


def read_text(path: Path, most_bytes: int = YAML_BYTES) -> str:
    """Return a regular file's text. Raises DataError, or OSError."""
    return _decoded(read(path, most_bytes))


def load_yaml(path: Path) -> Any:
    """Return what a YAML file holds. Raises DataError, or OSError."""
    return parse_yaml(read_text(path))


def load_json(path: Path, most_bytes: int = JSON_BYTES) -> Any:
    """Return what a JSON file holds. Raises DataError, or OSError."""
    return parse_json(read(path, most_bytes))


def read_json(path: Path, most_bytes: int = JSON_BYTES) -> bytes:
    """Return a JSON file's content for a parser of models. Raises DataError, or OSError."""
    content = read(path, most_bytes)
    check_json(content)
    return content


def parse_yaml(text: str) -> Any:
    """Return what a text holds as plain objects. Raises DataError."""
    try:
        check_yaml(text)
        return yaml.load(text, Loader=_LOADER)  # noqa: S506  # a safe one
    except DataError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, RecursionError) as error:
        raise DataError(" ".join(str(error).split())) from error


def check_yaml(text: str, *, once: bool = True) -> None:
    """Raise DataError, or YAMLError, for what would not be read: nothing is built of it.

    Without `once` a name may be there twice.
    """
    if len(text) > YAML_BYTES:
        raise DataError(f"it is larger than {YAML_BYTES:,} bytes")
    nodes = 0
    open_: list[_Open] = []
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise _refusal(event, "has an alias, which is not followed", _ALIAS)
        if isinstance(event, yaml.NodeEvent):
            nodes += 1
            _check_node(event, open_, once=once)
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append(_Open(isinstance(event, yaml.MappingStartEvent)))
        elif isinstance(event, yaml.CollectionEndEvent):
            open_.pop()
        if nodes > _YAML_NODES or len(open_) > _DEPTH:
            raise _refusal(
                event, f"is beyond {_YAML_NODES:,} values, or nested in more than {_DEPTH}"
            )


def parse_json(content: bytes | str, *, most_values: int = _JSON_VALUES) -> Any:
    """Return what a text holds as plain objects. Raises DataError."""
    text = _json_text(content)
    check_json(text, most_values=most_values)
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"it is not JSON: {error}") from error


def check_json(content: bytes | str, *, most_values: int = _JSON_VALUES) -> None:
    """Raise DataError for what is not UTF-8, has too many values, or is nested too deeply.

    Nothing is built of it.
    """
    plain = _STRING.sub(b"", _json_text(content).encode(errors="replace"))
    if sum(map(plain.count, (b",", b"[", b"{"))) > most_values:
        raise DataError(f"it has more than {most_values:,} values")
    depth = 0
    for bracket in re.finditer(rb"[\[\]{}]", plain):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > _DEPTH:
            raise DataError(f"it is nested in more than {_DEPTH}")


def _json_text(content: bytes | str) -> str:
    """Return JSON's text: parsers take UTF-16 and UTF-32 too, whose brackets are not counted."""
    text = _decoded(content) if isinstance(content, bytes) else content
    if "\0" in text:
        raise DataError("it has NUL characters, expected JSON in UTF-8")
    return text


class _Open:
    """A mapping or a list that was begun: in a mapping every other node is a key."""

    def __init__(self, is_mapping: bool) -> None:  # noqa: FBT001
        self.is_mapping, self.nodes = is_mapping, 0
        self.keys: set[str] = set()


def _check_node(event: yaml.NodeEvent, open_: list[_Open], *, once: bool) -> None:
    if getattr(event, "tag", None) is not None:
        raise _refusal(event, "has a tag, which is not read", _TAG)
    name = str(event.value) if isinstance(event, yaml.ScalarEvent) else None
    is_plain = isinstance(event, yaml.ScalarEvent) and event.implicit[0]  # what is quoted is text
    if is_plain and name and len(name) > _LONGEST_NUMBER and _NUMBER.fullmatch(name):
        told = f"has a number of more than {_LONGEST_NUMBER} characters"
        raise _refusal(event, told, "put it in quotes if it is text")
    if not once or not open_ or not open_[-1].is_mapping:
        return
    inside = open_[-1]
    inside.nodes += 1
    if inside.nodes % 2 == 0:
        return
    if name is None:
        raise _refusal(event, "has a list or a mapping where a key belongs", _KEY)
    if name in inside.keys:
        raise _refusal(event, f"has {name[:40]!r} for the second time", "remove one of them")
    inside.keys.add(name)


def _refusal(event: yaml.Event, what: str, hint: str | None = None) -> DataError:
    line = "" if event.start_mark is None else f"line {event.start_mark.line + 1} "
    return DataError(line + what, hint)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name is there twice")
    return made


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"line {line} is not UTF-8") from error
