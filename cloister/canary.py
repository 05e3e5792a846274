"""A page with a number that nobody can know beforehand: an engine that returns it has read."""

import io
import secrets

import requests
from PIL import Image, ImageDraw, ImageFont

from cloister import chat
from cloister.errors import OcrError

_SIZE = (900, 160)
_FONT_SIZE = 48
_MAX_TOKENS = 256  # some models begin with front matter
_DIGITS = "2345679"  # no 0, 1 or 8: letters to an OCR engine


class MisreadError(OcrError):
    """An engine answers, and cannot read."""


def check(
    session: requests.Session,
    url: str,
    *,
    model: str,
    prompt: str,
    timeout_s: float,
    synthetic: bool = False,
) -> chat.Reading:
    """Let the service at `url` read a fresh page.

    Raises chat.RefusedError when it does not answer, MisreadError when it answers with other text
    than the page's, twice. The random weights of a synthetic model cannot read: there an answer is
    all that is asked for.
    """
    for last in (False, True):
        number = "".join(secrets.choice(_DIGITS) for _ in range(6))
        image = page(f"Canary page {number}")
        request = chat.body(image, "image/png", model=model, prompt=prompt, max_tokens=_MAX_TOKENS)
        reading = chat.complete(session, url, request, timeout_s=timeout_s)
        if synthetic or number in reading.text:
            return reading
        if last:
            raise MisreadError(f"`{url}` read {reading.text[:80]!r} on a page that says {number}")
    raise AssertionError


def page(text: str) -> bytes:
    """Return a PNG with one line of text."""
    image = Image.new("L", _SIZE, "white")
    font = ImageFont.load_default(_FONT_SIZE)
    ImageDraw.Draw(image).text((40, 50), text, font=font, fill="black")
    file = io.BytesIO()
    image.save(file, "PNG", dpi=(200, 200))
    return file.getvalue()
