"""Requests that the stack tests send."""

import base64
import io
from typing import Any

from PIL import Image, ImageDraw, ImageFont

MODEL = "nanonets/Nanonets-OCR2-3B"


def page(text: str, size: tuple[int, int] = (900, 160)) -> Image.Image:
    image = Image.new("L", size, "white")
    ImageDraw.Draw(image).text((40, 50), text, font=ImageFont.load_default(48), fill="black")
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def data_url(content: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def request(*urls: str, **fields: Any) -> dict[str, Any]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    messages = [{"role": "user", "content": [*parts, {"type": "text", "text": "Read it."}]}]
    return {"model": MODEL, "messages": messages, **fields}
