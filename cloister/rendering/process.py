"""The parent's end of one worker process: a job in, an answer or UnreadableError out."""

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cloister.errors import OcrError
from cloister.rendering.drawing import Drawing, Drawn, Part, UnreadableError

_ROOT = Path(__file__).parents[2]  # where `cloister` is found
# No keys, no tokens; the last two are what some Pythons do not start without.
_KEPT = ("PATH", "LANG", "LC_ALL", "HOME", "PYTHONHOME", "LD_LIBRARY_PATH")
_START_TIMEOUT_S, _LAST_BREATH_S = 60, 5
# What a worker may say: more is a worker that a document has taken over.
_LINE_BYTES, _IMAGE_BYTES = 4 << 20, 512 << 20
_REASON_CHARACTERS = 500
_MIMES = {"image/png", "image/jpeg", "image/tiff", "image/webp", "image/bmp", "image/gif"}
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What one worker may use: memory beyond that of an idle one, and seconds a page."""

    memory_mib: int = 2048
    page_timeout_s: float = 60


class _BrokenError(Exception):
    """The worker ended, or did not speak as it should."""


class Process:
    """A running worker. Raises OcrError if it does not start."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        path = [
            str(_ROOT),
            *filter(os.path.isabs, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
        ]
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        command = [sys.executable, "-m", "cloister.rendering.worker", str(limits.memory_mib)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=_ROOT,
                env={**kept, "PYTHONPATH": os.pathsep.join(path)},
                process_group=0,  # a Ctrl-C before the worker ignores it would print a traceback
            )
        except OSError as error:
            raise OcrError(f"a rendering process does not start ({error})") from error
        self._read = b""

    @property
    def alive(self) -> bool:
        """Return whether it runs."""
        return self._process.poll() is None

    def wait_ready(self) -> None:
        """Wait until it takes jobs. Raises OcrError when it ends first, or takes a minute."""
        try:
            self._line(time.monotonic() + _START_TIMEOUT_S)
        except (_BrokenError, TimeoutError, OSError) as error:
            self.end()
            raise OcrError("a rendering process does not start; it says why above") from error

    def count(self, path: str) -> int:
        """Return the number of pages. Raises UnreadableError, as do the other jobs."""
        answer, _ = self._ask({"do": "count", "path": path}, {"count": int})
        return int(answer["count"])

    def blank(self, path: str, number: int, part: Part) -> bool:
        """Return whether a page, or a half of it, shows nothing but paper."""
        job = {"do": "blank", "path": path, "number": number, "part": part}
        answer, _ = self._ask(job, {"blank": bool})
        return bool(answer["blank"])

    def draw(self, path: str, number: int, drawing: Drawing) -> Drawn:
        """Draw a page."""
        job = {"do": "draw", "path": path, "number": number, "drawing": asdict(drawing)}
        shape = {"mime": str, "width": int, "height": int, "bytes": int}
        answer, image = self._ask(job, {**shape, "text": str | None, "rebuilt": bool})
        return Drawn(
            image,
            answer["mime"],
            answer["width"],
            answer["height"],
            hashlib.sha256(image).hexdigest(),
            answer["text"],
            answer["rebuilt"],
        )

    def kill(self) -> None:
        """Kill it, from any thread; the one that asks it notices."""
        self._process.kill()

    def end(self) -> None:
        """Kill it, wait for it and close its pipes."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # a job that it never took
                if pipe is not None:
                    pipe.close()

    def _ask(self, job: dict[str, Any], shape: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        deadline = time.monotonic() + self._limits.page_timeout_s
        try:
            self._send(job)
            answer = _parsed(self._line(deadline), shape)
            image = self._bytes(answer.get("bytes", 0), deadline)
        except TimeoutError as error:
            self.end()
            limit = f"{self._limits.page_timeout_s:g} s"
            raise UnreadableError(f"rendering took longer than {limit}") from error
        except (_BrokenError, OSError) as error:
            raise UnreadableError(self._epitaph()) from error
        if "memory" in answer:
            self.end()  # what is left of its memory may be in pieces
            raise UnreadableError(self._too_much_memory())
        if "unreadable" in answer:
            raise UnreadableError(answer["unreadable"])
        return answer, image

    def _send(self, job: dict[str, Any]) -> None:
        if self._process.stdin is None:
            raise _BrokenError("it has no input")
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._read:
            if len(self._read) > _LINE_BYTES:
                raise _BrokenError("a line without an end")
            self._read += self._more(deadline)
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _bytes(self, number: int, deadline: float) -> bytes:
        parts, self._read = [self._read], b""
        missing = number - len(parts[0])
        while missing > 0:
            parts.append(self._more(deadline))
            missing -= len(parts[-1])
        if missing < 0:
            raise _BrokenError("more than was asked for")
        return b"".join(parts)

    def _more(self, deadline: float) -> bytes:
        if self._process.stdout is None:
            raise _BrokenError("it has no output")
        output = select.poll()  # `select.select` knows no descriptor above 1023
        output.register(self._process.stdout, select.POLLIN)
        if not output.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        more = os.read(self._process.stdout.fileno(), _CHUNK)
        if not more:
            raise _BrokenError("it ended")
        return more

    def _epitaph(self) -> str:
        """Return why there is no answer, once the worker is gone."""
        try:
            code = self._process.wait(_LAST_BREATH_S)
        except subprocess.TimeoutExpired:
            code = None  # it lives, and spoke nonsense
        self.end()
        if code == -signal.SIGABRT:  # how pdfium ends when it gets no memory
            return self._too_much_memory()
        if code is None:
            return "rendering crashed (nonsense from the worker)"
        if code < 0:
            return f"rendering crashed (signal {signal.Signals(-code).name.removeprefix('SIG')})"
        return f"rendering crashed (exit code {code})"

    def _too_much_memory(self) -> str:
        return f"rendering needed more than {self._limits.memory_mib} MiB of memory"


def _parsed(line: bytes, shape: dict[str, Any]) -> dict[str, Any]:
    """Return what a worker says, once it has the shape of an answer; else raise _BrokenError."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _BrokenError("not JSON") from error
    if not isinstance(answer, dict):
        raise _BrokenError("not an answer")
    if answer == {"memory": True}:
        return answer
    if isinstance(reason := answer.get("unreadable"), str):
        shown = "".join(one if one.isprintable() else " " for one in reason[:_REASON_CHARACTERS])
        return {"unreadable": shown}
    if answer.keys() != shape.keys():
        raise _BrokenError("another answer than was asked for")
    for name, kind in shape.items():
        value = answer[name]
        # A bool is an int to Python.
        if not isinstance(value, kind) or (kind is int and not _is_number(value)):
            raise _BrokenError(f"a strange {name}")
    if answer.get("mime", "image/png") not in _MIMES:
        raise _BrokenError("a strange type")
    return answer


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= _IMAGE_BYTES
