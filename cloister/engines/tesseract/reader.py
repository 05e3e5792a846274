"""What a worker process does: one page image in, Markdown blocks out."""

import functools
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass

# Two threads a page are slower than two pages; libgomp reads this when tesserocr is loaded.
os.environ["OMP_THREAD_LIMIT"] = "1"

import tesserocr

from cloister import sandbox
from cloister.engines.tesseract import layout, markdown
from cloister.engines.tesseract.decoding import ImageRefusedError, decode

# 100 megapixels take about 1.5 GiB at the peak; a page that asks for more ends its worker only.
_ADDRESS_SPACE = 6 << 30
_DPI_RANGE = (70, 1200)  # outside it the file's word is not taken; Tesseract estimates
_TEXT_BLOCKS = {
    tesserocr.PT.UNKNOWN,
    tesserocr.PT.FLOWING_TEXT,
    tesserocr.PT.HEADING_TEXT,
    tesserocr.PT.PULLOUT_TEXT,
    tesserocr.PT.EQUATION,
    tesserocr.PT.INLINE_EQUATION,
    tesserocr.PT.TABLE,
    tesserocr.PT.VERTICAL_TEXT,
    tesserocr.PT.CAPTION_TEXT,
}


@dataclass(frozen=True)
class Refusal:
    """Why an image was not read: the client's fault, told to it."""

    reason: str


def version() -> str:
    """Return the version of the bundled libtesseract, such as `5.5.4`."""
    return str(tesserocr.tesseract_version()).split()[1]


def read(url: str, languages: str, tessdata: str, max_megapixels: int) -> tuple[str, ...] | Refusal:
    """Read one `data:` URL; return its Markdown blocks, none for a blank page, or a refusal."""
    api = _tesseract(languages, tessdata)
    try:
        page = decode(url, max_megapixels=max_megapixels)
    except ImageRefusedError as error:
        return Refusal(str(error))
    api.SetImageBytes(page.tobytes(), page.width, page.height, 1, page.width)
    dpi = round(float(page.info.get("dpi", (0,))[0]))
    if _DPI_RANGE[0] <= dpi <= _DPI_RANGE[1]:
        api.SetSourceResolution(dpi)
    api.Recognize()
    lines = list(_lines(api))
    api.Clear()
    return markdown.blocks(layout.structure(lines))


@functools.cache
def _tesseract(languages: str, tessdata: str) -> "tesserocr.PyTessBaseAPI":
    sandbox.limit(resource.RLIMIT_AS, _ADDRESS_SPACE)
    api = tesserocr.PyTessBaseAPI(path=tessdata, lang=languages, psm=tesserocr.PSM.AUTO)
    api.SetVariable("debug_file", os.devnull)  # "Estimating resolution as ..." on every page
    return api


def _lines(api: "tesserocr.PyTessBaseAPI") -> Iterator[layout.Line]:
    words_of = tesserocr.RIL.WORD
    iterator = api.GetIterator()
    block = -1
    words: list[layout.Word] = []
    if iterator is None:
        return
    for place in tesserocr.iterate_level(iterator, words_of):
        if place.IsAtBeginningOf(tesserocr.RIL.BLOCK):
            block += 1
        kind = place.BlockType()
        # A place without a word, such as the whole of a blank page, has no text to ask for.
        text = "" if place.Empty(words_of) else place.GetUTF8Text(words_of).strip()
        if text and kind in _TEXT_BLOCKS:
            words.append(layout.Word(text, place.BoundingBox(words_of)))
        if words and place.IsAtFinalElement(tesserocr.RIL.TEXTLINE, words_of):
            height = place.RowAttributes()["row_height"]
            yield layout.Line(tuple(words), height, block, in_table=kind == tesserocr.PT.TABLE)
            words = []
