"""Two hundred and more bodies and byte streams that no honest client sends, each with a name."""

import io
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from pages import data_url, encoded, page, request
from PIL import Image

_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: cloister\r\nConnection: close\r\n"
_KINDS = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "GIF": "image/gif",
}


def bodies() -> Iterator[tuple[str, bytes]]:
    """Yield bodies for POST /v1/chat/completions."""
    yield from _not_json()
    yield from _wrong_fields()
    yield from _wrong_urls()
    for kind, mime in _KINDS.items():
        yield from _damaged(kind, mime)
    yield from _bombs()


def streams() -> Iterator[tuple[str, bytes]]:
    """Yield whole requests, to be written to a socket as they are."""
    for name, line in {
        "tls hello": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        "no request line": b"hello\r\n\r\n",
        "unknown version": b"GET /health HTTP/9.9\r\n\r\n",
        "no host": b"GET /health HTTP/1.1\r\n\r\n",
        "header without colon": b"GET /health HTTP/1.1\r\nHost: a\r\na b c\r\n\r\n",
        "header too long": b"GET /health HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
        "path too long": b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        "path above the root": b"GET /v1/../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
        "encoded path with NUL": b"GET /%2e%2e/%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        "connect": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    }.items():
        yield name, line
    for method in (b"GET", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH", b"FOO"):
        line = method + b" /v1/chat/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        yield f"method {method.decode()}", line
    for path in (
        *(b"/invocations", b"/tokenize", b"/metrics/", b"/v1/completions", b"/v1/embeddings"),
        *(b"/pause", b"/v1/load_lora_adapter", b"/docs", b"/openapi.json", b"/-/replica-health"),
    ):
        line = b"POST " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        yield f"route {path.decode()}", line
    yield "negative length", _HEAD + b"Content-Length: -5\r\n\r\n"
    yield "length too large", _HEAD + b"Content-Length: 99999999999\r\n\r\n"
    yield "length not a number", _HEAD + b"Content-Length: ten\r\n\r\n"
    yield (
        "two lengths",
        _HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    )
    yield (
        "length and chunks",
        _HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    )
    yield "unknown transfer encoding", _HEAD + b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n"
    yield "broken chunk", _HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"
    yield "no body", _HEAD + b"\r\n"


def _not_json() -> Iterator[tuple[str, bytes]]:
    good = json.dumps(request(data_url(encoded(page("cut")))))
    for share in range(3, 100, 8):
        yield f"json cut at {share} %", good[: len(good) * share // 100].encode()
    for name, body in {
        "empty": b"",
        "text": b"hello",
        "xml": b"<?xml version='1.0'?><a/>",
        "NUL bytes": b"\0" * 1000,
        "not utf-8": b'{"messages": "\xff\xfe"}',
        "NaN": b'{"messages": NaN}',
        "single quotes": b"{'messages': []}",
        "deeply nested list": b"[" * 100_000,
        "deeply nested object": b'{"a":' * 100_000,
        "deeply nested and closed": b"[" * 50_000 + b"]" * 50_000,
        "lone surrogate": b'{"model": "\\ud800", "messages": []}',
        "huge number": b'{"messages": ' + b"9" * 100_000 + b"}",
        "form": b"model=a&messages=b",
        "two objects": b"{}{}",
        "byte order mark": b"\xef\xbb\xbf{}",
        "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    }.items():
        yield f"body: {name}", body


def _wrong_fields() -> Iterator[tuple[str, bytes]]:
    url = data_url(encoded(page("fields")))
    good = request(url)
    lists: tuple[Any, ...] = ([], [1], [[]], [{"role": "user"}], [{"content": "a"}])
    for messages in (None, 1, True, "text", {}, *lists):
        yield f"messages = {messages!r}", json.dumps({**good, "messages": messages}).encode()
    fields: dict[str, tuple[Any, ...]] = {
        "model": ("gpt-4", "", "../../etc/passwd", 1, {}, "a" * 100_000),
        "stream": ("maybe", {}, 3),
        "max_tokens": (-1, 0, "many", 1e400),
        "n": (0, 2, 10**30),
        "response_format": ({"type": "json_object"}, "text"),
        "tools": ([{"type": "function"}], "all"),
        "stream_options": ("usage", []),
    }
    for field, values in fields.items():
        for value in values:
            body = json.dumps({**good, field: value}).replace("Infinity", "1e999")
            yield f"{field} = {value!r:.40}", body.encode()
    contents: tuple[Any, ...] = (
        *(None, 1, {}, [1], ["text"], [{"type": "image_url"}]),
        [{"type": "image_url", "image_url": None}],
        [{"type": "image_url", "image_url": url}],
        [{"type": "image_url", "image_url": {"url": 5}}],
        [{"type": "video_url", "video_url": {"url": url}}],
        [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}],
        [{"type": "text", "text": "no image"}],
    )
    for content in contents:
        messages = [{"role": "user", "content": content}]
        yield f"content = {content!r:.60}", json.dumps({**good, "messages": messages}).encode()
    for role in ("root", None, 1):
        messages = [{"role": role, "content": good["messages"][0]["content"]}]
        yield f"role = {role!r}", json.dumps({**good, "messages": messages}).encode()
    yield "too many images", json.dumps(request(*[url] * 17)).encode()
    yield "second image broken", json.dumps(request(url, data_url(b"junk"))).encode()


def _wrong_urls() -> Iterator[tuple[str, bytes]]:
    good = encoded(page("urls"))
    for url in (
        *(
            "",
            "junk",
            "data:",
            "data:,",
            "data:image/png",
            "data:image/png;base64",
            "data:;base64,",
        ),
        *("http://127.0.0.1:1/a.png", "https://example.org/a.png", "ftp://example.org/a.png"),
        *("file:///etc/passwd", "FILE:///etc/passwd", "gopher://example.org", "//example.org/a"),
        *("javascript:alert(1)", "blob:null/1", "http://169.254.169.254/latest/meta-data/"),
        *("data:image/png;base64,", "data:image/png;base64,!!!!", "data:image/png;base64,aGk"),
        *("data:image/png,hello", "data:image/png;base32,aGk=", "data:image/png;base64,aGk="),
        data_url(good, "text/plain"),
        data_url(good, "application/pdf"),
        data_url(good, "image/jpeg"),
        data_url(good, "image/svg+xml"),
        data_url(good, "a" * 10_000),
        data_url(b"%PDF-1.7 not an image", "application/pdf"),
        data_url(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        data_url(b"GIF89a"),
    ):
        yield f"url {url[:50]!r}", json.dumps(request(url)).encode()


def _damaged(kind: str, mime: str) -> Iterator[tuple[str, bytes]]:
    whole = encoded(page(f"damaged {kind}"), kind)
    for share in (1, 5, 10, 25, 40, 60, 80):
        cut = whole[: len(whole) * share // 100]
        yield f"{kind} cut at {share} %", json.dumps(request(data_url(cut, mime))).encode()
    if kind == "PNG":  # the one kind with checksums; in the others a hole is a black bar
        holes = whole[: len(whole) // 3] + bytes(len(whole) // 3) + whole[-len(whole) // 3 :]
        yield f"{kind} with a hole", json.dumps(request(data_url(holes, mime))).encode()
    yield f"{kind} with bytes before", json.dumps(request(data_url(b"x" + whole, mime))).encode()


def _bombs() -> Iterator[tuple[str, bytes]]:
    for width, height in ((0, 0), (0, 100), (1, 1), (2, 900), (60_000, 60_000), (2**31 - 1, 1000)):
        url = data_url(_png_claiming(width, height))
        yield f"PNG of {width}x{height}", json.dumps(request(url)).encode()
    bomb = data_url(encoded(Image.new("1", (20_000, 20_000)), optimize=True))
    yield "PNG of 400 megapixels", json.dumps(request(bomb)).encode()
    frames = [page(f"frame {number}") for number in range(3)]
    for kind in ("TIFF", "GIF", "WEBP", "PNG"):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        url = data_url(file.getvalue(), _KINDS[kind])
        yield f"{kind} of three frames", json.dumps(request(url)).encode()
    yield "body above the limit", b'{"messages": "' + b"a" * (51 << 20) + b'"}'


def _png_claiming(width: int, height: int) -> bytes:
    """Return a small PNG whose header claims a size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(10_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
