"""One supervisord of our own, as an ordinary user: what it is told, and what it says."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import xmlrpc.client
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport
from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)

from cloister import takeover
from cloister.config import project_root
from cloister.errors import DeploymentError
from cloister.files import write_atomically
from cloister.layout import Layout
from cloister.runtimes.program import Changes, Program, ProgramState, State
from cloister.runtimes.supervisord import GROUP_SUFFIX, render

_START_S = 15.0
_STOP_S = 330.0  # pages in flight are finished first, see `gateway.timeout_s`
_POLL_S = 0.05
# What programs get of the caller's environment: tokens and proxies are none of their business.
_INHERITED = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH"),
    *("DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "XDG_RUNTIME_DIR"),
)
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
_NOT_THERE = {Faults.NOT_RUNNING, Faults.BAD_NAME}


class Supervisor:
    """The supervisord of one state folder."""

    def __init__(self, layout: Layout) -> None:
        self._folder = layout.run
        self._logs = layout.logs
        self._configuration = self._folder / "supervisord.conf"
        self._socket = self._folder / "supervisor.sock"

    def alive(self) -> bool:
        """Tell whether it answers."""
        try:
            with self._rpc() as supervisor:
                supervisor.getPID()
        except DeploymentError:
            return False
        return True

    def start(self, programs: tuple[Program, ...]) -> None:
        """Start it, and with it these programs, after ending what a killed one left."""
        self._tell(programs)
        self.stop()
        self._socket.unlink(missing_ok=True)
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._configuration)]
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment["PYTHONPATH"] = str(project_root())
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=_START_S
        )
        if done.returncode != 0:
            raise DeploymentError(f"the supervisor did not start: {done.stderr.strip()[-500:]}")
        for attempt in Retrying(
            retry=retry_if_exception_type(ConnectionError),
            stop=stop_after_delay(_START_S),
            wait=wait_fixed(0.1),
            reraise=True,
        ):
            with attempt:
                self._ping()
        with self._rpc() as supervisor:
            takeover.record(self._folder / f"supervisord{GROUP_SUFFIX}", supervisor.getPID())

    def changes(self, programs: tuple[Program, ...]) -> Changes:
        """Return what `apply` would do; the programs that run go on as they are."""
        if not self.alive():
            return Changes(added=frozenset(program.name for program in programs))
        self._tell(programs)
        with self._rpc() as supervisor:
            added, changed, removed = supervisor.reloadConfig()[0]
        idle = {s.name for s in self.states() if s.state in {"failed", "stopped"}} - {*removed}
        return Changes(
            frozenset({*added} | idle - {*changed}), frozenset(changed), frozenset(removed)
        )

    def apply(self, programs: tuple[Program, ...], only: AbstractSet[str]) -> tuple[str, ...]:
        """Make `only` these programs run as they are described; return those (re)started."""
        found = self.changes(programs)
        there = {state.name for state in self.states()}
        with self._rpc() as supervisor:
            for name in sorted(found.changed & only):
                supervisor.stopProcessGroup(name)
                supervisor.removeProcessGroup(name)
            for name in sorted((found.changed | found.added - there) & only):
                supervisor.addProcessGroup(name)
            for name in sorted(found.added & there & only):
                supervisor.startProcess(name, False)  # noqa: FBT003  # XML-RPC: do not wait
        return tuple(sorted((found.changed | found.added) & only))

    def remove(self, names: AbstractSet[str]) -> None:
        """Stop programs, after the pages in flight, and forget them."""
        with self._rpc() as supervisor:
            for name in sorted(names):
                with _unless_gone():
                    supervisor.stopProcessGroup(name)
                    supervisor.removeProcessGroup(name)

    def halt(self, name: str, *, at_once: bool) -> None:
        """Stop a program: after its pages, or `at_once` by killing its whole group."""
        pid = self._pid(name)
        with self._rpc() as supervisor, _unless_gone():
            # Told to stop before it is killed, so that it is not started again for having died.
            supervisor.stopProcess(name, not at_once)
        if at_once and pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        self._until(lambda: self._pid(name) is None)

    def run(self, name: str) -> None:
        """Start a program that was stopped."""
        with self._rpc() as supervisor:
            supervisor.startProcess(name, False)  # noqa: FBT003  # XML-RPC: do not wait

    def signal(self, name: str, number: str) -> None:
        """Send a signal, such as `HUP`, to one program."""
        with self._rpc() as supervisor:
            supervisor.signalProcess(name, number)

    def stop(self, first: tuple[str, ...] = ()) -> bool:
        """Stop `first`, then everything else at once; return False when nothing ran."""
        ran = self.alive()
        if ran:
            with self._rpc() as supervisor:
                pid = supervisor.getPID()
                there = {program.name for program in self.states()}
                for name in [name for name in first if name in there]:
                    with _unless_gone():
                        supervisor.stopProcess(name)
                supervisor.stopAllProcesses()
                supervisor.shutdown()
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).wait(timeout=_STOP_S)
        orphans = [
            process
            for path in self._folder.glob(f"*{GROUP_SUFFIX}")
            for process in takeover.leftovers(path)
        ]
        takeover.end(orphans)
        return ran or bool(orphans)

    def states(self) -> tuple[ProgramState, ...]:
        """Return every program's state, or nothing when the supervisor is down."""
        if not self.alive():
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

    def tail(self, name: str, lines: int) -> str:
        """Return the last lines of a program's log."""
        path = self._logs / f"{name}.log"
        if not path.exists():
            return ""
        text = path.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _tell(self, programs: tuple[Program, ...]) -> None:
        text = render(programs, folder=self._folder, logs=self._logs, root=project_root())
        write_atomically(self._configuration, text)

    def _pid(self, name: str) -> int | None:
        return next((state.pid for state in self.states() if state.name == name), None)

    def _until(self, reached: Callable[[], bool]) -> None:
        Retrying(
            retry=retry_if_result(lambda done: not done),
            stop=stop_after_delay(_STOP_S),
            wait=wait_fixed(_POLL_S),
        )(reached)

    def _ping(self) -> None:
        if not self.alive():
            log = self._logs / "supervisord.log"
            raise ConnectionError(f"the supervisor does not answer; see `{log}`")

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


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    """Be content when the program does not run, or is not there any more."""
    try:
        yield
    except xmlrpc.client.Fault as error:
        if error.faultCode not in _NOT_THERE:
            raise
