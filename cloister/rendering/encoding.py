"""A page image to the bytes that are sent: lossless where that is cheap."""

import hashlib
import io

from PIL import Image

from cloister.rendering.drawing import Drawn

# Bytes a pixel and band that PNG may need: three times those of the densest clean page, a third
# of what scanner grain takes. From benchmarks/encoding.py, as are the level and the quality.
_PNG_BYTES = 0.25
_PNG_LEVEL, _JPEG_QUALITY = 1, 90
_STRIPS, _STRIP_ROWS = 8, 16
_SMALL = 10_000  # pixels, of which a file's header would be too large a share
_JPEG_SIDE = 65_500


def encoded(image: Image.Image, dpi: float, text: str | None = None) -> Drawn:
    """Encode an image of mode 1, L or RGB: as PNG, or as JPEG where that would take much more.

    `dpi` is written into the file, 0 for unknown.
    """
    file = io.BytesIO()
    tag = {"dpi": (round(dpi), round(dpi))} if round(dpi) else {}
    image.info = {}  # what came with the file, such as a palette's transparency, holds no more
    small = image.width * image.height < _SMALL
    if small or max(image.size) > _JPEG_SIDE or _png_bytes(image) <= _PNG_BYTES:
        mime = "image/png"
        image.save(file, "PNG", compress_level=_PNG_LEVEL, **tag)
    else:
        mime = "image/jpeg"
        image.save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0, **tag)
    content = file.getvalue()
    return Drawn(content, mime, *image.size, hashlib.sha256(content).hexdigest(), text)


def _png_bytes(image: Image.Image) -> float:
    """Return the bytes a pixel and band of a PNG, estimated from some strips of the page."""
    rows = min(image.height, _STRIP_ROWS)
    sample = Image.new(image.mode, (image.width, _STRIPS * rows))
    for number in range(_STRIPS):
        top = (image.height - rows) * number // (_STRIPS - 1)
        sample.paste(image.crop((0, top, image.width, top + rows)), (0, number * rows))
    file = io.BytesIO()
    sample.save(file, "PNG", compress_level=_PNG_LEVEL)
    return file.tell() / (sample.width * sample.height * len(sample.getbands()))
