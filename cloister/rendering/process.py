"""The parent's end of one worker process: a job in, an answer or UnreadableError out."""

import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cloister.cleaning import on_one_line
from cloister.errors import OcrError
from cloister.rendering.drawing import Drawing, Drawn, Part, UnreadableError
from cloister.rendering.opening import open_document

_ROOT = Path(__file__).parents[2]  # where `cloister` is found
# What some Pythons do not start without; the worker forgets it as soon as it runs.
_KEPT = ("PYTHONHOME", "LD_LIBRARY_PATH")
_START_TIMEOUT_S, _LAST_BREATH_S = 60, 5
# What a worker may say: more is a worker that a document has taken over.
_LINE_BYTES, _IMAGE_BYTES = 4 << 20, 512 << 20
_COMPLAINT_BYTES = 64 << 10
_MIMES = {"image/png", "image/jpeg", "image/tiff", "image/webp", "image/bmp", "image/gif"}
_CHUNK = 1 << 20
_NUMBERS = {"count", "width", "height", "bytes"}


@dataclass(frozen=True)
class Limits:
    """What one worker may use: memory beyond that of an idle one, and seconds a page."""

    memory_mib: int = 2048
    page_timeout_s: float = 60


class _BrokenError(Exception):
    """The worker did not speak as it should."""


class _EndedError(_BrokenError):
    """The worker closed its end."""


class CrashedError(UnreadableError):
    """The worker crashed; `shared` tells that it had another document before this one."""

    def __init__(self, message: str, *, shared: bool) -> None:
        super().__init__(message)
        self.shared = shared


