"""Deployments under test, driven by the real commands."""

import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "samples"
# Where the ranges of ports begin. The workers of pytest-xdist share them out: nothing holds a port
# until it is used, nor while its program is being replaced.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_RANGES = range(20_000, 30_000, 50)[_WORKER::_WORKERS]
_numbers = itertools.count(os.getpid() * 37)


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
    def first_port(self) -> int:
        """That of the first replica; the two below it are of the exporter and nginx' state."""
        return self.port + 3

    @property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("CLOISTER_")}
        own = {
            "CLOISTER_CONFIG": str(self.state / "cloister.yaml"),
            "CLOISTER_STATE_DIR": str(self.state),
            "CLOISTER_GATEWAY_PORT": str(self.port),
            "CLOISTER_ENGINES_FIRST_PORT": str(self.first_port),
        }
        return {**inherited, **own, **self.settings}

    def invoke(
        self, *arguments: str, code: int = 0, timeout_s: float = 400
    ) -> subprocess.CompletedProcess[str]:
        """Run a task as a user would; fail unless it ends with `code`."""
        done = subprocess.run(
            [sys.executable, "-m", "invoke", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
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


@contextmanager
def program(command: list[str], **more: Any) -> Iterator[Any]:
    """Run a program; where the test fails meanwhile it is killed, or it would be waited for."""
    with subprocess.Popen(command, cwd=ROOT, **more) as process:
        try:
            yield process
        except BaseException:
            process.kill()
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


def free_ports(count: int) -> int:
    """Return the first of `count` ports in a row that nobody listens on, and nobody was given yet.

    Other runs of the tests begin elsewhere.
    """
    for _ in _RANGES:
        first = _RANGES[next(_numbers) % len(_RANGES)]
        with ExitStack() as sockets:
            try:
                for port in range(first, first + count):
                    sockets.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
        return first
    raise AssertionError("no free ports")
