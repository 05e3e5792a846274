"""Pages as images: rendered, worn as by a scanner, encoded."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from random import Random
from typing import Literal

import pypdfium2
import pypdfium2.raw
from PIL import Image, ImageChops, ImageFilter, ImageOps

_POINTS_PER_INCH = 72
_GRAIN = 28
_INK, _PAPER = 22, 243
_DESK, _DIM, _TILT = 70, 150, 0.4


def render(pdf: bytes, page: int, dpi: int, *, grayscale: bool = True) -> Image.Image:
    """Return one page, counted from 0, as an image of mode `L` or `RGB` that knows its DPI.

    Fonts installed on the machine are not used, so that a page looks the same everywhere. PDFium
    is not safe to call from several threads at once. Raises IndexError for a page that the
    document lacks.
    """
    with _built_in_fonts(), pypdfium2.PdfDocument(pdf) as document:
        bitmap = document[page].render(scale=dpi / _POINTS_PER_INCH, grayscale=grayscale)
        image: Image.Image = bitmap.to_pil().copy()
    image.info["dpi"] = (dpi, dpi)
    return image


@contextmanager
def _built_in_fonts() -> Iterator[None]:
    """Hide the machine's fonts: PDFium would draw with an Arial or Courier that it finds there."""
    none_installed = pypdfium2.raw.FPDF_SYSFONTINFO(version=1)
    pypdfium2.raw.FPDF_SetSystemFontInfo(ctypes.byref(none_installed))
    try:
        yield
    finally:
        pypdfium2.raw.FPDF_SetSystemFontInfo(pypdfium2.raw.FPDF_GetDefaultSystemFontInfo())


def scan(image: Image.Image, seed: int) -> Image.Image:
    """Return `image` as a scanner might deliver it: skewed, soft, grainy, on greyish paper."""
    rng = Random(seed)  # noqa: S311 - repeatable on purpose
    white = (255,) * len(image.getbands())
    worn = image.rotate(
        rng.uniform(-0.7, 0.7), Image.Resampling.BICUBIC, fillcolor=white if len(white) > 1 else 255
    ).filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    ink, paper = _INK + rng.randint(0, 30), _PAPER - rng.randint(0, 18)
    tone = [ink + level * (paper - ink) // 255 for level in range(256)]
    grain = Image.frombytes("L", image.size, rng.randbytes(image.width * image.height))
    grain = grain.point([level * _GRAIN // 255 for level in range(256)])
    bands = [
        ImageChops.add(band.point(tone), grain, scale=1, offset=-_GRAIN // 2)
        for band in worn.split()
    ]
    scanned = Image.merge(image.mode, bands)
    scanned.info.update(image.info)
    return scanned


def photo(image: Image.Image, seed: int) -> Image.Image:
    """Return `image` as a phone might take it: on a desk, from an angle, in uneven light."""
    rng = Random(seed)  # noqa: S311 - repeatable on purpose
    width, height = image.size
    edge = width // 14
    desk = ImageOps.expand(image, edge, fill=(_DESK,) * len(image.getbands()))
    corners = [(0, 0), (0, desk.height), desk.size, (desk.width, 0)]
    seen = [
        (x + rng.uniform(-1, 1) * edge * _TILT, y + rng.uniform(-1, 1) * edge * _TILT)
        for x, y in corners
    ]
    taken = desk.transform(
        desk.size,
        Image.Transform.QUAD,
        [value for corner in seen for value in corner],
        Image.Resampling.BICUBIC,
    ).filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 0.9)))
    light = Image.linear_gradient("L").rotate(rng.choice((0, 90, 180, 270)))
    light = light.point([_DIM + level * (255 - _DIM) // 255 for level in range(256)])
    light = light.resize(taken.size, Image.Resampling.BILINEAR)
    lit = [ImageChops.multiply(band, light) for band in taken.split()]
    shot = Image.merge(image.mode, lit).resize((width, height), Image.Resampling.LANCZOS)
    shot.info.update(image.info)
    return shot


def encode(image: Image.Image, codec: Literal["png", "jpeg"] = "png", quality: int = 85) -> bytes:
    """Return the image as a file; `quality`, from 1 to 95, is for JPEG, PNG loses nothing."""
    file = BytesIO()
    image.save(file, codec, quality=quality, dpi=image.info.get("dpi", (0, 0)))
    return file.getvalue()
