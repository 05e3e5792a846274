"""Every kind of page image is read, and everything else is refused with a reason."""

import base64
import io
import re
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageDraw

from cloister.engines.tesseract.decoding import MIME_TYPES, ImageRefusedError, decode

KINDS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")


def sample() -> Image.Image:
    """White paper with a black bar at the upper left."""
    image = Image.new("L", (60, 40), "white")
    ImageDraw.Draw(image).rectangle((0, 0, 29, 9), fill="black")
    return image


def file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def url(content: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def assert_reads_sample(content: bytes, mime: str = "image/png") -> None:
    page = decode(url(content, mime), max_megapixels=1)
    assert page.mode == "L"
    assert page.size == (60, 40)
    # Nearly the same everywhere but at the bar's edge, which JPEG blurs.
    inner = ImageChops.difference(page, sample()).crop((0, 0, 24, 6))
    outer = ImageChops.difference(page, sample()).crop((40, 20, 60, 40))
    assert not any(
        part.point(lambda value: 255 * (value > 12)).getbbox() for part in (inner, outer)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read(kind: str) -> None:
    assert_reads_sample(file(sample(), kind), MIME_TYPES[kind][0])


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("PNG", "1"),
        ("PNG", "P"),
        ("PNG", "RGB"),
        ("PNG", "LA"),
        ("PNG", "RGBA"),
        ("TIFF", "1"),
        ("TIFF", "CMYK"),
        ("TIFF", "F"),
        ("JPEG", "CMYK"),
        ("WEBP", "RGBA"),
    ],
)
def test_every_mode_is_read(kind: str, mode: str) -> None:
    assert_reads_sample(file(sample().convert("RGB").convert(mode), kind), MIME_TYPES[kind][0])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    wide = sample().convert("I").point(lambda value: value * 257).convert("I;16")
    assert_reads_sample(file(wide, kind), MIME_TYPES[kind][0])


def test_what_is_transparent_is_white_paper() -> None:
    ink = Image.new("L", (60, 40), 0)
    assert_reads_sample(file(Image.merge("LA", (ink, ImageChops.invert(sample())))))
    palette = sample().convert("P")
    assert_reads_sample(file(palette, "GIF", transparency=palette.getpixel((50, 30))), "image/gif")


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_undone(turn: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = turn
    turned = sample().transpose(undo[turn]) if turn in undo else sample()
    assert_reads_sample(file(turned, "PNG", exif=exif))


def test_the_resolution_of_the_file_is_kept() -> None:
    page = decode(url(file(sample(), dpi=(300, 300))), max_megapixels=1)
    assert round(page.info["dpi"][0]) == 300
    assert "dpi" not in decode(url(file(sample())), max_megapixels=1).info


def claiming(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header claims a size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99)))


def several(kind: str) -> bytes:
    content = io.BytesIO()
    frames = [sample(), sample().rotate(180), sample().rotate(90)]
    frames[0].save(content, kind, save_all=True, append_images=frames[1:])
    return content.getvalue()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("http://127.0.0.1/a.png", "`http:` URL; nothing is fetched"),
        ("file:///etc/passwd", "`file:` URL"),
        ("a.png", "not a URL"),
        ("", "not a URL"),
        ("data:image/png,abc", "not base64"),
        ("data:image/png;base64", "not base64"),
        ("data:image/png;base64,!", "not valid base64"),
        ("data:image/png;base64,", "is empty"),
        (url(b"junk"), "cannot be opened"),
        (url(file(sample()), "text/plain"), "declared `text/plain`"),
        (url(file(sample()), "image/jpeg"), "its bytes are PNG; declare `image/png`"),
        (url(file(sample(), "JPEG"), "image/png"), "bytes are JPEG; declare `image/jpeg`"),
        (url(claiming(0, 0)), "cannot be opened"),
        (url(claiming(1, 1)), "is 1x1 pixels"),
        (url(claiming(60_000, 60_000)), "at most 1 megapixels"),
        (url(claiming(50, 50)), "damaged or truncated PNG"),
        (url(several("TIFF"), "image/tiff"), "holds 3 pages"),
        (url(several("GIF"), "image/gif"), "holds 3 pages"),
    ],
)
def test_what_is_no_page_image_is_refused_with_the_reason(sent: str, reason: str) -> None:
    with pytest.raises(ImageRefusedError, match=re.escape(reason)):
        decode(sent, max_megapixels=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_refused(kind: str) -> None:
    noise = Image.effect_noise((60, 40), 80)
    content = file(noise, kind)
    for size in range(0, len(content) * 3 // 4, 97):
        with pytest.raises(ImageRefusedError):
            decode(url(content[:size], MIME_TYPES[kind][0]), max_megapixels=1)


@given(st.text(max_size=200))
def test_any_text_is_refused_and_nothing_else_happens(sent: str) -> None:
    with pytest.raises(ImageRefusedError):
        decode(sent, max_megapixels=1)


@given(
    kind=st.sampled_from(KINDS),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
)
def test_a_file_with_wrong_bytes_is_read_or_refused(
    kind: str, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(file(sample(), kind))
    for place, value in changes:
        content[place % len(content)] = value
    try:
        page = decode(url(bytes(content), MIME_TYPES[kind][0]), max_megapixels=1)
    except ImageRefusedError:
        return
    assert page.mode == "L"
