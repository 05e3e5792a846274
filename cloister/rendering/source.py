"""The door to a document: PDF or image, the last one kept open."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from cloister.rendering.drawing import WHOLE, Drawing, Drawn, Part, UnreadableError
from cloister.rendering.images import ImageFile
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


class Source:
    """Documents, of which the last one stays open: the pages of one mostly come in a row."""

    def __init__(self) -> None:
        self._key: object = None
        self._pages: Pages | None = None
        self._served = 0

    def open(self, path: Path) -> Pages:
        """Return the document. Raises UnreadableError for anything but a PDF or a known image."""
        try:
            found = path.stat()
            key = (path, found.st_size, found.st_mtime_ns, found.st_ino)
            if self._pages is None or key != self._key or self._served >= _PAGES_AT_ONCE:
                self.close()
                # A pipe or a device might never end, or never begin.
                if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
                    raise UnreadableError("not a regular file")
                self._pages = Pdf(path) if _is_pdf(path) else ImageFile(path)
                self._key, self._served = key, 0
        except OSError as error:
            raise UnreadableError(error.strerror or str(error)) from error
        self._served += 1
        return self._pages

    def close(self) -> None:
        """Close the document that is open, if one is."""
        if self._pages is not None:
            self._pages.close()
        self._pages = None


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
        yield source.open(path)
    except MemoryError as error:
        raise UnreadableError("rendering needed more memory than there is") from error
    finally:
        source.close()


def _is_pdf(path: Path) -> bool:
    with path.open("rb") as file:
        return b"%PDF-" in file.read(_PDF_HEADER)
