"""The process runtime: child processes of a supervisord of our own, as an ordinary user."""

import contextlib
import http.client
import os
import shlex
import subprocess
import sys
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from cloister import takeover
from cloister.errors import DeploymentError
from cloister.files import write_atomically
from cloister.runtimes.program import Program, ProgramState, State

_START_S = 15.0
_STOP_S = 330.0  # pages in flight are finished first, see `gateway.timeout_s`
_GROUP_SUFFIX = ".group"
# What programs get of the caller's environment: tokens and proxies are none of their business.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
_STATES: dict[str, State] = {
    "STARTING": "starting",
    "RUNNING": "running",
    "BACKOFF": "backoff",
    "STOPPING": "stopped",
    "STOPPED": "stopped",
    "EXITED": "backoff",
    "FATAL": "failed",
    "UNKNOWN": "failed",
}


class ProcessRuntime:
    """Keeps programs alive under `folder`, which holds the supervisor's socket and files."""

    def __init__(self, folder: Path, logs: Path, root: Path) -> None:
        self._folder = folder
        self._logs = logs
        self._root = root
        self._configuration = folder / "supervisord.conf"
        self._socket = folder / "supervisor.sock"

    def apply(self, programs: tuple[Program, ...]) -> tuple[str, ...]:
        """Make exactly these programs run; return the names of those started or replaced."""
        text = render(programs, folder=self._folder, logs=self._logs, root=self._root)
        write_atomically(self._configuration, text)
        if not self._alive():
            self._start()
            return tuple(program.name for program in programs)
        with self._rpc() as supervisor:
            added, changed, removed = supervisor.reloadConfig()[0]
            for name in [*removed, *changed]:
                supervisor.stopProcessGroup(name)
                supervisor.removeProcessGroup(name)
            for name in [*changed, *added]:
                supervisor.addProcessGroup(name)
            idle = [state.name for state in self.states() if state.state in {"failed", "stopped"}]
            for name in idle:
                supervisor.startProcess(name, False)  # noqa: FBT003  # XML-RPC: do not wait
        return (*changed, *added, *idle)

    def stop(self, first: tuple[str, ...] = ()) -> bool:
        """Stop `first`, then everything else at once; return False when nothing ran."""
        ran = self._alive()
        if ran:
            with self._rpc() as supervisor:
                pid = supervisor.getPID()
                # The gateway first: it lets go of its port and finishes the pages in flight.
                for name in [program.name for program in self.states() if program.name in first]:
                    _stop(supervisor, name)
                supervisor.stopAllProcesses()
                supervisor.shutdown()
            _wait_for_end(pid)
        orphans = [
            process
            for path in self._folder.glob(f"*{_GROUP_SUFFIX}")
            for process in takeover.leftovers(path)
        ]
        takeover.end(orphans)
        return ran or bool(orphans)

    def restart(self, names: tuple[str, ...]) -> None:
        """Stop and start these programs, one after the other."""
        with self._rpc() as supervisor:
            for name in names:
                _stop(supervisor, name)
                supervisor.startProcess(name, False)  # noqa: FBT003  # XML-RPC: do not wait

    def signal(self, name: str, signal: str) -> None:
        """Send a signal, such as `HUP`, to one program."""
        with self._rpc() as supervisor:
            supervisor.signalProcess(name, signal)

    def states(self) -> tuple[ProgramState, ...]:
        """Return every program's state, or nothing when the supervisor is down."""
        if not self._alive():
            return ()
        with self._rpc() as supervisor:
            infos: list[dict[str, Any]] = supervisor.getAllProcessInfo()
        return tuple(
            ProgramState(
                name=info["name"],
                state=_STATES[info["statename"]],
                pid=info["pid"] or None,
                since_s=max(0, info["now"] - info["start"]),
                detail=info["spawnerr"] or info["description"],
            )
            for info in infos
        )

    def _start(self) -> None:
        self.stop()  # what a killed supervisor left
        self._socket.unlink(missing_ok=True)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._configuration)]
        log = self._logs / "supervisord.log"
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment["PYTHONPATH"] = str(self._root)
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=_START_S
        )
        if done.returncode != 0:
            raise DeploymentError(f"the supervisor did not start: {done.stderr.strip()[-500:]}")
        for attempt in Retrying(
            retry=retry_if_exception_type(OSError),
            stop=stop_after_delay(_START_S),
            wait=wait_fixed(0.1),
            reraise=True,
        ):
            with attempt:
                self._ping(log)
        with self._rpc() as supervisor:
            takeover.record(self._folder / f"supervisord{_GROUP_SUFFIX}", supervisor.getPID())

    def _ping(self, log: Path) -> None:
        if not self._alive():
            raise ConnectionError(f"the supervisor does not answer; see `{log}`")

    def _alive(self) -> bool:
        try:
            with self._rpc() as supervisor:
                supervisor.getPID()
        except DeploymentError:
            return False
        return True

    @contextlib.contextmanager
    def _rpc(self) -> Iterator[Any]:
        transport = SupervisorTransport(serverurl=f"unix://{self._socket}")
        try:
            with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
                yield proxy.supervisor
        except (OSError, http.client.HTTPException) as error:
            raise DeploymentError(
                f"the supervisor does not answer on `{self._socket}`", hint="invoke up"
            ) from error
        except xmlrpc.client.Fault as error:
            if error.faultCode == Faults.BAD_NAME:
                raise DeploymentError(f"no such program: {error.faultString}") from error
            raise DeploymentError(f"the supervisor refused: {error.faultString}") from error


