"""Hands jobs to a confined process, replaces it, and ends it when a page takes too long.

It parses no document. Where the kernel allows it, it is the first process of a namespace: whatever
the confined process might have started ends with it.
"""

import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from cloister.rendering import jobs
from cloister.rendering.source import identify

_LINE_BYTES = 64 << 10
# A process that a document took over serves others until it is replaced. Replacing one costs 5 ms:
# one that is older than this gets no further document.
_OLD_S, _MOST_JOBS = 1.0, 200
# The client gives a page up first, unless it is stopped.
_GRACE_S = 5.0
# What libraries print over one document; the kernel drops what is more.
_PRINTED_BYTES = 4096


class _Child:
    """A confined process, which has not seen a document when it is new. Raises OSError."""

    def __init__(self, confine: Callable[[], dict[str, str]], close: Callable[[], None]) -> None:
        self.channel, inner = socket.socketpair()
        self._printed, printed = _bounded_pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self.channel.close()
            os.close(self._printed)
            os.dup2(printed, 2)
            os.close(printed)
            close()
            _run(inner, confine)
        inner.close()
        os.close(printed)
        self.documents: set[tuple[int, ...]] = set()
        self.last: tuple[int, ...] = ()
        self.jobs = 0
        self.begun_s = time.monotonic()
        report = json.loads(self.channel.recv(_LINE_BYTES) or b'{"failed": "it ended"}')
        if "failed" in report:
            raise OSError(f"a rendering process cannot be confined: {report['failed']}")
        self.missing: dict[str, str] = report["missing"]

    def takes(self, document: tuple[int, ...]) -> bool:
        """Return whether it may get a job of that document."""
        if self.jobs >= _MOST_JOBS:
            return False
        is_young = time.monotonic() < self.begun_s + _OLD_S
        return document == self.last or not self.last or is_young

    def end(self) -> tuple[int, str]:
        """Kill it; return its exit code, and what it printed over the last document.

        The code is negative for a signal, which may be an earlier one.
        """
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self.channel.close()
        printed = self.take_printed()
        os.close(self._printed)
        return os.waitstatus_to_exitcode(status), printed.decode(errors="replace")

    def take_printed(self) -> bytes:
        """Return what it printed since the last time, 4 KiB at most."""
        with suppress(BlockingIOError):
            return os.read(self._printed, _PRINTED_BYTES)
        return b""


def _bounded_pipe() -> tuple[int, int]:
    """Return a pipe's ends, where a write that finds it full fails, and nobody has to read."""
    reads, writes = os.pipe()
    for end in (reads, writes):
        os.set_blocking(end, False)
    if sys.platform == "linux":
        fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, _PRINTED_BYTES)
    return reads, writes


def _run(channel: socket.socket, confine: Callable[[], dict[str, str]]) -> None:
    """Be the confined process; never return."""
    code = 1
    try:
        try:
            report: dict[str, Any] = {"missing": confine()}
        except OSError as error:
            report = {"failed": str(error)}
        jobs.write(channel.fileno(), json.dumps(report).encode())
        jobs.serve(channel)
        code = 0
    except BaseException as error:  # noqa: BLE001  # a traceback would need files
        with suppress(OSError):
            os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(code)


class Supervisor:
    """Jobs come in by `control`, which is closed when the client ends."""

    def __init__(
        self,
        control: socket.socket,
        page_timeout_s: float,
        confine: Callable[[], dict[str, str]],
    ) -> None:
        self._control, self._confine = control, confine
        self._longest_s = page_timeout_s + _GRACE_S
        self._child: _Child | None = self._begin()
        self._deadline_s: float | None = None
        self._end: dict[str, Any] = {}
        jobs.write(control.fileno(), json.dumps({"missing": self._child.missing}).encode() + b"\n")

    def run(self) -> None:
        """Serve until the client ends."""
        while True:
            ready = self._wait()
            if self._child is not None and self._child.channel.fileno() in ready:
                self._stop()  # it never writes: it ended
            if self._control.fileno() in ready:
                line, files, _, _ = socket.recv_fds(self._control, _LINE_BYTES, 2)
                if not line:
                    return
                self._take(line, files)
            elif not ready:
                self._stop(late=True)

    def _begin(self) -> _Child:
        return _Child(self._confine, self._control.close)

    def _wait(self) -> set[int]:
        """Return the descriptors that have something; none when the page took too long."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        timeout_ms = None
        if self._child is not None:
            poll.register(self._child.channel, select.POLLIN)
            if self._deadline_s is not None:
                timeout_ms = max(0.0, self._deadline_s - time.monotonic()) * 1000 + 1
        return {file for file, _ in poll.poll(timeout_ms)}

    def _take(self, line: bytes, files: list[int]) -> None:
        if not files:  # the client asks why there was no answer
            self._stop()
            jobs.write(self._control.fileno(), json.dumps(self._end).encode() + b"\n")
            return
        document = identify(files[0])
        if self._child is not None and not self._child.takes(document):
            self._stop()
        if self._child is None:
            self._child = self._begin()
        self._child.take_printed()  # over the document before
        try:
            socket.send_fds(self._child.channel, [line], files)
        except OSError:  # it ended in between, and this document is not why
            self._stop()
            self._child = self._begin()
            socket.send_fds(self._child.channel, [line], files)
        for file in files:
            os.close(file)
        self._child.jobs += 1
        self._child.last = document
        self._child.documents.add(document)
        self._deadline_s = time.monotonic() + self._longest_s

    def _stop(self, *, late: bool = False) -> None:
        if self._child is None:
            return
        shared = len(self._child.documents) > 1
        code, printed = self._child.end()
        self._end = {"code": code, "late": late, "shared": shared, "printed": printed}
        self._child, self._deadline_s = None, None
