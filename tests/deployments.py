"""Deployments under test, driven by the real commands."""

import fcntl
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import command_server
import psutil
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from suites.events import append

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "samples"
# How many workers pytest-xdist has.
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_ABORT_S = 5.0

# What the suites' summary calls a kind of program.
_KINDS = {"vllm-nginx-gateway": "nginx", "vllm-nanonets-ocr": "vllm"}


@dataclass
class Stack:
    """One deployment with its own state folder and ports."""

    state: Path
    port: int
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("CLOISTER_")}
        own = {
            "CLOISTER_CONFIG": str(self.state / "cloister.yaml"),
            "CLOISTER_STATE_DIR": str(self.state),
            "CLOISTER_GATEWAY_PORT": str(self.port),
        }
        return {**inherited, **own, **self.settings}

    def invoke(
        self, *arguments: str, code: int = 0, timeout_s: float = 400
    ) -> subprocess.CompletedProcess[str]:
        """Run a task as a user would; fail unless it ends with `code`."""
        done = command_server.run(arguments, cwd=ROOT, env=self.environment, timeout_s=timeout_s)
        assert done.returncode == code, (
            f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.invoke(*arguments, "--json", code=code).stdout)

    def pids(self) -> dict[str, int]:
        return {program["name"]: program["pid"] for program in self.json("status")["programs"]}

    def assert_reading(self, pages: int) -> None:
        """Require that the first Tesseract has so many pages under way, as `status` says."""
        programs = {program["name"]: program for program in self.json("status")["programs"]}
        assert programs["tesseract-1"]["running"] == pages

    def count_starts(self) -> None:
        """Record how often each kind of program was started, by the supervisor's own log."""
        log = self.state / "logs" / "supervisord.log"
        names = re.findall(r"spawned: '(\S+)'", log.read_text()) if log.exists() else []
        for kind, count in Counter(name.rstrip("-0123456789") for name in names).items():
            append(event="starts", what=_KINDS.get(kind, kind), count=count)

    def log(self, name: str) -> str:
        return (self.state / "logs" / f"{name}.log").read_text()

    def processes(self) -> list[psutil.Process]:
        """Return all that has a file of this stack open or names one: the supervisor and below."""
        folder = f"{self.state}/"
        found = []
        for process in psutil.process_iter():
            try:
                files = [file.path for file in process.open_files()] + process.cmdline()
            except psutil.Error:  # gone meanwhile
                continue
            if process.pid != os.getpid() and any(folder in file for file in files):
                found.append(process)
        return found

    def kill_all(self) -> None:
        """Kill everything at once, as the end of the machine's power does."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # it ended with the one that it served
                process.kill()


def command_line(process: psutil.Process) -> str:
    """Return what a process was started with; nothing where it ended after it was listed."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def is_over(process: psutil.Process) -> bool:
    """Tell whether a process ended; whoever is its parent by then may not have taken note yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def deployed(**settings: object) -> Iterator[Stack]:
    """Give a deployment that is not up yet, and take it down at the end; `settings` by variable."""
    # Not pytest's own folder: a Unix socket's path has room for 107 bytes.
    with tempfile.TemporaryDirectory(prefix="cloister-") as folder:
        state = Path(folder)
        state.chmod(0o755)
        (state / "cloister.yaml").touch()
        text = {f"CLOISTER_{key.upper()}": str(value) for key, value in settings.items()}
        stack = Stack(state, free_ports(20), text)
        try:
            yield stack
        finally:
            stack.invoke("down")
            stack.count_starts()


@contextmanager
def program(command: list[str], **more: Any) -> Iterator[Any]:
    """Run a program; where the test fails meanwhile it is killed, or it would be waited for.

    Of a Python program that did not end in time, this prints first where each thread was.
    """
    more["env"] = {**more.get("env", os.environ), "PYTHONFAULTHANDLER": "1"}
    with subprocess.Popen(command, cwd=ROOT, **more) as process:
        try:
            yield process
        except BaseException as error:
            if isinstance(error, subprocess.TimeoutExpired):
                _print_traceback(process)
            process.kill()
            raise


def _print_traceback(process: "subprocess.Popen[Any]") -> None:
    process.send_signal(signal.SIGABRT)  # on which Python's fault handler writes to stderr
    try:
        output = process.communicate(timeout=_ABORT_S)
    except subprocess.TimeoutExpired as error:  # it is stopped, or its children hold its output
        output = (error.stdout, error.stderr)
    for text in filter(None, output):
        sys.stderr.write(text.decode(errors="replace") if isinstance(text, bytes) else text)


@contextmanager
def grouped(command: list[str], **more: Any) -> Iterator[Any]:
    """Run a program that starts others; where the test fails meanwhile all of them are killed."""
    with subprocess.Popen(command, **{"cwd": ROOT, **more}, start_new_session=True) as process:
        try:
            yield process
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise


def eventually(check: Callable[[], Any], *, within_s: float = 60) -> Any:
    """Return what `check` returns once it raises neither an AssertionError nor an OSError.

    The latter are connections that fail, those of `requests` among them, and files not there yet.
    """
    for attempt in Retrying(
        retry=retry_if_exception_type((AssertionError, OSError)),
        stop=stop_after_delay(within_s),
        wait=wait_fixed(0.1),
        reraise=True,
    ):
        with attempt:
            return check()
    raise AssertionError


class Claims:
    """Numbers of a kind that this process has and no other run of the tests.

    Nothing holds a port or a subnet until it is used, nor while its program is being replaced. So
    a number is claimed by a lock on a file, which ends with the process.
    """

    # The same for all, whatever TMPDIR is: ports and subnets are the machine's.
    _FOLDER = Path("/tmp/cloister-test-claims")  # noqa: S108

    def __init__(self, kind: str, numbers: range) -> None:
        self._kind, self._numbers = kind, numbers
        self._locks: list[int] = []

    def take(self) -> int | None:
        """Return a number that nobody had, this process included; None when there is none."""
        with suppress(FileExistsError):
            self._FOLDER.mkdir()
            self._FOLDER.chmod(0o1777)  # for the tests of other users
        for number in self._numbers:
            path = self._FOLDER / f"{self._kind}-{number}"
            # To lock a file it is enough to read it, which another user may.
            if not path.exists():
                path.touch()
                path.chmod(0o644)  # whatever the umask
            file = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                continue
            self._locks.append(file)
            return number
        return None


class _Ports:
    """Ports that no other run of the tests is given.

    A process that has its share of ranges begins again with its first, whose programs have ended
    by then.
    """

    _STEP = 50
    _SHARE = 16  # enough for a dozen processes at once

    def __init__(self) -> None:
        self._claims = Claims("port", range(20_000, 30_000, self._STEP))
        self._ranges: list[range] = []
        self._turns = itertools.count()
        self._rest = range(0)

    def take(self, count: int) -> int:
        """Return the first of `count` ports in a row on which nobody listens."""
        for _ in range(2 * self._SHARE * self._STEP):
            if len(self._rest) < count:
                self._rest = self._next_range()
            first, self._rest = self._rest[0], self._rest[count:]
            with ExitStack() as sockets, suppress(OSError):
                for port in range(first, first + count):
                    sockets.enter_context(socket.socket()).bind(("127.0.0.1", port))
                return first
        raise AssertionError("no free ports")

    def _next_range(self) -> range:
        first = self._claims.take() if len(self._ranges) < self._SHARE else None
        if first is not None:
            self._ranges.append(range(first, first + self._STEP))
            return self._ranges[-1]
        assert self._ranges, "other runs of the tests hold all ranges of ports"
        return self._ranges[next(self._turns) % len(self._ranges)]


_ports = _Ports()


def free_ports(count: int) -> int:
    """Return the first of `count` ports in a row that nobody listens on, and no other test has."""
    return _ports.take(count)
