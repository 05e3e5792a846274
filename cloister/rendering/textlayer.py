"""A PDF page's own text, when it is as good as what a reader would see."""

import statistics
from collections.abc import Iterator
from contextlib import closing
from ctypes import byref
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import pypdfium2
import pypdfium2.raw as pdfium

_FEWEST, _MOST = 40, 200_000  # characters of a page
_SCAN = 0.5  # of the page's area: what images cover of a page that was scanned
_DEPTH = 8
_BROKEN, _WORDLIKE = 0.01, 0.95
_MARKS = set(
    ".,;:!?'\"()[]{}<>/\\|-+*=%&@#$_~^`"
    "\u2013\u2014\u2018\u2019\u201c\u201d\u201e\u2022\u2026\u00a7\u00b0\u00a3\u20ac"
)
_WORD_LENGTHS = (2.0, 15.0)  # mean: spaced letters have less, lost spaces more
_UNSPACED = (0x2E80, 0xD7FF)  # CJK: written without spaces
_LINE_ENDS = {10, 13}
_PARAGRAPH_GAP = 1.6  # of the usual distance between lines
_UNSEEN = {
    pdfium.FPDF_TEXTRENDERMODE_INVISIBLE,  # how a scanner's own OCR, of unknown quality, is kept
    pdfium.FPDF_TEXTRENDERMODE_CLIP,
}


def good_text(page: Any) -> str | None:
    """Return the text of a pdfium page, its lines kept and paragraphs apart; None unless good.

    It is not good where any of it is invisible, images cover half of the page, characters have no
    known meaning, or the words do not look like words.
    """
    try:
        return _good_text(page)
    except (pypdfium2.PdfiumError, ValueError):  # the page can be drawn all the same
        return None


def _good_text(page: Any) -> str | None:
    if _is_scanned(page):
        return None
    with closing(page.get_textpage()) as layer:
        number = layer.count_chars()
        if not _FEWEST <= number <= _MOST:
            return None
        unknown = sum(pdfium.FPDFText_HasUnicodeMapError(layer, at) == 1 for at in range(number))
        if unknown > _BROKEN * number:
            return None
        text = _paragraphs(list(_lines(page, layer, number)))
    return text if _reads_well(text) else None


def _is_scanned(page: Any) -> bool:
    area = 0.0
    kinds = [pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_TEXT]
    for item in page.get_objects(filter=kinds, max_depth=_DEPTH):
        if item.type == pdfium.FPDF_PAGEOBJ_IMAGE:
            area += _visible_area(page, item)
        elif pdfium.FPDFTextObj_GetTextRenderMode(item) in _UNSEEN:
            return True
    return bool(area >= _SCAN * page.get_width() * page.get_height())


def _visible_area(page: Any, image: Any) -> float:
    box, form = image.get_bounds(), image.container
    while form:  # an image in a form has the form's coordinates
        box, form = form.get_matrix().on_rect(*box), form.container
    left, bottom, right, top = page.get_bbox()
    width, height = min(box[2], right) - max(box[0], left), min(box[3], top) - max(box[1], bottom)
    return float(max(0.0, width) * max(0.0, height))


@dataclass(frozen=True)
class _Line:
    """A line; it begins and ends at different heights where pdfium mended a hyphenated word."""

    text: str
    begins: float
    ends: float


def _lines(page: Any, layer: Any, number: int) -> Iterator[_Line]:
    """Yield the lines that are on the page."""
    left, bottom, right, top = page.get_bbox()
    codes = [pdfium.FPDFText_GetUnicode(layer, at) for at in range(number)]
    at = 0
    for is_end, run in groupby(codes, key=_LINE_ENDS.__contains__):
        line = list(run)
        first, at = at, at + len(line)
        # A surrogate pair is two characters to pdfium.
        pairs = "".join(map(chr, line)).encode("utf-16-le", "surrogatepass")
        text = pairs.decode("utf-16-le", "replace").replace("\ufffe", "-").strip()
        begin, end = _box(layer, first), _box(layer, at - 1)
        if is_end or not text or begin is None or end is None:
            continue
        if left <= begin.left <= right and bottom <= begin.bottom <= top:
            yield _Line(text, begin.bottom, end.bottom)


def _box(layer: Any, at: int) -> Any:
    box = pdfium.FS_RECTF()
    return box if pdfium.FPDFText_GetLooseCharBox(layer, at, byref(box)) else None


def _paragraphs(lines: list[_Line]) -> str:
    """Join the lines, with an empty one where there is more space than usual, or a new column."""
    gaps = [above.ends - below.begins for above, below in pairwise(lines)]
    usual = statistics.median([gap for gap in gaps if gap > 0] or [0])
    text = lines[0].text if lines else ""
    for gap, line in zip(gaps, lines[1:], strict=True):
        text += ("\n" if 0 <= gap <= _PARAGRAPH_GAP * usual else "\n\n") + line.text
    return text


def _reads_well(text: str) -> bool:
    seen = [character for character in text if not character.isspace()]
    words = text.split()
    if len(seen) < _FEWEST:
        return False
    broken = sum(not character.isprintable() or character == "\ufffd" for character in seen)
    wordlike = sum(character.isalnum() or character in _MARKS for character in seen)
    unspaced = sum(_UNSPACED[0] <= ord(character) <= _UNSPACED[1] for character in seen)
    shortest, longest = _WORD_LENGTHS
    length = len(seen) / len(words)
    return (
        broken <= _BROKEN * len(seen)
        and wordlike >= _WORDLIKE * len(seen)
        and (unspaced > len(seen) / 4 or shortest <= length <= longest)
    )
