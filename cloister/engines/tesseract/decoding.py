"""A `data:` URL from a client to a grayscale page, or a reason why not."""

import base64
import binascii
import io
import struct
import warnings
import zlib

from PIL import Image, ImageOps

# The declared type must be the true one: a body that lies about itself is not passed on.
MIME_TYPES = {
    "PNG": ("image/png",),
    "JPEG": ("image/jpeg", "image/jpg", "image/pjpeg"),
    "MPO": ("image/jpeg", "image/jpg", "image/mpo"),  # what phone cameras write as .jpg
    "TIFF": ("image/tiff", "image/tif"),
    "WEBP": ("image/webp",),
    "BMP": ("image/bmp", "image/x-bmp", "image/x-ms-bmp"),
    "GIF": ("image/gif",),
}
_OPENERS = ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"]
# What Pillow's decoders raise on broken files, seen under fuzzing; anything else is a bug of ours.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    MemoryError,
    AttributeError,
    struct.error,
    zlib.error,
)
_MIN_SIDE = 3  # leptonica refuses to scale anything smaller


class ImageRefusedError(Exception):
    """The client sent something that is not one readable page image; the text says what."""


def decode(url: str, *, max_megapixels: int) -> Image.Image:
    """Return the page in mode `L`, upright, with `info["dpi"]` kept where the file states it.

    Raises ImageRefusedError for anything but one whole image of an accepted type.
    """
    mime, content = _payload(url)
    with warnings.catch_warnings(action="ignore"):  # about metadata that is not used here
        image = _open(content)
        _require_one_page(image, mime, max_megapixels)
        try:
            return _grayscale(ImageOps.exif_transpose(image))
        except _DECODER_ERRORS as error:
            reason = f"is a damaged or truncated {image.format}: {error}"
            raise ImageRefusedError(reason) from error


def _require_one_page(image: Image.Image, mime: str, max_megapixels: int) -> None:
    """Raise ImageRefusedError for what the header alone tells, before a pixel is decoded."""
    accepted = MIME_TYPES[str(image.format)]
    if mime not in accepted:
        raise ImageRefusedError(
            f"is declared `{mime}`, but its bytes are {image.format}; declare `{accepted[0]}`"
        )
    width, height = image.size
    if min(width, height) < _MIN_SIDE:
        raise ImageRefusedError(f"is {width}x{height} pixels; at least 3x3 are needed")
    if width * height > max_megapixels * 1_000_000:
        raise ImageRefusedError(
            f"is {width}x{height} pixels; at most {max_megapixels} megapixels are read"
        )
    try:
        frames = getattr(image, "n_frames", 1)
    except _DECODER_ERRORS as error:
        raise ImageRefusedError(f"is a damaged {image.format}: {error}") from error
    if frames > 1 and image.format != "MPO":  # the further frames of an MPO are previews
        raise ImageRefusedError(f"holds {frames} pages or frames; send one image for each page")


def _payload(url: str) -> tuple[str, bytes]:
    scheme, _, rest = url.partition(":")
    if scheme.lower() != "data":
        found = f"a `{scheme[:16]}:` URL" if rest else "not a URL"
        raise ImageRefusedError(
            f"is {found}; nothing is fetched here, send it as `data:image/png;base64,...`"
        )
    header, comma, body = rest.partition(",")
    mime, *parameters = [part.strip().lower() for part in header.split(";")]
    if not comma or "base64" not in parameters:
        raise ImageRefusedError("is not base64; expected `data:image/png;base64,...`")
    if not any(mime in accepted for accepted in MIME_TYPES.values()):
        kinds = ", ".join(_OPENERS)
        raise ImageRefusedError(f"is declared `{mime[:60]}`; expected an image type of {kinds}")
    try:
        return mime, base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageRefusedError(f"is not valid base64: {error}") from error


def _open(content: bytes) -> Image.Image:
    if not content:
        raise ImageRefusedError("is empty")
    # The limit is ours to check, before a single pixel is decoded; Pillow's would only warn.
    Image.MAX_IMAGE_PIXELS = None
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=_OPENERS)
    except _DECODER_ERRORS as error:
        kinds = ", ".join(_OPENERS)
        raise ImageRefusedError(f"cannot be opened as any of {kinds}") from error
    return image


def _grayscale(image: Image.Image) -> Image.Image:
    """Flatten any colour mode to 8-bit gray on a white page."""
    dpi = image.info.get("dpi")
    if image.mode.startswith(("I", "F")):
        page = _eight_bit(image)
    elif image.has_transparency_data:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        page = Image.alpha_composite(paper, layer).convert("L")
    elif image.mode in ("1", "L", "RGB", "P"):
        page = image.convert("L")
    else:  # CMYK, YCbCr, LAB, ...: Pillow knows the way to RGB, not always to gray
        page = image.convert("RGB").convert("L")
    page.info = {"dpi": dpi} if dpi else {}
    return page


def _eight_bit(image: Image.Image) -> Image.Image:
    """Scale wide gray, which Pillow's own conversion would clip to white.

    16-bit integers have a known range; 32-bit and floating-point ones are stretched to theirs.
    """
    wide = image.convert("F")
    low, high = (0, 65535) if image.mode.startswith("I;16") else _extremes(wide)
    scale = 255 / ((high - low) or 1)
    return wide.point(lambda value: value * scale - low * scale).convert("L")


def _extremes(image: Image.Image) -> tuple[float, float]:
    low, high = image.getextrema()
    if isinstance(low, tuple) or isinstance(high, tuple):
        raise TypeError("one channel has one pair of extremes")
    return low, high
