"""Runs `invoke` commands in forks of one process that has imported all that they use.

An interpreter that starts and imports `cloister` costs 0.7 s of a processor, a fork 0.03 s, and
the suites run a thousand commands. The command itself is the same code in a process of its own,
with its own descriptors, variables and folder; that it also starts from nothing is tested where
tests start it with `subprocess`.
"""

import atexit
import gc
import importlib
import io
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, cast

if __name__ != "__main__":
    from suites.events import append

_LONGEST_REQUEST = 1 << 20


@dataclass
class CommandServer:
    """The server's process, which starts with the first command and ends with this one."""

    _socket: Path | None = None
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def run(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout_s: float
    ) -> "subprocess.CompletedProcess[str]":
        """Do as `subprocess.run` does with `python -m invoke ARGUMENTS`, output captured.

        Like it, this waits until nobody holds the command's output open any more, and kills the
        command on any exception. Raises `subprocess.TimeoutExpired` after `timeout_s` seconds.
        """
        if self._process is None or self._process.poll() is not None:
            self._start()
        append(event="starts", what="command", count=1)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(str(self._socket))
            umask = os.umask(0)
            os.umask(umask)
            request = {
                "arguments": list(arguments),
                "cwd": str(cwd),
                "env": dict(env),
                "umask": umask,
            }
            with _Captured() as captured:
                socket.send_fds(connection, [json.dumps(request).encode()], captured.descriptors)
                captured.close_descriptors()
                pid, begun = int(_received(connection)), time.monotonic()
                try:
                    stdout, stderr = captured.read(timeout_s)
                    # Who closed its output may go on.
                    connection.settimeout(max(0.1, begun + timeout_s - time.monotonic()))
                    code = int(_received(connection))
                except BaseException as error:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                    if isinstance(error, TimeoutError):
                        raise subprocess.TimeoutExpired(list(arguments), timeout_s) from error
                    raise
        return subprocess.CompletedProcess(list(arguments), code, stdout, stderr)

    def _end(self, writing: int) -> None:
        os.close(writing)
        if self._process is not None:
            self._process.wait(60)

    def _start(self) -> None:
        # Not in TMPDIR: a socket's path has room for 107 bytes.
        folder = Path(tempfile.mkdtemp(prefix="cloister-commands-", dir="/tmp"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self._socket = folder / "socket"
        reading, writing = os.pipe()
        command = [sys.executable, __file__, str(self._socket), str(reading)]
        root = Path(__file__).parents[1]
        # The pipe's other end, which nobody else has, tells the server that this process ended.
        self._process = subprocess.Popen(
            command, cwd=root, stdout=subprocess.PIPE, pass_fds=[reading]
        )
        os.close(reading)
        atexit.register(self._end, writing)
        assert self._process.stdout is not None
        with self._process.stdout as output:
            assert output.readline() == b"ready\n", "the server of commands did not start"


class _Captured:
    """A standard input that is empty, and pipes for what a command writes."""

    def __enter__(self) -> Self:
        ends = [os.pipe(), os.pipe()]
        null = os.open(os.devnull, os.O_RDONLY)
        self.descriptors = [null, *(writing for _, writing in ends)]
        self._files = [os.fdopen(reading, "rb", buffering=0) for reading, _ in ends]
        return self

    def close_descriptors(self) -> None:
        """Close what the command has now: its output ends when nobody else has it open."""
        while self.descriptors:
            os.close(self.descriptors.pop())

    def read(self, timeout_s: float) -> tuple[str, str]:
        """Return both outputs; raises TimeoutError unless they end in time."""
        deadline, content = time.monotonic() + timeout_s, dict.fromkeys(self._files, b"")
        with selectors.DefaultSelector() as selector:
            for file in self._files:
                selector.register(file, selectors.EVENT_READ)
            while selector.get_map():
                ready = selector.select(deadline - time.monotonic())
                if not ready and time.monotonic() >= deadline:
                    raise TimeoutError
                for key, _ in ready:
                    piece = os.read(key.fd, 1 << 16)
                    content[cast("io.FileIO", key.fileobj)] += piece
                    if not piece:
                        selector.unregister(key.fileobj)
        out, err = (content[file].decode().replace("\r\n", "\n") for file in self._files)
        return out, err

    def __exit__(self, *_: object) -> None:
        self.close_descriptors()
        for file in self._files:
            file.close()


def _received(connection: socket.socket) -> bytes:
    answer = connection.recv(100)
    if not answer:
        raise RuntimeError("the server of commands ended in the middle of one")
    return answer


def _import_all() -> None:
    """Import what commands use: all of `cloister`."""
    root = Path(__file__).parents[1]
    sys.path[0] = str(root)  # it was tests/, of which a command knows nothing
    for package in ("tasks", "cloister"):
        for file in sorted((root / package).rglob("*.py")):
            name = ".".join(file.relative_to(root).with_suffix("").parts)
            if name.endswith(("__main__", ".worker")):
                continue  # importing these starts something
            importlib.import_module(name.removesuffix(".__init__"))


@dataclass
class _Fork:
    """What a fork needs to become its command."""

    request: dict[str, Any]
    descriptors: list[int]
    unneeded: list[int]

    def take_streams(self) -> None:
        """Close what belongs to the server, and make the asker's files 0, 1 and 2."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for descriptor in self.unneeded:
            os.close(descriptor)
        for number, descriptor in enumerate(self.descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)


class _Server:
    """Forks for each connection, and reports to it the fork's id and, later, its exit code."""

    def __init__(self, path: str, owner: int) -> None:
        self._path, self._owner = path, owner
        self._running: dict[int, socket.socket] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._wake, self._waker = os.pipe()
        for descriptor in (self._wake, self._waker):
            os.set_blocking(descriptor, False)

    def serve(self) -> _Fork:
        """Answer until the owner ends; return only in a fork, with what it is to run."""
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the tests, which end this
        self._listener.bind(self._path)
        self._listener.listen(64)
        selector = selectors.DefaultSelector()
        for source in (self._listener.fileno(), self._wake, self._owner):
            selector.register(source, selectors.EVENT_READ)
        os.write(1, b"ready\n")
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if self._owner in ready:
                Path(self._path).unlink(missing_ok=True)
                os._exit(0)
            if self._wake in ready:
                self._report_ended()
            if self._listener.fileno() in ready:
                fork = self._accept()
                if fork:
                    selector.close()
                    return fork

    def _accept(self) -> _Fork | None:
        connection, _ = self._listener.accept()
        message, descriptors, _, _ = socket.recv_fds(connection, _LONGEST_REQUEST, 3)
        pid = os.fork()
        if pid == 0:
            sockets = (self._listener, connection, *self._running.values())
            unneeded = [self._wake, self._waker, self._owner, *(s.detach() for s in sockets)]
            return _Fork(json.loads(message), descriptors, unneeded)
        for descriptor in descriptors:
            os.close(descriptor)
        with suppress(OSError):  # the asker is gone
            connection.send(str(pid).encode())
        self._running[pid] = connection
        return None

    def _report_ended(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wake, 4096)
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with self._running.pop(pid) as connection, suppress(OSError):  # the asker is gone
                connection.send(str(os.waitstatus_to_exitcode(status)).encode())


def _run(request: dict[str, Any]) -> None:
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    sys.argv = ["invoke", *request["arguments"]]
    # As for `python -m`. What the tests import is not there for a command.
    sys.path[0] = request["cwd"]
    # The streams of an interpreter that just started: they belong to the new descriptors.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
    from invoke.main import program  # noqa: PLC0415

    program.run()


def main() -> None:
    """Import, serve, and in a fork: run the command to the interpreter's own end."""
    _import_all()
    gc.collect()
    gc.freeze()  # forks share these pages as long as no collection writes to them
    fork = _Server(sys.argv[1], int(sys.argv[2])).serve()
    fork.take_streams()
    _run(fork.request)


if __name__ == "__main__":
    main()
else:
    run: Callable[..., "subprocess.CompletedProcess[str]"] = CommandServer().run
