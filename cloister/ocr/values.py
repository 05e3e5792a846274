"""Values of a ledger, which may have come with its folder from anywhere: checked as they come."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from cloister.cleaning import clean, on_one_line
from cloister.errors import OcrError
from cloister.folders import shown
from cloister.ocr import targets
from cloister.ocr.documents import Document, Entry, restored
from cloister.ocr.results import PageResult, Summary
from cloister.ocr.schema import MOST_FACTS_BYTES

PATH = "path of a document"
MOST_PAGES = 10_000_000
_LONGEST_PATH, _LONGEST_TEXT = 65_536, 1_000
_LAST_S = 253_402_300_799  # the year 9999, at which Python's calendar ends
_SHOWN = 60
_LONGEST_FACT = 2_000  # characters
_PAGE, _SUMMARY = TypeAdapter(PageResult), TypeAdapter(Summary)


def odd(what: str, value: object, expected: str) -> OcrError:
    """Return the error for a value that nothing of ours wrote."""
    return OcrError(
        f"the ledger's {what} is {value!a:.{_SHOWN}}, expected {expected}",
        hint="another --out",
    )


def number(value: object, what: str, least: int = 0, most: int = 1 << 62) -> int:
    """Return a whole number between two."""
    if not isinstance(value, int) or not least <= value <= most:
        raise odd(what, value, f"a number from {least:,} to {most:,}")
    return value


def seconds(value: object, what: str) -> float | None:
    """Return a time since 1970, None where there is none."""
    if value is None:
        return None
    if not isinstance(value, int | float) or not 0 <= value <= _LAST_S:
        raise odd(what, value, "seconds since 1970")
    return value


def text(value: object, what: str) -> str:
    """Return a short text."""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise odd(what, value, f"a text of at most {_LONGEST_TEXT:,} characters")
    return value


def path(value: object, what: str) -> Path:
    """Return a path, stored as text or as bytes."""
    if not isinstance(value, str | bytes) or len(value) > _LONGEST_PATH:
        raise odd(what, value, "a path")
    if (b"\0" if isinstance(value, bytes) else "\0") in value:  # type: ignore[operator]
        raise odd(what, value, "a path without NUL")
    return restored(value)


def entry(row: Sequence[Any], *, named: bool) -> Entry:
    """Return a document; `named` as in Document."""
    key, place, name, target, signature, sha256, pages, finished = row
    return Entry(
        key,
        Document(path(place, PATH), path(name, "name of a document"), named=named),
        _safe(target),
        None if signature is None else text(signature, "signature of a file"),
        None if sha256 is None else text(sha256, "hash of a file"),
        None if pages is None else number(pages, "count of pages", 0, MOST_PAGES),
        seconds(finished, "end of a document"),
    )


def _safe(found: object) -> Path:
    """Return where an output goes; a ledger may have come with its folder from anywhere."""
    target = path(found, "target of a document")
    if not targets.is_safe(target):
        raise OcrError(f"the ledger names an output outside its folder: `{shown(target)}`")
    return target


def facts(value: object, what: str) -> dict[str, Any]:
    """Return what is kept as a JSON object."""
    if not isinstance(value, str):
        raise odd(what, value, f"JSON of at most {MOST_FACTS_BYTES:,} bytes")
    try:
        found = from_json(value, allow_inf_nan=False)
    except ValueError as error:
        raise odd(what, value, f"JSON ({error})") from error
    if not isinstance(found, dict):
        raise odd(what, value, "a JSON object")
    return found


def kept(facts: dict[str, object]) -> str:
    """Return facts as JSON to be kept: what an engine says of itself has any length."""
    short = {
        name: fact[:_LONGEST_FACT] if isinstance(fact, str) else fact
        for name, fact in facts.items()
    }
    return json.dumps(short)


def page_row(row: Sequence[object]) -> PageResult:
    """Return a page by its document, number, text and facts."""
    document, number, text, found = row
    told = {
        name: on_one_line(fact) if isinstance(fact, str) else fact
        for name, fact in facts(found, "facts of a page").items()
    }
    result = page({**told, "document": document, "page": number, "text": text})
    if result.text is None:
        return result
    cleaned = clean(result.text)
    removed = result.removed_characters + cleaned.removed
    return replace(result, text=cleaned.text, removed_characters=removed)


def page(values: dict[str, Any]) -> PageResult:
    """Return a page by the values of its fields."""
    try:
        return _PAGE.validate_python(values)
    except ValidationError as error:
        raise _first(error, f"page {values['page']!a:.{_SHOWN}}") from error


def summary(values: dict[str, Any]) -> Summary:
    """Return counts by their names."""
    try:
        return _SUMMARY.validate_python(values)
    except ValidationError as error:
        raise _first(error, "sum") from error


def _first(error: ValidationError, what: str) -> OcrError:
    wrong = error.errors(include_url=False)[0]
    name = ".".join(map(str, wrong["loc"]))
    return odd(f"{what}: {name:.{_SHOWN}}", wrong["input"], wrong["msg"].lower())
