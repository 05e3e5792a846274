"""The server's end of one worker process: an image in, its text or a reason out."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloister.cleaning import on_one_line
from cloister.engines.tesseract.reader import Refusal

_ROOT = Path(__file__).parents[3]  # where `cloister` is found
# What some Pythons do not start without; the worker forgets it as soon as it runs.
_KEPT = ("PYTHONHOME", "LD_LIBRARY_PATH")
_START_TIMEOUT_S = 120
_CHUNK = 1 << 16
# A page of newspaper has some 50 KB. What says more was taken over by an image.
_ANSWER_BYTES = 4 << 20


class WorkerError(Exception):
    """A worker does not start, or its process ended before the page was read; says why."""


@dataclass(frozen=True)
class Start:
    """What a worker is started with."""

    languages: str
    tessdata: str
    max_megapixels: int


class WorkerProcess:
    """A worker that starts; `missing` is what its sandbox lacks, once it is ready.

    Raises WorkerError.
    """

    def __init__(self, start: Start) -> None:
        self.missing: dict[str, str] = {}
        self._control, inner = socket.socketpair()
        self._control.settimeout(0)
        path = [
            str(_ROOT),
            *filter(os.path.isabs, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
        ]
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        program = [sys.executable, "-P", "-m", "cloister.engines.tesseract.worker"]
        flags = (str(inner.fileno()), start.languages, start.tessdata, str(start.max_megapixels))
        try:
            self._process = subprocess.Popen(
                [*program, *flags],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                env={**kept, "PYTHONPATH": os.pathsep.join(path)},
                pass_fds=[inner.fileno()],
            )
        except OSError as error:
            self._control.close()
            raise WorkerError(f"a worker does not start ({error})") from error
        finally:
            inner.close()

    @property
    def alive(self) -> bool:
        """Return whether it runs."""
        return self._process.poll() is None

    async def wait_ready(self) -> None:
        """Wait until it takes pages. Raises WorkerError when it ends first or takes 120 s."""
        loop, line = asyncio.get_running_loop(), b""
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                while not line.endswith(b"\n"):
                    more = await loop.sock_recv(self._control, _CHUNK)
                    if not more:
                        raise WorkerError("a worker does not start; the log above says why")
                    line += more
        except TimeoutError as error:
            raise WorkerError(
                f"a worker takes longer than {_START_TIMEOUT_S} s to start"
            ) from error
        report = json.loads(line)  # no image was there yet
        if "failed" in report:
            raise WorkerError(f"a worker does not start ({on_one_line(report['failed'])})")
        self.missing = report["missing"]

    async def read(self, url: str) -> tuple[str, ...] | Refusal:
        """Return the Markdown blocks of an image, or why it is refused. Raises WorkerError."""
        try:
            answers, inner = socket.socketpair()
        except OSError as error:
            raise WorkerError(f"no worker can be asked ({error})") from error
        with answers:
            answers.settimeout(0)
            with inner:
                self._hand_over(url, inner)
            done = await _received(answers)
            with suppress(OSError):  # it is gone, as the next page will see
                self._control.send(b"end\n")
            return _parsed(done)

    def _hand_over(self, url: str, answers: socket.socket) -> None:
        try:
            document = _as_file(url)
            try:
                socket.send_fds(self._control, [b"page\n"], [document, answers.fileno()])
            finally:
                os.close(document)
        except OSError as error:
            raise WorkerError(f"a page cannot be handed to a worker ({error})") from error

    def end(self) -> None:
        """Kill it, and with it the process of its page."""
        if self.alive:
            with suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        self._control.close()


def _as_file(url: str) -> int:
    """Return an open file without a name that holds a URL, and can be read only."""
    content = url.encode("utf-8", "surrogatepass")
    if sys.platform != "linux":
        with tempfile.TemporaryFile(buffering=0) as file:
            _write(file.fileno(), content)
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            return os.dup(file.fileno())
    import fcntl  # noqa: PLC0415  # seals are Linux' own

    document = os.memfd_create("page", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    _write(document, content)
    os.lseek(document, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(document, fcntl.F_ADD_SEALS, seals)
    return document


def _write(file: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file, rest) :]


async def _received(answers: socket.socket) -> bytes:
    """Return all that a page's process writes before it ends. Raises WorkerError."""
    loop, parts, size = asyncio.get_running_loop(), [], 0
    while more := await loop.sock_recv(answers, _CHUNK):
        parts.append(more)
        size += len(more)
        if size > _ANSWER_BYTES:
            raise WorkerError(f"more than {_ANSWER_BYTES >> 20} MiB of text came from one image")
    return b"".join(parts)


def _parsed(content: bytes) -> tuple[str, ...] | Refusal:
    """Return what a page's process says, which an image may have taken over, once checked."""
    try:
        told: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise WorkerError("it ended before the page was read") from error
    match told:
        case {"blocks": [*blocks]} if all(isinstance(block, str) for block in blocks):
            return tuple(blocks)
        case {"refused": str(reason)}:
            return Refusal(on_one_line(reason))
        case {"failed": str(reason)}:
            raise WorkerError(on_one_line(reason))
    raise WorkerError("it gave no answer of a known form")
