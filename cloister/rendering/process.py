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

from cloister.errors import OcrError
from cloister.rendering.answers import BrokenError, last_line, parse
from cloister.rendering.drawing import Drawing, Drawn, Part, UnreadableError
from cloister.rendering.opening import descriptors_required

_ROOT = Path(__file__).parents[2]  # where `cloister` is found
# What some Pythons do not start without; the worker forgets it as soon as it runs.
_KEPT = ("PYTHONHOME", "LD_LIBRARY_PATH")
_START_TIMEOUT_S, _LAST_BREATH_S = 60, 5
# What a worker may say: more is a worker that a document has taken over.
_LINE_BYTES = 4 << 20
_COMPLAINT_BYTES = 64 << 10
_CHUNK = 1 << 20
# Why a worker ended, as its supervisor says.
_END = {"code": int, "late": bool, "shared": bool, "printed": str}


@dataclass(frozen=True)
class Limits:
    """What one worker may use: memory beyond that of an idle one, and seconds a page."""

    memory_mib: int = 2048
    page_timeout_s: float = 60


class _EndedError(BrokenError):
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
        with descriptors_required():
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
            self.missing = parse(line, {"missing": dict})["missing"]
        except (BrokenError, TimeoutError, OSError) as error:
            self._kill()
            raise OcrError(f"a rendering process does not start ({self._complaint()})") from error
        finally:
            if self._process.stderr is not None:
                self._process.stderr.close()

    def count(self, document: int) -> int:
        """Return the number of pages of an open file, which stays the caller's.

        Raises UnreadableError, as do the other jobs.
        """
        answer, _ = self._ask(document, {"do": "count"}, {"count": int})
        return int(answer["count"])

    def blank(self, document: int, number: int, part: Part) -> bool:
        """Return whether a page, or a half of it, shows nothing but paper."""
        job = {"do": "blank", "number": number, "part": part}
        answer, _ = self._ask(document, job, {"blank": bool})
        return bool(answer["blank"])

    def draw(self, document: int, number: int, drawing: Drawing) -> Drawn:
        """Draw a page."""
        job = {"do": "draw", "number": number, "drawing": asdict(drawing)}
        shape = {"mime": str, "width": int, "height": int, "bytes": int}
        answer, image = self._ask(document, job, {**shape, "text": str | None, "rebuilt": bool})
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
        """Kill all of it, wait until nothing runs any more, and let go of it.

        What a hanging mount holds in the kernel is left behind after 5 s.
        """
        self._kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_BREATH_S)
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
        self, document: int, job: dict[str, Any], shape: dict[str, Any]
    ) -> tuple[dict[str, Any], bytes]:
        deadline = time.monotonic() + self._limits.page_timeout_s
        with descriptors_required():
            answers, inner = os.pipe()
        try:
            try:
                self._send(job, [document, inner])
            finally:
                os.close(inner)
            line, rest = _line(answers, deadline)
            answer = parse(line, shape)
            image = _content(answers, rest, answer.get("bytes", 0), deadline)
        except TimeoutError as error:
            self.end()
            raise self._too_slow() from error
        except (_EndedError, OSError) as error:
            raise self._epitaph() from error
        except BrokenError as error:
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
            last = parse(line, _END)
        except (BrokenError, OSError):  # all of it is gone
            last = {"code": -signal.SIGKILL, "late": False, "shared": False, "printed": ""}
        self.end()
        code = last["code"]
        if last["late"]:
            return self._too_slow()
        if code == -signal.SIGABRT:  # how pdfium ends when it gets no memory
            return UnreadableError(self._too_much_memory())
        how = f"exit code {code}" if code >= 0 else f"signal {_signal(-code)}"
        printed = last_line(last["printed"])
        how += f"; it printed: {printed}" if printed else ""
        return CrashedError(f"rendering crashed ({how})", shared=last["shared"])

    def _complaint(self) -> str:
        """Return the last line that a worker printed which did not start."""
        output = self._process.stderr
        self._process.wait()
        content = output.read(_COMPLAINT_BYTES) if output is not None else b""
        self.end()
        return last_line(content.decode(errors="replace")) or "it says nothing"

    def _too_slow(self) -> UnreadableError:
        return UnreadableError(f"rendering took longer than {self._limits.page_timeout_s:g} s")

    def _too_much_memory(self) -> str:
        return f"rendering needed more than {self._limits.memory_mib} MiB of memory"


def _line(file: int, deadline: float) -> tuple[bytes, bytes]:
    """Return a line, and what came after it."""
    read = b""
    while b"\n" not in read:
        if len(read) > _LINE_BYTES:
            raise BrokenError("a line without an end")
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
        raise BrokenError("more than was asked for")
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
