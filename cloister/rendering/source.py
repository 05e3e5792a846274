"""The door to a document: PDF or image, the last one kept open."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from cloister.rendering.drawing import WHOLE, Drawing, Drawn, Part, UnreadableError
from cloister.rendering.images import ImageFile
from cloister.rendering.opening import open_document
from cloister.rendering.pdf import Pdf

_PDF_HEADER = 1024  # bytes in which `%PDF-` may stand
_PAGES_AT_ONCE = 200  # pdfium keeps something of every page until the document is closed


class Pages(Protocol):
    """An open document; pages are counted from 1."""

    count: int

    def draw(self, number: int, drawing: Drawing) -> Drawn:
        """Draw a page."""

    def blank(self, number: int, part: Part) -> bool:
        """Return whether a page, or a half of it, has nothing on it."""

    def close(self) -> None:
        """Let go of the file."""


def load(file: int) -> Pages:
    """Return the document in an open file, which stays the caller's to close, after `close`.

    Raises UnreadableError for anything but a PDF or a known image.
    """
    try:
        return Pdf(file) if b"%PDF-" in os.pread(file, _PDF_HEADER, 0) else ImageFile(file)
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error


class Source:
    """Documents, of which the last one stays open: the pages of one mostly come in a row."""

    def __init__(self) -> None:
        self._key: object = None
        self._file: int | None = None
        self._pages: Pages | None = None
        self._served = 0

    def open(self, file: int) -> Pages:
        """Return the document in an open file, which this closes. Raises UnreadableError."""
        key = identify(file)
        if self._pages is None or key != self._key or self._served >= _PAGES_AT_ONCE:
            self.close()
            self._file = file
            self._pages = load(file)
            self._key, self._served = key, 0
        else:
            os.close(file)
        self._served += 1
        return self._pages

    def close(self) -> None:
        """Close the document that is open, if one is."""
        if self._pages is not None:
            self._pages.close()
        if self._file is not None:
            os.close(self._file)
        self._pages = self._file = None


def identify(file: int) -> tuple[int, ...]:
    """Return what differs between two files, or one file before and after a change."""
    found = os.fstat(file)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def count(path: Path) -> int:
    """Return the number of pages. Raises UnreadableError."""
    with _opened(path) as pages:
        return pages.count


def draw(path: Path, number: int, drawing: Drawing) -> Drawn:
    """Draw a page, counted from 1. Raises UnreadableError."""
    with _opened(path) as pages:
        return pages.draw(number, drawing)


def blank(path: Path, number: int, part: Part = WHOLE) -> bool:
    """Return whether a page, or a half, shows nothing but paper. Raises UnreadableError.

    Neither a scanner's grain nor grey paper counts as anything.
    """
    with _opened(path) as pages:
        return pages.blank(number, part)


@contextmanager
def _opened(path: Path) -> Iterator[Pages]:
    source = Source()
    try:
        yield source.open(open_document(path))
    except MemoryError as error:
        raise UnreadableError("rendering needed more memory than there is") from error
    finally:
        source.close()
