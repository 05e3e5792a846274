"""Page results to documents: Markdown with no silent gap, and where it is written."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from cloister.ocr.client import PageResult
from cloister.ocr.documents import Document


@dataclass(frozen=True)
class DocumentResult:
    """All pages of one document."""

    document: str
    pages: tuple[PageResult, ...]

    @property
    def failed(self) -> tuple[PageResult, ...]:
        """The pages that were not read, or not to their end."""
        return tuple(page for page in self.pages if page.error is not None)

    @property
    def markdown(self) -> str:
        """The pages' texts; a page without one leaves a visible note."""
        return "\n\n".join(_markdown(page) for page in self.pages) + "\n"


def by_document(results: Iterable[PageResult]) -> Iterator[DocumentResult]:
    """Group page results, which come in order, by their documents."""
    for name, pages in groupby(results, key=lambda page: page.document):
        yield DocumentResult(name, tuple(pages))


def targets(inputs: Sequence[Document], folder: Path) -> dict[str, Path]:
    """Map each document to its Markdown file; `a.pdf` and `a.png` keep their suffixes."""
    stems = Counter(document.name.with_suffix("") for document in inputs)
    return {
        str(document.path): folder
        / (
            document.name.with_suffix(".md")
            if stems[document.name.with_suffix("")] == 1
            else document.name.with_name(f"{document.name.name}.md")
        )
        for document in inputs
    }


def _markdown(page: PageResult) -> str:
    place = f"Page {page.page}" if page.page else "This document"
    if page.text is None:
        return f"> **{place} was not read:** {page.error}"
    if page.error is not None:
        return f"{page.text}\n\n> **{place} is incomplete:** {page.error}"
    return page.text or f"<!-- {place.lower()}: no text on it -->"
