"""A page with a number that nobody can know beforehand: an engine that returns it has read."""

import io
import secrets

import requests
from PIL import Image, ImageDraw, ImageFont

from cloister import chat
from cloister.errors import OcrError

_SIZE = (900, 160)
_FONT_SIZE = 48
_DIGITS = "2345679"  # no 0, 1 or 8: letters to an OCR engine


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

    Raises OcrError when it does not answer, or with other text than the page's. The random weights
    of a synthetic model cannot read: there an answer is all that is asked for.
    """
    number = "".join(secrets.choice(_DIGITS) for _ in range(6))
    request = chat.body(
        page(f"Canary page {number}"), "image/png", model=model, prompt=prompt, max_tokens=64
    )
    reading = chat.complete(session, url, request, timeout_s=timeout_s)
    if not synthetic and number not in reading.text:
        raise OcrError(f"`{url}` read {reading.text[:80]!r} on a page that says {number}")
    return reading


def page(text: str) -> bytes:
    """Return a PNG with one line of text."""
    image = Image.new("L", _SIZE, "white")
    font = ImageFont.load_default(_FONT_SIZE)
    ImageDraw.Draw(image).text((40, 50), text, font=font, fill="black")
    file = io.BytesIO()
    image.save(file, "PNG", dpi=(200, 200))
    return file.getvalue()
