"""Input files, opened and hashed by processes that can be ended: this end of them."""

import json
import os
import queue
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloister.errors import OcrError
from cloister.ocr.documents import Entry
from cloister.rendering.opening import no_descriptor, require_descriptors

_PROGRAM = Path(__file__).with_name("opener.py")
_ANSWER_BYTES = 1 << 16
_STALLED_S = 30.0  # from one sign of it to the next
_LAST_BREATH_S = 1.0
# What came from a process is no other's: macOS, which has no such flag, closes it by `close_fds`.
_CLOSED_IN_CHILDREN = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_KEPT = ("PYTHONHOME", "LD_LIBRARY_PATH")  # what some Pythons do not start without


class RefusedError(Exception):
    """A file that is not read; the text says why."""


@dataclass(frozen=True)
class FileLimits:
    """The largest input file, and how long it may take to open and to hash it."""

    most_mib: int = 2048
    timeout_s: float = 300


@dataclass(frozen=True)
class Inspected:
    """An open file, which its holder closes; `sha256` is None where `signature` was known.

    `signature` is what changes with each change of a file: size, times and inode, as Git compares
    them.
    """

    file: int
    signature: str
    sha256: str | None


class Openers:
    """As many processes as there are files under way; `stop` ends them and waits for none."""

    def __init__(self, limits: FileLimits) -> None:
        self._limits = limits
        self._work: queue.SimpleQueue[Callable[[_Opener], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._openers: set[_Opener] = set()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._stopped = False

    def inspect(self, entry: Entry) -> "Future[Inspected]":
        """Open and hash a document's file. The future raises RefusedError, as does the other."""
        document = entry.document
        request = {
            "do": "inspect",
            "path": os.fspath(document.path.absolute()),
            "root": None if document.named else os.fspath(document.root),
            "known": entry.signature if entry.pages is not None else None,
            "most_mib": self._limits.most_mib,
        }

        def inspect(opener: _Opener) -> Inspected:
            answer, file = opener.ask(request, self._limits.timeout_s)
            if file is None:  # the kernel drops it
                raise no_descriptor()
            return Inspected(file, answer["signature"], answer["sha256"])

        return self._submit(inspect)

    def is_same(self, entry: Entry, file: int) -> "Future[bool]":
        """Tell whether an open file, and that of a document's path, are what they were.

        One that is gone is not another one.
        """
        request = {
            "do": "compare",
            "path": os.fspath(entry.document.path.absolute()),
            "known": entry.signature,
            "sha256": entry.sha256,
        }

        def compare(opener: _Opener) -> bool:
            answer, _ = opener.ask(request, self._limits.timeout_s, file)
            return answer["path"] in {None, entry.signature} and bool(answer["same"])

        return self._submit(compare)

    def stop(self) -> None:
        """End the processes. Nobody waits for one that the kernel holds."""
        with self._lock:
            self._stopped = True
            for opener in self._openers:
                opener.kill()
        for _ in self._threads:
            self._work.put(None)
        until_s = time.monotonic() + _LAST_BREATH_S
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))

    def _submit(self, ask: "Callable[[_Opener], Any]") -> "Future[Any]":
        future: Future[Any] = Future()

        def work(opener: _Opener) -> None:
            error, answer = None, None
            try:
                answer = ask(opener)
            except Exception as failed:  # noqa: BLE001  # whose it is, the future's owner says
                error = failed
            with self._lock:  # before the owner, who may have the next one, hears of it
                self._idle += 1
            if error is None:
                future.set_result(answer)
            else:
                future.set_exception(error)

        with self._lock:
            grows = self._idle == 0
            self._idle -= not grows
        self._work.put(work)
        if grows:  # a thread in the kernel's hands is not waited for at the end
            thread = threading.Thread(target=self._run, daemon=True, name="ocr-opener")
            self._threads.append(thread)
            thread.start()
        return future

    def _run(self) -> None:
        opener = _Opener()
        with self._lock:
            self._openers.add(opener)
        while not self._stopped and (work := self._work.get()) is not None:
            work(opener)
        opener.end()


class _Opener:
    """One process, started when it is needed, and again after it was ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._killed = False

    def ask(
        self, request: dict[str, Any], timeout_s: float, file: int | None = None
    ) -> tuple[dict[str, Any], int | None]:
        """Return the answer, and the file that came with it.

        Raises RefusedError, or OcrError where no file is why: no process or descriptor is left.
        """
        client = self._socket or self._start()
        try:
            socket.send_fds(client, [json.dumps(request).encode() + b"\n"], _listed(file))
            answer, received = _received(client, timeout_s)
        except TimeoutError as error:
            self.end()
            raise RefusedError(str(error)) from error
        except OSError as error:
            self.end()
            raise RefusedError(f"the process that opens files ended ({error})") from error
        if "refused" in answer:
            require_descriptors(answer.get("errno"))
            raise RefusedError(answer["refused"])
        return answer, received

    def kill(self) -> None:
        """End it, from any thread: the one that waits for it notices."""
        self._killed = True
        if (process := self._process) is not None:
            process.kill()

    def end(self) -> None:
        """End it, and leave it behind if the kernel does not let it go."""
        process, client = self._process, self._socket
        self._process = self._socket = None
        if process is None or client is None:
            return
        process.kill()
        client.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_BREATH_S)

    def _start(self) -> socket.socket:
        try:
            return self._started()
        except OSError as error:
            require_descriptors(error.errno)
            raise OcrError(
                f"the process that opens files does not start: {error.strerror}",
                hint="ulimit -u, and free memory; then the same command",
            ) from error

    def _started(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        with theirs, ExitStack() as ended:
            ended.enter_context(ours)
            self._process = subprocess.Popen(
                # Nothing but the standard library: there is one for every file under way.
                [sys.executable, "-S", "-s", "-P", str(_PROGRAM)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=environment,
                process_group=0,  # Ctrl-C is the client's business
            )
            ended.pop_all()
        self._socket = ours
        if self._killed:  # meanwhile
            self._process.kill()
        return ours


def _listed(file: int | None) -> tuple[int, ...]:
    return () if file is None else (file,)


def _received(client: socket.socket, timeout_s: float) -> tuple[dict[str, Any], int | None]:
    """Return an answer and its file.

    Raises TimeoutError, which says whether bytes still came, or OSError when the process ended.
    """
    told, files, came = b"", [], False
    until_s = time.monotonic() + timeout_s
    while not told.endswith(b"\n"):
        silent_s = min(_STALLED_S, until_s - time.monotonic())
        waiting = select.poll()  # `select.select` knows no descriptor above 1023
        waiting.register(client, select.POLLIN)
        if silent_s <= 0 or not waiting.poll(silent_s * 1000):
            raise TimeoutError(_late(timeout_s, came=came and silent_s < _STALLED_S))
        more, found, _, _ = socket.recv_fds(client, _ANSWER_BYTES, 1, _CLOSED_IN_CHILDREN)
        files += found
        if not more:
            raise ConnectionResetError("no answer")
        came = True
        told = (told + more).lstrip(b".")
    answer: dict[str, Any] = json.loads(told)
    return answer, files[0] if files else None


def _late(timeout_s: float, *, came: bool) -> str:
    if came:
        return f"it is slow: not read within {timeout_s:g} s, which `ocr.file_timeout_s` allows"
    silent_s = min(_STALLED_S, timeout_s)
    return f"it hangs: nothing came of it for {silent_s:g} s, as from a server that is gone"
