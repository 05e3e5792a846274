"""Image files: passed on as they are, or decoded, turned upright and shrunk."""

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import ExifTags, Image, UnidentifiedImageError

from cloister.rendering import paper
from cloister.rendering.drawing import SUFFIXES, Drawing, Drawn, Part, UnreadableError
from cloister.rendering.encoding import encoded

# Not all that Pillow knows: its EPS, for one, would start Ghostscript.
_OPENERS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "AVIF", "PPM")
_PASS_AS_IS = {"PNG", "JPEG", "MPO", "TIFF", "WEBP", "BMP", "GIF"}
_MIME = {"MPO": "image/jpeg"}  # a JPEG with previews, which is how the engines take it
# 16-bit grey comes out white from most readers, CMYK inverted from some.
_PLAIN_MODES = {"1", "L", "LA", "P", "RGB", "RGBA"}
_MAX_PIXELS = 300_000_000
MAX_BYTES = 256 << 20  # of a file that is passed on
_BLANK_SIDE = 1200  # pixels: about 100 dpi
_MAX_DPI = 10_000
_UPRIGHT = 1
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageFile:
    """An image file; a TIFF has as many pages as frames, the others one.

    Raises UnreadableError for what is no known image. Every page reads the file again, so that
    decoded pixels are not kept. `file` is a descriptor of it, which stays the caller's.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        with self._open() as image:
            self._format = str(image.format)
            self.count = getattr(image, "n_frames", 1) if self._format == "TIFF" else 1

    def close(self) -> None:
        """Close nothing: an image is open only while a page is drawn."""

    def draw(self, number: int, drawing: Drawing) -> Drawn:
        """Draw a page, counted from 1. Raises UnreadableError."""
        with self._page(number) as frame:
            if self._passes(frame, drawing):
                content = self._content()
                mime = _MIME.get(self._format, Image.MIME[self._format])
                return Drawn(content, mime, *frame.size, hashlib.sha256(content).hexdigest())
            scale = drawing.within(*frame.size)
            dpi = _dpi(frame) * scale
            image = _decoded(frame, scale)
        return encoded(paper.part_of(image, drawing.part), dpi)

    def blank(self, number: int, part: Part) -> bool:
        """Return whether nothing is on the page, or a half of it. Raises UnreadableError."""
        with self._page(number) as frame:
            image = _decoded(frame, min(1, _BLANK_SIDE / max(frame.size)))
            return paper.is_blank(paper.part_of(image, part))

    def _content(self) -> bytes:
        with open(self._file, "rb", closefd=False) as file:
            file.seek(0)
            return file.read()

    @contextmanager
    def _open(self) -> Iterator[Image.Image]:
        # Pillow's own limit only warns; its warnings are about metadata, which is not used here.
        Image.MAX_IMAGE_PIXELS = None
        with (
            _damage(),
            warnings.catch_warnings(action="ignore"),
            # A file that Pillow opened by its name would be mapped into memory: to cut it short
            # would kill the process, and a TIFF that is to be turned would be garbled.
            open(self._file, "rb", closefd=False) as file,
            Image.open(file, formats=_OPENERS) as image,
        ):
            yield image

    @contextmanager
    def _page(self, number: int) -> Iterator[Image.Image]:
        if not 1 <= number <= self.count:
            raise UnreadableError(f"the image has no page {number}, only {self.count}")
        with self._open() as image:
            if number > 1:
                image.seek(number - 1)
            width, height = image.size
            if width * height > _MAX_PIXELS:
                most = f"at most {_MAX_PIXELS // 1_000_000} megapixels are read"
                raise UnreadableError(f"the image has {width} x {height} pixels; {most}")
            yield image

    def _passes(self, image: Image.Image, drawing: Drawing) -> bool:
        """Return whether the file can be sent as it is: nothing is decoded to find out."""
        return (
            self.count == 1
            and self._format in _PASS_AS_IS
            and (drawing.scale, drawing.part) == (1, (0, 1))
            and image.width * image.height <= (drawing.max_pixels or _MAX_PIXELS)
            and image.mode in _PLAIN_MODES
            # The further frames of an MPO are previews.
            and (self._format == "MPO" or not getattr(image, "is_animated", False))
            and _orientation(image) == _UPRIGHT
            and os.fstat(self._file).st_size <= MAX_BYTES
        )


@contextmanager
def _damage() -> Iterator[None]:
    """Turn whatever Pillow raises over a file into UnreadableError."""
    try:
        yield
    except (UnreadableError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        known = ", ".join(suffix.lstrip(".") for suffix in SUFFIXES)
        raise UnreadableError(f"not a PDF or a known image ({known})") from error
    except Exception as error:  # decoders of broken files raise nearly everything
        if "out of memory" in str(error):  # how Pillow's C decoders say it
            raise MemoryError from error
        known_to_os = isinstance(error, OSError) and error.strerror
        detail = str(error) or type(error).__name__
        raise UnreadableError(known_to_os or f"a damaged image ({detail})") from error


def _decoded(image: Image.Image, scale: float) -> Image.Image:
    """Return the image upright, on white paper, its size multiplied by `scale`."""
    size = _times(image.size, scale)
    drafted = image.draft("RGB", size)  # a JPEG is decoded at a half, a quarter or an eighth
    flat = _flat(image)
    # Decoding a TIFF may turn it, and then it says that it is upright.
    size, orientation = size if drafted else _times(flat.size, scale), _orientation(image)
    if flat.size != size:
        flat = flat.convert("L") if flat.mode == "1" else flat
        flat = flat.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return flat.transpose(_TURNS[orientation]) if orientation in _TURNS else flat


def _times(size: tuple[int, int], scale: float) -> tuple[int, int]:
    width, height = (max(1, int(side * scale)) for side in size)
    return width, height


def _flat(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _eight_bit(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        page = Image.new("RGB", layer.size, "white")
        page.paste(layer, mask=layer.getchannel("A"))
        return page
    if image.mode in {"1", "L", "RGB"}:
        return image.copy()
    return image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale wide grey, which Pillow's own conversion would clip to white.

    16-bit integers have a known range; 32-bit and floating-point ones are stretched to theirs.
    """
    wide = image.convert("F")
    low, high = (0.0, 65535.0) if image.mode.startswith("I;16") else wide.getextrema()
    if isinstance(low, tuple) or isinstance(high, tuple):
        raise TypeError("one channel has one pair of extremes")
    scale = 255 / ((high - low) or 1)
    return wide.point(lambda value: value * scale - low * scale).convert("L")


def _orientation(image: Image.Image) -> int:
    try:
        if image.format == "PNG":
            # `getexif` of a PNG without any would decode it, to look for some behind the pixels.
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))
        else:
            exif = image.getexif()
        found = exif.get(ExifTags.Base.Orientation, _UPRIGHT)
    except Exception:  # noqa: BLE001  # what a broken header of EXIF raises
        return _UPRIGHT
    return found if found in _TURNS else _UPRIGHT


def _dpi(image: Image.Image) -> float:
    dpi = float(image.info.get("dpi", (0,))[0])
    return dpi if 1 <= dpi <= _MAX_DPI else 0
