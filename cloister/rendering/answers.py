"""What a worker says, checked: a document may have taken it over."""

import json
from typing import Any

from cloister.cleaning import on_one_line

_IMAGE_BYTES = 512 << 20
_MIMES = {"image/png", "image/jpeg", "image/tiff", "image/webp", "image/bmp", "image/gif"}
_NUMBERS = {"count", "width", "height", "bytes"}


class BrokenError(Exception):
    """The worker did not speak as it should."""


def parse(line: bytes, shape: dict[str, Any]) -> dict[str, Any]:
    """Return what a worker says, once it has the shape of an answer; else raise BrokenError."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BrokenError("not JSON") from error
    if not isinstance(answer, dict):
        raise BrokenError("not an answer")
    if answer == {"memory": True}:
        return answer
    if isinstance(reason := answer.get("unreadable"), str):
        return {"unreadable": on_one_line(reason)}
    if answer.keys() != shape.keys():
        raise BrokenError("another answer than was asked for")
    for name, kind in shape.items():
        value = answer[name]
        # A bool is an int to Python.
        if not isinstance(value, kind) or (name in _NUMBERS and not _is_number(value)):
            raise BrokenError(f"a strange {name}")
    if answer.get("mime", "image/png") not in _MIMES:
        raise BrokenError("a strange type")
    return answer


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= _IMAGE_BYTES


def last_line(text: str) -> str:
    """Return the last line of what a worker printed, printable and of 500 characters at most."""
    lines = text.strip().splitlines()
    return on_one_line(lines[-1]) if lines else ""
