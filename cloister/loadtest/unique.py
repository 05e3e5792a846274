"""Page images of which every copy differs, in bytes and in pixels, at the price of a `memcpy`.

vLLM knows an image by a hash of its bytes, older versions by one of its pixels: a page that is
sent twice may cost nothing the second time. Encoding anew costs 5 to 75 ms a page; here only the
image's first rows are, which carry the copy's number in barely darker dots of paper.
"""

import base64
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

_BITS = 48
_PNG_DARKER, _JPEG_DARKER = 1, 24  # shades: JPEG would round fewer away
_JPEG_QUALITY = 85
_BLOCK = 8  # pixels: JPEG's, 16 where colour has half the resolution


@dataclass(frozen=True)
class Copies:
    """An encoded image; `copy(n)` is the base64 text of its nth copy."""

    mime: str
    width: int
    height: int
    copy: Callable[[int], bytes]


def png(image: Image.Image) -> Copies:
    """Return copies as PNG: the first row is a block of its own in the compressed stream.

    It is stored, not compressed, so it can be changed in place, and its part of the checksum
    is replaced arithmetically.
    """
    image = _plain(image)
    channels = len(image.getbands())
    width, height = image.size
    stride = width * channels
    pixels = image.tobytes()
    rows = b"".join(b"\x00" + pixels[row * stride : (row + 1) * stride] for row in range(1, height))
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    rest = packer.compress(rows) + packer.flush()
    rest_sum = zlib.adler32(rows)
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)
    # The parts' lengths are multiples of three, so that their base64 texts can be joined.
    first_bytes = len(start) + 12 + 2 + 5 + 1 + stride
    start += _padding(first_bytes)
    middle = _chunk(b"IDAT", rest)
    whole = len(middle) - len(middle) % 3
    encoded, left = base64.b64encode(middle[:whole]), middle[whole:]
    top = pixels[:stride]

    def copy(number: int) -> bytes:
        row = b"\x00" + _marked(top, number, _PNG_DARKER, 1, channels)
        stored = b"\x78\x9c\x00" + struct.pack("<HH", len(row), len(row) ^ 0xFFFF) + row
        total = _adler(zlib.adler32(row), rest_sum, len(rows))
        end = left + _chunk(b"IDAT", struct.pack(">I", total)) + _chunk(b"IEND", b"")
        return b"".join(
            (base64.b64encode(start + _chunk(b"IDAT", stored)), encoded, base64.b64encode(end))
        )

    return Copies("image/png", width, height, copy)


def jpeg(image: Image.Image, quality: int = _JPEG_QUALITY) -> Copies:
    """Return copies as JPEG: restart markers make each row of blocks a stream of its own.

    So the first row of another image, encoded alone with the same tables, fits in its place.
    """
    image = _plain(image)
    colour = len(image.getbands()) > 1
    high = 2 * _BLOCK if colour else _BLOCK
    whole = _jpeg(image, quality)
    scan = _scan_start(whole)
    first_end = whole.index(b"\xff\xd0", scan)
    head, rest = whole[:scan], whole[first_end:]
    strip = image.crop((0, 0, image.width, high))
    top = strip.tobytes()
    tail = len(rest) - len(rest) % 3
    encoded, left = base64.b64encode(rest[:tail]), base64.b64encode(rest[tail:])
    channels = len(image.getbands())

    def copy(number: int) -> bytes:
        rows = _marked(top, number, _JPEG_DARKER, high, channels, image.width)
        one = _jpeg(Image.frombytes(strip.mode, strip.size, rows), quality)
        row = one[_scan_start(one) : -2]  # without the end-of-image marker
        padding = b" " * (-(len(head) + 5 + len(row)) % 3)
        comment = b"\xff\xfe" + struct.pack(">H", 3 + len(padding)) + b"c" + padding
        start = head[:2] + comment + head[2:] + row
        return b"".join((base64.b64encode(start), encoded, left))

    return Copies("image/jpeg", image.width, image.height, copy)


def _plain(image: Image.Image) -> Image.Image:
    return image if image.mode in {"L", "RGB"} else image.convert("RGB")


def _marked(
    rows: bytes, number: int, darker: int, high: int, channels: int, width: int | None = None
) -> bytes:
    """Return rows of pixels with a number in them: one square a bit, a little darker for 1."""
    marked = bytearray(rows)
    wide = high * channels
    stride = (width or len(rows) // channels) * channels
    for bit in range(min(_BITS, stride // wide)):
        shade = 255 - darker * (number >> bit & 1)
        for row in range(len(rows) // stride):
            at = row * stride + bit * wide
            marked[at : at + wide] = bytes((shade,)) * wide
    return bytes(marked)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, restart_marker_rows=1)
    return file.getvalue()


def _scan_start(content: bytes) -> int:
    """Return where the compressed picture begins, behind the start-of-scan segment."""
    at = 2
    while content[at + 1] != 0xDA:  # noqa: PLR2004
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def _padding(length: int) -> bytes:
    """Return a text chunk that makes a length a multiple of three."""
    return _chunk(b"tEXt", b"p\x00" + b" " * (-(length + 14) % 3))


def _adler(first: int, second: int, second_bytes: int) -> int:
    """Return the Adler-32 sum of two joined texts (zlib's `adler32_combine`)."""
    base = 65521
    low = (first & 0xFFFF) + (second & 0xFFFF) - 1
    high = (second_bytes % base) * (first & 0xFFFF) + (first >> 16) + (second >> 16)
    high -= second_bytes % base
    return (high % base) << 16 | low % base
