"""Locust as a subprocess: told which load is next, and read while it writes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from cloister.config import API_KEY_VARIABLE, project_root
from cloister.errors import LoadTestError
from cloister.files import NewLines, write_atomically
from cloister.loadtest.documents import Question
from cloister.loadtest.record import Record
from cloister.loadtest.shapes import Load
from cloister.loadtest.target import Target

LEAD_S = 2.5  # from an order to its begin: Locust looks once a second, and tells its workers
_STOP_S, _LOOK_S = 4.0, 0.2
_LOG_LINES = 5


@dataclass(frozen=True)
class Crew:
    """Who sends: `processes` on this machine, or a master for `workers` that others start.

    `web` is the port of Locust's own page, where a person sets the number of clients.
    """

    processes: int = 1
    workers: int = 0
    web: int | None = None


@dataclass
class Client:
    """A running Locust; `alone` tells that it is one process."""

    folder: Path
    process: subprocess.Popen[bytes]
    alone: bool = False
    records: list[Record] = field(default_factory=list)
    _lines: NewLines = field(init=False)

    def __post_init__(self) -> None:
        self._lines = NewLines(self.folder / "records.jsonl")

    def wait_until_ready(self) -> None:
        """Wait until Locust asks for orders, which it does once all its workers are there.

        As long as that takes, for they may be started by hand.
        """
        while not (self.folder / "ready").exists():
            self.collect()
            time.sleep(_LOOK_S)

    def order(self, load: Load, number: int) -> float:
        """Let a load begin; return when, in seconds since 1970."""
        begin_s = time.time() + LEAD_S
        self._write(
            {
                "number": number,
                "users": load.users,
                "begin_s": begin_s,
                "offsets_s": None if load.closed else load.offsets_s,
                "direct": load.direct,
            }
        )
        return begin_s

    def collect(self) -> list[Record]:
        """Return all records so far; raises LoadTestError when Locust has ended."""
        self.records += [Record(**json.loads(line)) for line in self._lines.read()]
        if self.process.poll() is not None:
            raise LoadTestError(
                f"Locust ended with code {self.process.returncode}:\n{self._said()}"
            )
        return self.records

    def processes(self) -> list[psutil.Process]:
        """Return its processes on this machine."""
        with contextlib.suppress(psutil.Error):
            main = psutil.Process(self.process.pid)
            return [main, *main.children(recursive=True)]
        return []

    def over(self) -> None:
        """End it; what is still under way is forgotten."""
        self._write(None)
        for number in (signal.SIGTERM, signal.SIGKILL):  # its web page reads no orders
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_S)
            if self.process.poll() is None:
                os.killpg(self.process.pid, number)
        self.process.wait()

    def _write(self, order: object) -> None:
        write_atomically(self.folder / "order.json", json.dumps(order))

    def _said(self) -> str:
        lines = (self.folder / "locust.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(lines.splitlines()[-_LOG_LINES:])


@contextmanager
def started(
    folder: Path, target: Target, pages: Path, question: Question, crew: Crew, seed: int
) -> Iterator[Client]:
    """Start Locust in a folder of its own, without any load yet, and end it with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    run = _run(target, pages, question, seed)
    write_atomically(folder / "run.json", json.dumps(run, indent=2))
    idle = {"number": -1, "users": 1, "begin_s": 0, "offsets_s": [], "direct": False}
    write_atomically(folder / "order.json", json.dumps(idle))
    environment = {**os.environ, "CLOISTER_LOADTEST": str(folder.resolve())}
    environment["PYTHONPATH"] = str(project_root())
    environment.pop(API_KEY_VARIABLE, None)
    if target.enter.key:
        environment[API_KEY_VARIABLE] = target.enter.key
    if crew.web:
        environment["CLOISTER_LOADTEST_WEB"] = "1"
    log = folder / "locust.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            _command(target.enter.url, crew),
            cwd=project_root(),
            env=environment,
            stdout=file,
            stderr=file,
            start_new_session=True,  # Ctrl-C is ours: there is a report to be made
        )
    client = Client(folder, process, alone=crew.processes == 1 and not crew.workers)
    try:
        client.wait_until_ready()
        yield client
    finally:
        client.over()


def _run(target: Target, pages: Path, question: Question, seed: int) -> dict[str, object]:
    """Return what Locust has to know; the key is in its environment, where no list shows it."""
    return {
        "pages": str(pages.resolve()),
        "question": asdict(question)
        | {"lengths": question.lengths.model_dump() if question.lengths else None},
        "direct": target.direct,
        "authorities": str(target.certificate) if target.certificate else None,
        "any_name": target.enter.fingerprint is not None,
        "host": target.enter.host,
        "seed": seed,
        "run_id": int.from_bytes(os.urandom(2), "big"),
        "timeout_s": target.settings.gateway.timeout_s + 10,
        "leader": os.getpid(),
        "users": sorted(target.enter.guard.users) if target.enter.guard else None,
    }


def _command(url: str, crew: Crew) -> list[str]:
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--host", url]
    command += ["--stop-timeout", "0", "--exit-code-on-error", "0", "--loglevel", "WARNING"]
    if crew.web:
        command += ["--web-host", "127.0.0.1", "--web-port", str(crew.web)]
    else:
        command += ["--headless", "--only-summary"]
    if crew.workers:
        command += ["--master", "--expect-workers", str(crew.workers)]
    elif crew.processes > 1:
        command += ["--processes", str(crew.processes)]
    return command
