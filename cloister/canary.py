"""A page with a number that nobody can know beforehand: an engine that returns it has read."""

import difflib
import io
import secrets

import requests
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from cloister import chat, endpoint
from cloister.errors import OcrError

_SIZE = (900, 160)
_FONT_SIZE = 48
_MAX_TOKENS = 256  # some models begin with front matter
_COMPARED = 200  # characters
_DIGITS = "2345679"  # no 0, 1 or 8: letters to an OCR engine
# In base64 over nginx' client_body_buffer_size, so that the body passes through its file, and below
# the smallest `gateway.max_body_mib`. In a chunk that no reader decodes, so that it costs no time.
PADDING_BYTES = 576 << 10
_CHUNK = b"clFi"  # ancillary, private, safe to copy


class MisreadError(OcrError):
    """An engine answers, and cannot read."""


def check(  # noqa: PLR0913  # what a page is asked for, and how large it is
    session: requests.Session,
    url: str,
    *,
    model: str,
    prompt: str,
    timeout_s: float,
    synthetic: bool = False,
    padding: int = 0,
) -> chat.Reading:
    """Let the service at `url` read a fresh page, which is so many bytes larger than it looks.

    Raises chat.RefusedError when it does not answer, MisreadError when it answers with other text
    than the page's, twice. The random weights of a synthetic model cannot read: there an answer is
    all that is asked for.
    """
    for last in (False, True):
        number = "".join(secrets.choice(_DIGITS) for _ in range(6))
        expected = f"Canary page {number}"
        image = page(expected, padding)
        request = chat.body(image, "image/png", model=model, prompt=prompt, max_tokens=_MAX_TOKENS)
        reading = chat.complete(session, url, request, timeout_s=timeout_s)
        if synthetic or number in reading.text:
            return reading
        if last:
            raise MisreadError(
                f"`{endpoint.describe(url)}` read {_compare(reading.text, expected)}"
            )
    raise AssertionError


def _compare(text: str, expected: str) -> str:
    """Say how a text differs, without a word of it: this is logged, and may be of other pages."""
    same = difflib.SequenceMatcher(None, expected, text[:_COMPARED], autojunk=False).ratio()
    lengths = f"{len(text)} characters on a page that has {len(expected)}"
    return f"{lengths}: {same:.0%} like {expected!r}"


def page(text: str, padding: int = 0) -> bytes:
    """Return a PNG with one line of text, and with bytes that are no part of the image."""
    image = Image.new("L", _SIZE, "white")
    font = ImageFont.load_default(_FONT_SIZE)
    ImageDraw.Draw(image).text((40, 50), text, font=font, fill="black")
    file = io.BytesIO()
    further = PngInfo()
    if padding:
        further.add(_CHUNK, bytes(padding))
    image.save(file, "PNG", dpi=(200, 200), pnginfo=further)
    return file.getvalue()
