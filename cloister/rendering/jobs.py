"""The process in which documents are parsed: confined first, then one job after the other.

A job is a line of JSON, with two descriptors: the document, and a pipe for the answer. The answer
is a line of JSON; an image follows it, as long as the line says.
"""

import json
import os
import resource
import socket
from pathlib import Path
from typing import Any

from cloister import sandbox
from cloister.rendering.drawing import Drawing, UnreadableError
from cloister.rendering.source import Source

# Where pdfium looks for fonts that a PDF names and does not have.
FONTS = tuple(
    map(
        Path,
        (
            "/usr/share/fonts",
            "/usr/share/X11/fonts/Type1",
            "/usr/share/X11/fonts/TTF",
            "/usr/local/share/fonts",
        ),
    )
)
_OPEN_FILES = 32
_LINE_BYTES = 64 << 10


def confine(space: int, missing: dict[str, str]) -> dict[str, str]:
    """Limit what a document that takes this process over, or is merely huge, can do.

    `space` is the address space in bytes; `missing` is what the namespaces lack. Return all that
    is missing.
    """
    sandbox.end_with_parent()
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
    }
    if space:
        limits[resource.RLIMIT_AS] = space
    for name, most in limits.items():
        sandbox.limit(name, most)
    return missing | sandbox.confine(FONTS, are_files_hidden="mnt" not in missing)


def serve(channel: socket.socket) -> None:
    """Answer jobs until the other end is closed."""
    source = Source()
    while True:
        line, files, _, _ = socket.recv_fds(channel, _LINE_BYTES, 2)
        if not line:
            return
        document, answers = files
        _answer(source, json.loads(line), document, answers)
        os.close(answers)


def _answer(source: Source, job: dict[str, Any], document: int, answers: int) -> None:
    image = b""
    try:
        answer, image = _done(source, job, document)
    except UnreadableError as error:
        answer = {"unreadable": error.message}
    except MemoryError:
        source.close()
        answer = {"memory": True}
    write(answers, json.dumps(answer).encode() + b"\n")
    write(answers, image)


def write(file: int, content: bytes) -> None:
    """Write all of it: a pipe takes a part at a time."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]


def _done(source: Source, job: dict[str, Any], document: int) -> tuple[dict[str, Any], bytes]:
    pages = source.open(document)
    if job["do"] == "count":
        return {"count": pages.count}, b""
    if job["do"] == "blank":
        first, of = job["part"]
        return {"blank": pages.blank(job["number"], (first, of))}, b""
    drawing = job["drawing"]
    drawn = pages.draw(job["number"], Drawing(**{**drawing, "part": tuple(drawing["part"])}))
    answer = {
        "mime": drawn.mime,
        "width": drawn.width,
        "height": drawn.height,
        "text": drawn.text,
        "rebuilt": drawn.rebuilt,
        "bytes": len(drawn.image),
    }
    return answer, drawn.image
