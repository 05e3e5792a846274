"""Where the ink is on a page: what is blank, where to cut, what has colour."""

from PIL import Image, ImageChops, ImageFilter, ImageStat

from cloister.rendering.drawing import Part

_INK = 24  # levels darker than the paper around it
_GRAIN = 6  # times the mean deviation: what grain reaches on one pixel in a million
_MARGIN = 0.025  # of the page: 5 to 7 mm
_CELL, _CELL_INK = 8, 5  # a letter has more ink in a cell than a speck of dust
_LIGHT = 31  # pixels: further than the strokes of letters, nearer than a shadow is wide
_CHROMA, _COLOURED = 48, 0.01
_AS_GOOD = 0.05


def is_blank(page: Image.Image) -> bool:
    """Return whether a page at some 100 dpi shows nothing but paper.

    In doubt it does not: a page that is read for nothing costs less than one that is lost. What
    is at its very edge is the shadow of a lid or a fold, and no text.
    """
    x, y = (round(side * _MARGIN) for side in page.size)
    grey = page.convert("L").crop((x, y, page.width - x, page.height - y))
    darker = ImageChops.subtract(grey.filter(ImageFilter.BoxBlur(_LIGHT)), grey)
    threshold = max(_INK, _GRAIN * ImageStat.Stat(darker).mean[0])
    ink = darker.point([255 * (level > threshold) for level in range(256)])
    cells = ink.convert("F").reduce(_CELL).tobytes()
    return max(memoryview(cells).cast("f")) < 255 * _CELL_INK / _CELL**2


def has_colour(page: Image.Image) -> bool:
    """Return whether a hundredth of an RGB page or more, by area, is far from grey."""
    red, green, blue = page.split()
    most = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    least = ImageChops.darker(ImageChops.darker(red, green), blue)
    coloured = sum(ImageChops.subtract(most, least).histogram()[_CHROMA:])
    return coloured >= _COLOURED * page.width * page.height


def part_of(page: Image.Image, part: Part) -> Image.Image:
    """Return a page, or the upper or lower half of it, cut between two lines of text."""
    number, of = part
    if of == 1 or page.height == 1:
        return page
    cut = _cut(page)
    top, bottom = ((0, cut), (cut, page.height))[number]
    return page.crop((0, top, page.width, bottom))


def _cut(page: Image.Image) -> int:
    """Return the middle of the gap in the middle third that is the nearest to the page's middle.

    Ink is where neighbours in a row differ: a shadow or grey paper is none.
    """
    top, bottom = page.height // 3, page.height * 2 // 3
    band = page.crop((0, top, page.width, bottom)).convert("L")
    edges = ImageChops.difference(band, ImageChops.offset(band, 1, 0)).convert("F")
    rows = memoryview(edges.resize((1, edges.height), Image.Resampling.BOX).tobytes()).cast("f")
    least = min(rows) + _AS_GOOD * (max(rows) - min(rows))
    free = [row for row, ink in enumerate(rows) if ink <= least]
    first = last = min(free, key=lambda row: abs(row - len(rows) / 2))
    gap = set(free)
    while first - 1 in gap:
        first -= 1
    while last + 1 in gap:
        last += 1
    return max(1, top + (first + last + 1) // 2)