class Process:
    """A running worker. Raises OcrError if it does not start."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.missing: dict[str, str] = {}  # of the sandbox, once it is ready
        self._control, inner = socket.socketpair()
        # Every process of the worker has its other end: it is closed when the last one is gone.
        self._life, life = os.pipe()
        try:
            self._process = self._start(inner.fileno(), life)
        except OSError as error:
            self._control.close()
            os.close(self._life)
            raise OcrError(f"a rendering process does not start ({error})") from error
        finally:
            inner.close()
            os.close(life)

    def _start(self, *descriptors: int) -> "subprocess.Popen[bytes]":
        path = [
            str(_ROOT),
            *filter(os.path.isabs, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
        ]
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        limits = (str(self._limits.memory_mib), str(self._limits.page_timeout_s))
        command = [sys.executable, "-P", "-m", "cloister.rendering.worker", str(descriptors[0])]
        return subprocess.Popen(
            [*command, *limits],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env={**kept, "PYTHONPATH": os.pathsep.join(path)},
            pass_fds=descriptors,
            start_new_session=True,  # no terminal; a Ctrl-C is the client's business
        )

    @property
    def alive(self) -> bool:
        """Return whether it runs."""
        return self._process.poll() is None

    def wait_ready(self) -> None:
        """Wait until it takes jobs. Raises OcrError when it ends first, or takes a minute."""
        try:
            line, _ = _line(self._control.fileno(), time.monotonic() + _START_TIMEOUT_S)
            self.missing = _parsed(line, {"missing": dict})["missing"]
        except (_BrokenError, TimeoutError, OSError) as error:
            self._kill()
            raise OcrError(f"a rendering process does not start ({self._complaint()})") from error
        finally:
            if self._process.stderr is not None:
                self._process.stderr.close()

    def count(self, path: Path) -> int:
        """Return the number of pages. Raises UnreadableError, as do the other jobs."""
        answer, _ = self._ask(path, {"do": "count"}, {"count": int})
        return int(answer["count"])

    def blank(self, path: Path, number: int, part: Part) -> bool:
        """Return whether a page, or a half of it, shows nothing but paper."""
        job = {"do": "blank", "number": number, "part": part}
        answer, _ = self._ask(path, job, {"blank": bool})
        return bool(answer["blank"])

    def draw(self, path: Path, number: int, drawing: Drawing) -> Drawn:
        """Draw a page."""
        job = {"do": "draw", "number": number, "drawing": asdict(drawing)}
        shape = {"mime": str, "width": int, "height": int, "bytes": int}
        answer, image = self._ask(path, job, {**shape, "text": str | None, "rebuilt": bool})
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
        self._kill()

    def end(self) -> None:
        """Kill all of it, wait until nothing runs any more, and let go of it."""
        self._kill()
        self._process.wait()
        if self._life < 0:
            return
        self._control.close()
        deadline = time.monotonic() + _LAST_BREATH_S
        with suppress(_EndedError, TimeoutError):
            while True:
                _more(self._life, deadline)
        os.close(self._life)
        self._life = -1

    def _kill(self) -> None:
        if self.alive:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _ask(
        self, path: Path, job: dict[str, Any], shape: dict[str, Any]
    ) -> tuple[dict[str, Any], bytes]:
        deadline = time.monotonic() + self._limits.page_timeout_s
        document = open_document(path)
        answers, inner = os.pipe()
        try:
            try:
                self._send(job, [document, inner])
            finally:
                os.close(document)
                os.close(inner)
            line, rest = _line(answers, deadline)
            answer = _parsed(line, shape)
            image = _content(answers, rest, answer.get("bytes", 0), deadline)
        except TimeoutError as error:
            self.end()
            raise self._too_slow() from error
        except (_EndedError, OSError) as error:
            raise self._epitaph() from error
        except _BrokenError as error:
            self.end()
            raise UnreadableError("rendering crashed (nonsense from the worker)") from error
        finally:
            os.close(answers)
        if "memory" in answer:
            self.end()  # what is left of its memory may be in pieces
            raise UnreadableError(self._too_much_memory())
        if "unreadable" in answer:
            raise UnreadableError(answer["unreadable"])
        return answer, image

    def _send(self, job: dict[str, Any], descriptors: list[int]) -> None:
        socket.send_fds(self._control, [json.dumps(job).encode() + b"\n"], descriptors)

    def _epitaph(self) -> UnreadableError:
        """Return why there is no answer, and end what is left of the worker."""
        try:
            self._send({"do": "why"}, [])
            line, _ = _line(self._control.fileno(), time.monotonic() + _LAST_BREATH_S)
            last = _parsed(line, {"code": int, "late": bool, "shared": bool})
        except (_BrokenError, OSError):  # all of it is gone
            last = {"code": -signal.SIGKILL, "late": False, "shared": False}
        self.end()
        code = last["code"]
        if last["late"]:
            return self._too_slow()
        if code == -signal.SIGABRT:  # how pdfium ends when it gets no memory
            return UnreadableError(self._too_much_memory())
        how = f"exit code {code}" if code >= 0 else f"signal {_signal(-code)}"
        return CrashedError(f"rendering crashed ({how})", shared=last["shared"])

    def _complaint(self) -> str:
        """Return the last line that a worker printed which did not start."""
        output = self._process.stderr
        self._process.wait()
        content = output.read(_COMPLAINT_BYTES) if output is not None else b""
        lines = content.decode(errors="replace").strip().splitlines()
        self.end()
        return on_one_line(lines[-1]) if lines else "it says nothing"

    def _too_slow(self) -> UnreadableError:
        return UnreadableError(f"rendering took longer than {self._limits.page_timeout_s:g} s")

    def _too_much_memory(self) -> str:
        return f"rendering needed more than {self._limits.memory_mib} MiB of memory"


def _line(file: int, deadline: float) -> tuple[bytes, bytes]:
    """Return a line, and what came after it."""
    read = b""
    while b"\n" not in read:
        if len(read) > _LINE_BYTES:
            raise _BrokenError("a line without an end")
        read += _more(file, deadline)
    line, _, rest = read.partition(b"\n")
    return line, rest


def _content(file: int, begin: bytes, number: int, deadline: float) -> bytes:
    parts = [begin]
    missing = number - len(begin)
    while missing > 0:
        parts.append(_more(file, deadline))
        missing -= len(parts[-1])
    if missing < 0:
        raise _BrokenError("more than was asked for")
    return b"".join(parts)


def _more(file: int, deadline: float) -> bytes:
    output = select.poll()  # `select.select` knows no descriptor above 1023
    output.register(file, select.POLLIN)
    if not output.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError
    more = os.read(file, _CHUNK)
    if not more:
        raise _EndedError("it ended")
    return more


def _signal(number: int) -> str:
    known = {one.value: one.name.removeprefix("SIG") for one in signal.Signals}
    return known.get(number, str(number))


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
        return {"unreadable": on_one_line(reason)}
    if answer.keys() != shape.keys():
        raise _BrokenError("another answer than was asked for")
    for name, kind in shape.items():
        value = answer[name]
        # A bool is an int to Python.
        if not isinstance(value, kind) or (name in _NUMBERS and not _is_number(value)):
            raise _BrokenError(f"a strange {name}")
    if answer.get("mime", "image/png") not in _MIMES:
        raise _BrokenError("a strange type")
    return answer


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= _IMAGE_BYTES
