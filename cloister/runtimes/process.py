"""The process runtime: child processes of a supervisord of our own, as an ordinary user."""

import contextlib
import http.client
import os
import subprocess
import sys
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import requests
from supervisor.xmlrpc import Faults, SupervisorTransport
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from cloister import chat, modelstore, nginx, shell, takeover
from cloister.config import Settings, project_root
from cloister.engines import ENGINES
from cloister.errors import DeploymentError
from cloister.files import write_atomically
from cloister.gateway import Place
from cloister.layout import Layout
from cloister.runtimes.program import EXPORTER, GATEWAY, Program, ProgramState, Site, State
from cloister.runtimes.supervisord import GROUP_SUFFIX, render

_HOST = "127.0.0.1"
_START_S = 15.0
_STOP_S = 330.0  # pages in flight are finished first, see `gateway.timeout_s`
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


def site(settings: Settings) -> Site:
    """Return where the processes listen: one port after the other on 127.0.0.1; pure."""
    first = settings.engines.first_port
    replicas = tuple((_HOST, first + number) for number in range(settings.replicas))
    exporter, status = (_HOST, first - 1), (_HOST, first - 2)
    names = (f"replica {number}" for number in range(1, settings.replicas + 1))
    gateway = (str(settings.gateway.address), settings.gateway.port)
    return Site(
        replicas=replicas,
        exporter=exporter,
        status=status,
        status_allow=(),
        bind=_HOST,
        gateway=settings.gateway,
        published={
            GATEWAY: gateway,
            EXPORTER: exporter,
            "the gateway's state": status,
            **dict(zip(names, replicas, strict=True)),
        },
    )


class ProcessRuntime:
    """Keeps programs alive under the state folder's `run`, which holds the supervisor's files."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._layout = Layout(settings.state_dir)
        self._folder = self._layout.run
        self._logs = self._layout.logs
        self._root = project_root()
        self._configuration = self._folder / "supervisord.conf"
        self._socket = self._folder / "supervisor.sock"

    def check(self) -> None:
        """Raise what is missing: nginx, or what the engine needs."""
        engine = ENGINES[self._settings.engine]
        engine.check(self._settings)
        if engine.serves_model:
            modelstore.require(self._settings)
        nginx.find(self._settings.gateway.nginx)
        if not self.states():
            self.stop()  # what a killed supervisor left would hold the ports

    def check_gateway(self, files: Callable[[Place], Mapping[str, str]]) -> None:
        """Let the installed nginx read its configuration in a scratch folder."""
        nginx.check(nginx.find(self._settings.gateway.nginx), files)

    def place(self) -> Place:
        """Return where nginx keeps its files."""
        program = nginx.find(self._settings.gateway.nginx)
        return Place(
            self._layout.gateway,
            self._layout.logs,
            worker_user=nginx.worker_user(self._layout.state),
            version=nginx.version(program),
        )

    def model(self) -> Path | None:
        """Return the model's folder in the model store."""
        return modelstore.folder(self._settings)

    def apply(self, programs: tuple[Program, ...]) -> tuple[str, ...]:
        """Make exactly these programs run; return the names of those started or replaced."""
        programs = tuple(
            replace(program, program=self._nginx()) if program.role == GATEWAY else program
            for program in programs
        )
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
            for path in self._folder.glob(f"*{GROUP_SUFFIX}")
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

    def session(self) -> requests.Session:
        """Return a session; the replicas listen on this machine."""
        return chat.session()

    def tail(self, name: str, lines: int) -> str:
        """Return the last lines of a program's log."""
        path = self._logs / f"{name}.log"
        if not path.exists():
            return ""
        text = path.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def show_logs(self, name: str | None, *, lines: int, follow: bool) -> None:
        """Become `tail` over one program's log, or over all of them."""
        files = {path.stem: path for path in sorted(self._logs.glob("*.log"))}
        if name is not None and name not in files:
            raise DeploymentError(
                f"no log `{name}` in `{self._logs}`; there are {', '.join(files) or 'none'}"
            )
        if not files:
            raise DeploymentError(f"no logs in `{self._logs}`", hint="invoke up")
        chosen = (files[name],) if name else tuple(files.values())
        shell.tail(chosen, lines=lines, follow=follow)

    def _nginx(self) -> tuple[str, ...]:
        program = nginx.find(self._settings.gateway.nginx)
        return nginx.command(program, self._layout.nginx_configuration)

    def _start(self) -> None:
        self.stop()  # what a killed supervisor left
        nginx.forget_bodies(self._layout.gateway)
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
            takeover.record(self._folder / f"supervisord{GROUP_SUFFIX}", supervisor.getPID())

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


def _stop(supervisor: Any, name: str) -> None:
    try:
        supervisor.stopProcess(name)
    except xmlrpc.client.Fault as error:
        if error.faultCode != Faults.NOT_RUNNING:
            raise


def _wait_for_end(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).wait(timeout=_STOP_S)
