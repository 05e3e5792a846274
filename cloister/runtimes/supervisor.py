"""One supervisord of our own, as an ordinary user: what it is told, and what it says."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any

import psutil
from supervisor.xmlrpc import Faults
from tenacity import (
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)

from cloister import takeover
from cloister.config import project_root
from cloister.endpoint import TcpAddress
from cloister.errors import DeploymentError
from cloister.files import write_atomically
from cloister.layout import Layout
from cloister.runtimes.program import Changes, Program, ProgramState, State
from cloister.runtimes.reservation import NAMESPACE, reserved
from cloister.runtimes.supervisord import GROUP_SUFFIX, described_stop_s, render
from cloister.runtimes.transport import StuckError, calls, unless

_START_S = 15.0
_ANSWER_S = 10.0  # it does nothing but to answer; a frozen one still accepts connections
_MARGIN_S = 30.0
_POLL_S = 0.05
_SUPERVISOR = "supervisord"
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
    """The supervisord of a state folder, which holds ports for its programs.

    A program of it stops within `longest_stop_s`, or within what the file says that it was told.
    """

    def __init__(
        self, layout: Layout, longest_stop_s: float, ports: tuple[TcpAddress, ...] = ()
    ) -> None:
        self._ports = tuple((one.host, one.port) for one in ports)
        self._folder = layout.run
        self._logs = layout.logs
        self._configuration = self._folder / "supervisord.conf"
        self._socket = self._folder / "supervisor.sock"
        # Read now: `changes` writes the new times, and what runs until then has the old ones.
        self._stop_s = max(longest_stop_s, described_stop_s(self._configuration)) + _MARGIN_S

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
        with reserved(self._ports):
            self.stop()
            self._launch()
            self.reserve()

    def _launch(self) -> None:
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
            takeover.record(self._folder / f"{_SUPERVISOR}{GROUP_SUFFIX}", supervisor.getPID())

    def reserve(self) -> None:
        """Hold the ports as they are to be now, so that no other user can take them.

        A supervisord that an earlier version started does not know of it until the next `down`.
        """
        with self._rpc(NAMESPACE) as ports, unless(Faults.UNKNOWN_METHOD):
            ports.keep(self._ports)

    def lost_ports(self, *, renew: bool = False) -> tuple[str, ...]:
        """Return the ports that it could not hold, with the reasons; `renew` tries again first."""
        lost: list[str] = []
        if self.alive():
            with self._rpc(NAMESPACE) as ports, unless(Faults.UNKNOWN_METHOD):
                lost = ports.renew() if renew else ports.lost()
        return tuple(lost)

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
        with self._stopping(only) as supervisor:
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
        with self._stopping(names) as supervisor:
            for name in sorted(names):
                with unless(*_NOT_THERE):
                    supervisor.stopProcessGroup(name)
                    supervisor.removeProcessGroup(name)

    def halt(self, name: str, *, at_once: bool) -> None:
        """Stop a program: after its pages, or `at_once` by killing its whole group."""
        pid = self._pid(name)
        if pid:
            _resume(pid)
        with self._stopping({name}) as supervisor, unless(*_NOT_THERE):
            # Told to stop before it is killed, so that it is not started again for having died.
            supervisor.stopProcess(name, not at_once)
        if at_once and pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        self._require_stopped(name)

    def run(self, name: str) -> None:
        """Start a program that was stopped."""
        with self._rpc() as supervisor:
            supervisor.startProcess(name, False)  # noqa: FBT003  # XML-RPC: do not wait

    def signal(self, name: str, number: str) -> None:
        """Send a signal, such as `HUP`, to one program."""
        with self._rpc() as supervisor:
            supervisor.signalProcess(name, number)

    def stop(self, first: tuple[str, ...] = ()) -> bool:
        """Stop `first`, then the rest at once; return False when nothing ran; raises as `end`."""
        ran = self.alive()
        if ran:
            # What holds the supervisor up is killed with it, and named where that does not end it.
            with contextlib.suppress(StuckError, psutil.TimeoutExpired):
                self._shut_down(first)
        left = self._left()
        takeover.end(left)
        return ran or bool(left)

    def _shut_down(self, first: tuple[str, ...]) -> None:
        states = self.states()
        for pid in filter(None, (state.pid for state in states)):
            _resume(pid)
        with self._rpc(answer_s=self._stop_s) as supervisor:
            pid = supervisor.getPID()
            there = {state.name for state in states}
            for name in [name for name in first if name in there]:
                with unless(*_NOT_THERE):
                    supervisor.stopProcess(name)
            supervisor.stopAllProcesses()
            supervisor.shutdown()
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait(timeout=self._stop_s)

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

    def orphans(self) -> tuple[ProgramState, ...]:
        """Return what runs though the supervisor does not answer: nobody would start it again."""
        if self.alive():
            return ()
        why = "the supervisor does not answer, so nobody would start this again; next: invoke up"
        return tuple(
            ProgramState(name, "failed", min(process.pid for process in processes), 0, why)
            for name, processes in sorted(self._left().items())
        )

    def tail(self, name: str, lines: int) -> str:
        """Return the last lines of a program's log."""
        path = self._logs / f"{name}.log"
        if not path.exists():
            return ""
        text = path.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _left(self) -> dict[str, list[psutil.Process]]:
        """Return the processes of each recorded program, and of the supervisor, that live."""
        found = {
            path.name.removesuffix(GROUP_SUFFIX): takeover.leftovers(path)
            for path in self._folder.glob(f"*{GROUP_SUFFIX}")
        }
        return {name: processes for name, processes in found.items() if processes}

    def _tell(self, programs: tuple[Program, ...]) -> None:
        text = render(programs, folder=self._folder, logs=self._logs, root=project_root())
        if self.alive():  # what runs may have been started with longer times
            text += f"; stopwaitsecs={described_stop_s(self._configuration)}\n"
        write_atomically(self._configuration, text, mode=0o600)

    def _pid(self, name: str) -> int | None:
        return next((state.pid for state in self.states() if state.name == name), None)

    def _require_stopped(self, name: str) -> None:
        """Wait until a program that was killed has no process; raises DeploymentError."""
        Retrying(
            retry=retry_if_result(bool),
            stop=stop_after_delay(takeover.KILLED_S),
            wait=wait_fixed(_POLL_S),
            retry_error_callback=lambda _: self._require_over({name}),
        )(lambda: self._pid(name))

    def _require_over(self, names: AbstractSet[str]) -> None:
        left = {name: those for name, those in self._left().items() if name in names}
        takeover.require_over(left, [process for those in left.values() for process in those])

    def _ping(self) -> None:
        log = self._logs / "supervisord.log"
        if not self.alive():
            raise ConnectionError(f"the supervisor does not answer; see `{log}`")

    def _rpc(
        self, namespace: str = "supervisor", answer_s: float | None = None
    ) -> contextlib.AbstractContextManager[Any]:
        return calls(self._socket, namespace, answer_s or _ANSWER_S)

    @contextlib.contextmanager
    def _stopping(self, names: AbstractSet[str]) -> Iterator[Any]:
        """Give the supervisor's methods; raises DeploymentError that names who does not end."""
        try:
            with self._rpc(answer_s=self._stop_s) as supervisor:
                yield supervisor
        except StuckError:
            if self.alive():  # or it is the supervisor that does not answer
                self._require_over(names)
            raise


def _resume(pid: int) -> None:
    """Let a program that is frozen go on, or it would not take note of any other signal."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGCONT)
