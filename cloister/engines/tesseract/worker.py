"""A worker: it loads everything, gives up what it can, and forks a confined process for each page.

It parses nothing of a client's itself. Arguments: the descriptor of a socket to the server, the
languages, the folder of their data, the most megapixels of a page.
"""

import base64
import codecs
import gc
import io
import json
import os
import resource
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from cloister import sandbox
from cloister.engines.tesseract import reader

_OPEN_FILES = 32
_LINE_BYTES = 64
# All kinds that `decoding` takes: a confined process can import nothing any more.
_KINDS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
_ENCODINGS = ("ascii", "latin-1", "utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")


@dataclass(frozen=True)
class Reading:
    """How pages are read."""

    languages: str
    tessdata: str
    max_megapixels: int

    def read(self, url: str) -> dict[str, Any]:
        """Return the answer about one image, as the server takes it."""
        page = reader.read(url, self.languages, self.tessdata, self.max_megapixels)
        return {"refused": page.reason} if isinstance(page, reader.Refusal) else {"blocks": page}


def main() -> None:
    """Serve until the server ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's business
    number, languages, tessdata, max_megapixels = sys.argv[1:]
    sandbox.end_with_parent()
    os.environ.clear()
    reading = Reading(languages, tessdata, int(max_megapixels))
    try:
        load_everything(reading)
    except Exception as error:
        _write(int(number), {"failed": f"{type(error).__name__}: {error}"})
        raise
    missing = sandbox.isolate()
    if "pid" not in missing:
        _begin_namespace()
    sandbox.hide((), missing)
    control = socket.socket(fileno=int(number))
    _write(control.fileno(), _tried(control, reading, missing))
    os.dup2(1, 2)  # up to here a traceback is worth seeing
    _serve(control, reading, missing)


def load_everything(reading: Reading) -> None:
    """Read a page of each kind, so that all code and all data are loaded."""
    for name in _ENCODINGS:
        codecs.lookup(name)
    Image.init()
    for kind in _KINDS:
        if "blocks" not in reading.read(_sample(kind)):
            raise OSError(f"a sample page cannot be read ({kind})")
    # Pages of memory that a child does not write to are not copied.
    gc.collect()
    gc.freeze()


def confine(missing: dict[str, str]) -> dict[str, str]:
    """Limit what an image that takes this process over can do; return all that is missing."""
    sandbox.end_with_parent()
    for name, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        sandbox.limit(name, most)
    return missing | sandbox.confine((), are_files_hidden="mnt" not in missing)


def answer(reading: Reading, document: int, answers: int) -> None:
    """Read the page in an open file and write what comes of it, as JSON."""
    try:
        with os.fdopen(document, "rb", closefd=False) as file:
            url = file.read().decode("utf-8", "surrogatepass")
        done = reading.read(url)
    except Exception as error:  # noqa: BLE001  # a mistake of ours, which the server logs
        done = {"failed": f"{type(error).__name__}: {error}"}
    _write(answers, done)


def _begin_namespace() -> None:
    """Start the first process of the namespace that the pages' are in: they end with it.

    It ends with this one, which itself is no part of that namespace.
    """
    if os.fork() == 0:
        sandbox.end_with_parent()
        os.closerange(0, _OPEN_FILES)
        while True:
            signal.pause()


def _serve(control: socket.socket, reading: Reading, missing: dict[str, str]) -> None:
    """Fork a process for each page; the server sends one after the other, and tells their ends."""
    page = 0
    while True:
        line, files, _, _ = socket.recv_fds(control, _LINE_BYTES, 2)
        if page:
            os.kill(page, signal.SIGKILL)  # it answered, and ended, or its image has taken it over
            os.waitpid(page, 0)
            page = 0
        if not line:
            return
        if not files:
            continue
        document, answers = files
        page = os.fork()
        if page == 0:
            control.close()
            _read_page(reading, missing, document, answers)
        os.close(document)
        os.close(answers)


def _read_page(reading: Reading, missing: dict[str, str], document: int, answers: int) -> None:
    """Be the process of one page; never return."""
    code = 1
    try:
        confine(missing)
        answer(reading, document, answers)
        code = 0
    finally:
        os._exit(code)


def _tried(control: socket.socket, reading: Reading, missing: dict[str, str]) -> dict[str, Any]:
    """Read a sample in a confined process; return what the sandbox lacks.

    Raises SystemExit where none can be confined and read.
    """
    answers, inner = os.pipe()
    page = os.fork()
    if page == 0:
        control.close()
        code = 1
        try:
            lacking = confine(missing)
            _write(inner, {"missing": lacking, **reading.read(_SAMPLES["PNG"])})
            code = 0
        finally:
            os._exit(code)
    os.close(inner)
    with os.fdopen(answers, "rb") as file:
        told = file.read()
    _, status = os.waitpid(page, 0)
    if not told or "blocks" not in (report := json.loads(told)):
        ended = os.waitstatus_to_exitcode(status)
        raise SystemExit(f"a confined worker cannot read a sample page (it ended with {ended})")
    return {"missing": report["missing"]}


def _write(file: int, value: dict[str, Any]) -> None:
    rest = memoryview(json.dumps(value).encode() + b"\n")
    while rest:
        rest = rest[os.write(file, rest) :]


_SAMPLES: dict[str, str] = {}


def _sample(kind: str) -> str:
    """Return a page with a word on it, as a client would send it."""
    page = Image.new("L", (300, 80), "white")
    ImageDraw.Draw(page).text((20, 20), "Warm 2345", fill="black", font_size=40)
    file = io.BytesIO()
    page.save(file, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    content = base64.b64encode(file.getvalue()).decode()
    return _SAMPLES.setdefault(kind, f"data:image/{kind.lower()};base64,{content}")


if __name__ == "__main__":
    main()
