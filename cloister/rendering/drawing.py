"""What is asked of a page, and what comes of it."""

import math
from dataclasses import dataclass

from cloister.errors import OcrError

SUFFIXES = (".pdf", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif")
# An A3 page at 400 dpi has 31; a decoded byte a pixel and more has to fit into the worker.
_MAX_PIXELS = 40_000_000
_FEWEST_PIXELS = 9  # the service refuses less than 3 x 3
_LARGEST_HALF = 2 / 3  # the cut is in the middle third


# A page's piece, and of how many: (0, 2) is the upper half, (1, 2) the lower one.
Part = tuple[int, int]
WHOLE: Part = (0, 1)


class UnreadableError(OcrError):
    """A page, or a whole document, cannot be turned into an image; the message says why."""


@dataclass(frozen=True)
class Drawing:
    """How a page becomes an image.

    `dpi` is for PDFs; no image has more than `max_pixels`. A further attempt at a page may ask for
    another `scale`, of a PDF's resolution or an image's size, or for a `part`: (0, 2) is the upper
    half, (1, 2) the lower one. `text_layer` asks for the page's own text too.
    """

    dpi: int = 200
    max_pixels: int | None = None
    scale: float = 1.0
    part: Part = WHOLE
    text_layer: bool = False

    def __post_init__(self) -> None:
        if self.part not in {WHOLE, (0, 2), (1, 2)}:
            raise ValueError(f"a page has no part {self.part}")
        if self.dpi <= 0 or self.scale <= 0:
            raise ValueError(f"nothing can be drawn at {self.dpi} dpi times {self.scale}")
        if self.max_pixels is not None and self.max_pixels < _FEWEST_PIXELS:
            raise ValueError(f"nothing can be read in {self.max_pixels} pixels")

    def within(self, width: float, height: float) -> float:
        """Return `scale`, or less where an image of that size in pixels would be too large.

        A smaller scale is one of what fits, so that it makes another image in any case.
        """
        return self._largest(width, height, max(1.0, self.scale)) * min(1.0, self.scale)

    def _largest(self, width: float, height: float, scale: float) -> float:
        limit = min(self.max_pixels or _MAX_PIXELS, _MAX_PIXELS)
        if self.part != WHOLE:
            limit = int(limit / _LARGEST_HALF)
        if width * height * scale**2 <= limit:
            return scale
        # (w*s + 1) * (h*s + 1) = limit, since each side may be rounded up. This form of the
        # root keeps its precision where a page is all but a line.
        both, area = width + height, width * height
        return 2 * (limit - 1) / (both + math.sqrt(both * both + 4 * area * (limit - 1)))


@dataclass(frozen=True)
class Drawn:
    """An encoded page image: its size in pixels, and `sha256`, in hex, of `image`.

    `text` is the page's own text, when it was asked for and is good. `rebuilt` tells that the file
    was damaged, so that parts of it may be missing.
    """

    image: bytes
    mime: str
    width: int
    height: int
    sha256: str
    text: str | None = None
    rebuilt: bool = False
