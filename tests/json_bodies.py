"""Bodies of JSON that cost whoever parses them more than they cost their sender, each with a name.

A client that sends such a body needs neither memory nor time to make it.
"""

import base64
import json
from collections.abc import Iterator

import requests
from pages import data_url, encoded, page, request

LARGEST = 49 << 20  # the gateway takes 50 MiB


def bodies(size: int = LARGEST) -> Iterator[tuple[str, bytes]]:
    """Yield each shape at about `size` bytes."""
    yield from _many_values(size)
    yield from _long_values(size)
    yield from _costly_fields(size)
    yield from _not_json(size)


def refusal(url: str, body: bytes) -> tuple[int, object]:
    """Send a body to a gateway; return the status and the error's code."""
    kind = {"Content-Type": "application/json"}
    answer = requests.post(f"{url}/v1/chat/completions", data=body, headers=kind, timeout=300)
    return answer.status_code, answer.json()["error"]["code"]


def costliest() -> bytes:
    """Return the body on which engines spend the most time, at its full size."""
    return _repeated(b'{"messages":[', b"{},", b"]}", LARGEST)


def _repeated(before: bytes, piece: bytes, after: bytes, size: int) -> bytes:
    count = (size - len(before) - len(after)) // len(piece)
    # A JSON list has no comma before its end.
    return before + (piece * count).removesuffix(b",") + after


def _many_values(size: int) -> Iterator[tuple[str, bytes]]:
    good = json.dumps(request(data_url(encoded(page("Page"))), max_tokens=1)).encode()
    head = good.removesuffix(b"}")
    yield "empty objects", _repeated(b"[", b"{},", b"]", size)
    yield "empty lists", _repeated(b"[", b"[],", b"]", size)
    yield "numbers", _repeated(b"[", b"0,", b"]", size)
    yield "empty strings", _repeated(b"[", b'"",', b"]", size)
    yield "objects in an unknown field", _repeated(head + b',"x":[', b"{},", b"]}", size)
    yield "messages that are none", _repeated(b'{"messages":[', b"{},", b"]}", size)
    text = b'{"role":"user","content":"a"},'
    yield "messages", _repeated(b'{"messages":[', text, b"]}", size)
    part = b'{"type":"text","text":"a"},'
    content = b'{"messages":[{"role":"user","content":['
    yield "parts of text", _repeated(content, part, b"]}]}", size)
    image = b'{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}},'
    yield "tiny images", _repeated(content, image, b"]}]}", size)
    keys = b",".join(b'"%07x":0' % number for number in range(size // 12))
    yield "different keys", b"{" + keys + b"}"
    yield "one key again and again", _repeated(b"{", b'"model":"a",', b"}", size)
    yield "lists in lists", _repeated(b"", b"[", b"", size)
    yield "objects in objects", _repeated(b"", b'{"a":', b"", size)
    yield "lists in lists, closed", b"[" * (size // 2) + b"]" * (size // 2)


def _long_values(size: int) -> Iterator[tuple[str, bytes]]:
    message = b'{"messages":[{"role":"user","content":"'
    yield "text of words", _repeated(message, b"a b c ", b'"}]}', size)
    yield "text of one word", _repeated(message, b"a", b'"}]}', size)
    yield "text of escapes", _repeated(message, b"\\u00e9", b'"}]}', size)
    yield "text of backslashes", _repeated(message, b"\\\\", b'"}]}', size)
    yield "text of quotation marks", _repeated(message, b'\\"', b'"}]}', size)
    yield "white space", _repeated(b'{"messages":', b" ", b"[]}", size)
    yield "a long integer", _repeated(b'{"messages":[],"n":', b"9", b"}", size)
    yield "a long fraction", _repeated(b'{"messages":[],"temperature":0.', b"1", b"}", size)
    yield "a long key", _repeated(b'{"', b"k", b'":0}', size)
    url = b'{"type":"image_url","image_url":{"url":"data:image/png;base64,'
    content = b'{"messages":[{"role":"user","content":['
    yield "an image of zeros", _repeated(content + url, b"AAAA", b'"}}]}]}', size)
    yield (
        "an image URL as text",
        _repeated(
            content + b'{"type":"text","text":"data:image/png;base64,', b"+/", b'"}]}]}', size
        ),
    )
    yield (
        "an image URL for messages",
        _repeated(b'{"messages":{"url":"data:image/png;base64,', b"AAAA", b'"}}', size),
    )
    junk = base64.b64encode(bytes(range(256)) * 3)
    yield "an image of junk", _repeated(content + url, junk, b'"}}]}]}', size)


def _costly_fields(size: int) -> Iterator[tuple[str, bytes]]:
    good = json.dumps(request(data_url(encoded(page("Page"))), max_tokens=1)).encode()
    head = good.removesuffix(b"}")
    yield "stop", _repeated(head + b',"stop":[', b'"zz",', b"]}", size)
    entries = b",".join(b'"%d":0' % number for number in range(size // 11))
    yield "logit_bias", head + b',"logit_bias":{' + entries + b"}}"
    tool = b'{"type":"function","function":{"name":"a","parameters":{}}},'
    yield "tools", _repeated(head + b',"tools":[', tool, b"]}", size)
    schema = b',"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":'
    deep = b'{"type":"array","items":'
    count = size // (len(deep) + 1)
    yield "a deep schema", head + schema + deep * count + b"{}" + b"}" * count + b"}}}"


def _not_json(size: int) -> Iterator[tuple[str, bytes]]:
    yield "bytes of no encoding", _repeated(b'{"messages":"', b"\xff", b'"}', size)
    yield "a string without end", _repeated(b'{"messages":"', b"a", b"", size)
    yield "NaN", _repeated(b"[", b"NaN,", b"]", size)
    yield "a byte order mark", b"\xef\xbb\xbf" + _repeated(b"[", b"{},", b"]", size)
    yield "commas", _repeated(b"", b",", b"", size)
