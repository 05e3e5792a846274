"""The pages of a PDF, drawn by pdfium."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from ctypes import byref, memmove
from dataclasses import replace
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image
from pypdfium2.internal import ErrorToStr

from cloister.rendering import paper
from cloister.rendering.drawing import Drawing, Drawn, Part, UnreadableError
from cloister.rendering.encoding import encoded
from cloister.rendering.salvage import with_trailer
from cloister.rendering.textlayer import good_text

_POINTS_PER_INCH = 72
_COLOUR_DPI = 25
_BLANK = Drawing(dpi=100, max_pixels=4_000_000)


def _pread(file: int, position: int, buffer: Any, size: int) -> int:
    """Read for pdfium; return 0 where the file is shorter than it was."""
    try:
        content = os.pread(file or 0, size, position)  # a null pointer is None, not 0
    except OSError:
        return 0
    if len(content) != size:
        return 0
    memmove(buffer, content, size)
    return 1


# Made once: it needs executable memory, which a confined process gets no more of.
_read_block = type(pdfium.FPDF_FILEACCESS().m_GetBlock)(_pread)


class Pdf:
    """An open PDF; raises UnreadableError for one that is locked, damaged or empty.

    One whose end is lost is read as far as it goes; what is drawn then says that it was rebuilt.
    """

    def __init__(self, file: int) -> None:
        size = os.fstat(file).st_size
        # pdfium reads from both until the document is closed.
        self._access = pdfium.FPDF_FILEACCESS(size, _read_block, file)
        self._content: bytes | None = None
        # Not by PdfDocument: of a PDF without pages it tells why the one before did not open.
        handle = pdfium.FPDF_LoadCustomDocument(byref(self._access), None)
        if not handle:
            code = pdfium.FPDF_GetLastError()
            if code == pdfium.FPDF_ERR_FORMAT:
                self._content = with_trailer(os.pread(file, size, 0))
            if self._content is not None:
                handle = pdfium.FPDF_LoadMemDocument64(self._content, len(self._content), None)
            if not handle:
                raise _refusal(code)
        self._pdf: Any = pypdfium2.PdfDocument(handle)
        self.count = len(self._pdf)
        if self.count < 1:
            self.close()
            raise UnreadableError("the PDF has no pages")
        with suppress(pypdfium2.PdfiumError):  # a page whose form is broken has the rest
            self._pdf.init_forms()  # without it the values of form fields are not drawn

    def close(self) -> None:
        """Close the file."""
        self._pdf.close()

    def draw(self, number: int, drawing: Drawing) -> Drawn:
        """Draw a page, counted from 1. Raises UnreadableError."""
        with self._page(number) as page:
            scale = _scale(page, drawing)
            small = min(scale, _COLOUR_DPI / _POINTS_PER_INCH)
            colour = paper.has_colour(_image(page, small, colour=True))
            image = _image(page, scale, colour=colour)
            text = good_text(page) if drawing.text_layer else None
        image = paper.part_of(image, drawing.part)
        drawn = encoded(image, scale * _POINTS_PER_INCH, text)
        return replace(drawn, rebuilt=self._content is not None)

    def blank(self, number: int, part: Part) -> bool:
        """Return whether nothing is on the page, or a half of it. Raises UnreadableError.

        What was on a page of a damaged file may be lost: none of its pages counts as blank.
        """
        with self._page(number) as page:
            image = _image(page, _scale(page, _BLANK), colour=False)
        found = paper.is_blank(paper.part_of(image, part))
        if found and self._content is not None:
            raise UnreadableError("nothing is on it, and the file is damaged")
        return found

    @contextmanager
    def _page(self, number: int) -> Iterator[Any]:
        if not 1 <= number <= self.count:
            raise UnreadableError(f"the PDF has no page {number}, only {self.count}")
        try:
            # Closed at once: pdfium keeps every open page's images in memory.
            with closing(self._pdf[number - 1]) as page:
                yield page
        except (pypdfium2.PdfiumError, ValueError) as error:
            raise UnreadableError(f"the page cannot be rendered ({error})") from error


def _refusal(code: int) -> UnreadableError:
    if code == pdfium.FPDF_ERR_PASSWORD:
        return UnreadableError("the PDF needs a password")
    return UnreadableError(f"a damaged PDF ({ErrorToStr.get(code, f'error {code}')})")


def _scale(page: Any, drawing: Drawing) -> float:
    """Return the pixels a point."""
    pixels = drawing.dpi / _POINTS_PER_INCH
    if min(page.get_size()) <= 0:
        raise ValueError("it has no area")
    # A page that is less than a pixel high or wide is drawn as one.
    width, height = (max(1.0, side * pixels) for side in page.get_size())
    return pixels * drawing.within(width, height)


def _image(page: Any, scale: float, *, colour: bool) -> Image.Image:
    # Grey from pdfium itself takes a fifth of the time, but what is half transparent comes out
    # too faint: the opacity is applied twice.
    grey = not colour and not pdfium.FPDFPage_HasTransparency(page)
    bitmap = page.render(scale=scale, may_draw_forms=True, grayscale=grey, rev_byteorder=True)
    with closing(bitmap):
        image: Image.Image = bitmap.to_pil()
    return image if colour or grey else image.convert("L")
