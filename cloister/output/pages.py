"""What is known of a document and its pages, and the words for a page that was not read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

_REBUILT = "the file was rebuilt, parts of it may be missing"

Format = Literal["markdown", "jsonl", "html", "txt"]


@dataclass(frozen=True)
class PageText:
    """One page: its Markdown, or in `error` why there is none, or why there is not all of it.

    `number` is 0 for a document that could not be opened; `facts` are what else the page's JSON
    line says.
    """

    number: int
    text: str | None
    error: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """The document that was read, and what read it; `date` is ISO 8601.

    `model` is what was asked for, None where the engine is none.
    """

    name: str
    sha256: str | None
    pages: int
    model: str | None
    profile: str | None
    engines: tuple[str, ...]
    date: str


@dataclass(frozen=True)
class Style:
    """How a document is written down."""

    format: Format = "markdown"
    tags: Literal["keep", "strip", "map"] = "keep"
    headers: Literal["keep", "remove"] = "keep"
    tables: Literal["keep", "join"] = "keep"


def removed_characters(page: PageText) -> int:
    """Return how many characters were removed from a page's text, as far as its facts tell."""
    count = page.facts.get("removed_characters")
    return count if isinstance(count, int) else 0


def provenance(source: Source, pages: Sequence[PageText]) -> dict[str, object]:
    """Return what a document says about itself: text on one line each, nothing that is unknown."""
    failed = [page.number for page in pages if page.error is not None and page.number]
    known = {
        "source": folded(source.name),
        "sha256": source.sha256,
        "pages": source.pages,
        "failed_pages": failed or None,
        "damaged": _REBUILT if any(page.facts.get("rebuilt") for page in pages) else None,
        "model": source.model and folded(source.model),
        "profile": source.profile and folded(source.profile),
        "engine": [folded(engine) for engine in source.engines],
        "date": folded(source.date),
    }
    return {name: value for name, value in known.items() if value is not None}


def notice(page: PageText) -> tuple[str, str] | None:
    """Return what has to be said about a page that was not read to its end, and the reason."""
    if page.text is not None and page.error is None:
        return None
    place = f"Page {page.number}" if page.number else "This document"
    became = "was not read" if page.text is None else "is incomplete"
    return f"{place} {became}:", folded(page.error or "no reason was given")


def folded(text: str) -> str:
    """Return a text on one line."""
    return " ".join(text.split())