def render(programs: tuple[Program, ...], *, folder: Path, logs: Path, root: Path) -> str:
    """Return supervisord's configuration; pure."""
    sections = [
        "; Rendered by Cloister; edits here are lost at the next `invoke up`.",
        "[unix_http_server]",
        f"file={_value(folder / 'supervisor.sock')}",
        "chmod=0700",
        "",
        "[supervisord]",
        f"logfile={_value(logs / 'supervisord.log')}",
        f"pidfile={_value(folder / 'supervisord.pid')}",
        f"childlogdir={_value(logs)}",
        f"directory={_value(root)}",
        "umask=022",
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]
    for program in programs:
        sections += ["", *_program(program, folder, logs)]
    return "\n".join(sections) + "\n"


def _program(program: Program, folder: Path, logs: Path) -> list[str]:
    record = str(folder / f"{program.name}{_GROUP_SUFFIX}")
    takes_over = (sys.executable, "-m", "cloister.takeover", record)
    pairs = ",".join(f'{name}="{_value(value)}"' for name, value in program.environment.items())
    return [
        f"[program:{program.name}]",
        f"command={_value(shlex.join((*takes_over, *program.command)))}",
        *([f"environment={pairs}"] if pairs else []),
        "autorestart=true",
        # One that lives this long has bound its port: nginx tries for 2.5 s.
        "startsecs=4",
        "startretries=10",
        f"stopsignal={program.stop_signal}",
        f"stopwaitsecs={program.stop_wait_s}",
        "killasgroup=true",
        "redirect_stderr=true",
        f"stdout_logfile={_value(logs / program.name)}.log",
        "stdout_logfile_maxbytes=10MB",
        "stdout_logfile_backups=3",
    ]


def _value(value: object) -> str:
    """Escape a value: `%` begins an expansion; a comment cannot be escaped."""
    text = str(value)
    if " ;" in text or " #" in text or '"' in text or not text.isprintable():
        raise DeploymentError(
            f"`{text}` has characters that the supervisor's configuration cannot hold",
            hint="move it to a path of plain characters",
        )
    return text.replace("%", "%%")


def _stop(supervisor: Any, name: str) -> None:
    try:
        supervisor.stopProcess(name)
    except xmlrpc.client.Fault as error:
        if error.faultCode != Faults.NOT_RUNNING:
            raise


def _wait_for_end(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(timeout=_STOP_S)
