"""The watchdog's round: look at every replica, take the sick ones out, bring them back."""

import json
import logging
import stat
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from cloister import chat, sockets
from cloister.config import Settings
from cloister.deployment import reading, record
from cloister.deployment.converge import Convergence
from cloister.deployment.doorkeeper import Doorkeeper
from cloister.deployment.plan import Plan, of, patience
from cloister.deployment.record import Record, Standing
from cloister.endpoint import UnixSocket
from cloister.engines import ENGINES, Patience, Replica
from cloister.errors import DeploymentError
from cloister.files import write_atomically
from cloister.layout import Layout
from cloister.runtimes import RUNTIMES, SOCKET, Runtime
from cloister.statefolder import locked
from cloister.watchdog import causes
from cloister.watchdog.judgement import Chart
from cloister.watchdog.notes import Notes, Trouble, log_errors
from cloister.watchdog.shared import SharedPrograms, longest_silence_s
from cloister.watchdog.sight import look
from cloister.watchdog.ward import Ward

_THREADS = 192  # for each of at most 64 replicas: one look, one test page, one treatment
_LOG_LINES = 8
_SICK_S = 0.5  # between two looks while a replica is on its way back
_DOCKER_MEMORY_SHARE = 0.9
_log = logging.getLogger(__name__)


class Watch:
    """Watches the deployment of one state folder.

    `begin_step` is called before each part of a round whose waits are bounded by themselves.
    """

    def __init__(self, state: Settings, begin_step: Callable[[], None] = lambda: None) -> None:
        self._state, self._begin_step = state, begin_step
        self._layout = Layout(state.state_dir)
        self._trouble = Trouble()
        self._journal = Notes(self._layout, "watchdog", self._trouble)
        self._door = Doorkeeper(state, self._journal)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="watch")
        self._wards = self._remembered()
        self._shared = SharedPrograms(self._layout, self._journal, self._threads)

    def round(self) -> float:
        """Look at everything once and act; return the seconds until the next round."""
        now = record.read(self._state)
        if now is None:
            return 1.0
        planned = of(now)
        running = RUNTIMES[now.settings.runtime].make(now.settings)
        states = {state.name: state for state in running.states()}
        if not states:  # whoever keeps them alive does not answer, so nothing is known of them
            self._publish()
            return float(now.settings.healing.interval_s)
        ours = {n for n in now.standings if now.serves(n) or now.standings[n] == "sick"}
        self._begin_step()
        # Before the replicas, whose treatments may wait for a gateway that hangs.
        with log_errors("the gateway and the exporter"):
            self._shared.care(planned, running, states, longest_silence_s(now.settings))
        seen = look(planned, running, states, ours, self._threads)
        self._wards = {name: self._wards.get(name) or Ward(name) for name in planned.names}
        for replica in planned.replicas:
            ward, state = self._wards[replica.name], states.get(replica.name)
            if ward.taken != (taken := now.taken.get(replica.name, 0)):
                ward.look_away()  # a command may have replaced it since the last look
                ward.taken = taken
            ill = _Case(now, planned, running, replica, ward, state.state if state else None)
            if replica.name in ours:
                ward.see(seen[replica.name], ill.patience, ill.ready_s)
            else:
                ward.look_away()
            self._begin_step()
            with log_errors(replica.name):
                self._care(ill)
        self._publish()
        if any(standing == "sick" for standing in now.standings.values()):
            return _SICK_S
        return float(now.settings.healing.interval_s)

    def _care(self, ill: "_Case") -> None:
        ward, standing = ill.ward, ill.now.standings.get(ill.replica.name)
        if ward.treatment is not None:
            if ward.treatment.done():
                done, ward.treatment = ward.treatment, None
                ward.look_away()
                done.result()
        elif standing in {"serving", "cold"}:
            ward.ask(ill.page, ill.now.settings.healing.canary_s, self._threads)
            self._examine(ill)
        elif standing == "sick":
            why = ward.complaint(ill.patience)
            if ward.died or (why is not None and ward.verdict != "gone" and not ward.stuck):
                self._count(ill, why or "its process ended")
            self._heal(ill)
        else:
            self._adopt(ill)

    def _examine(self, ill: "_Case") -> None:
        """Take a replica out as soon as it is known to be sick; restart one that is bloated."""
        ward = ill.ward
        why = ward.complaint(ill.patience) or ill.strays
        if why is None and not ward.unrecorded:
            ward.failures, ward.sick_since_s = ward.failures.well(time.monotonic()), None
            self._weigh(ill)
            return
        said = why or "it was sick when the record could not be written"
        try:
            moved = self._door.move((ward.name,), "sick", only_from={"serving", "cold"}, why=said)
        except DeploymentError as error:
            self._trouble.met(error)
            if why is not None and ward.failures.over(time.monotonic()):
                self._make_room(ill, why)
            return
        if moved:
            if not ward.unrecorded:
                self._count(ill, said)
            self._heal(ill)

    def _make_room(self, ill: "_Case", why: str) -> None:
        """Restart a replica that is not yet recorded as sick: its folder may fill the disk."""
        self._count(ill, why)
        ill.ward.unrecorded = True
        ill.ward.treatment = self._threads.submit(self._restart, ill.running, ill.replica)

    def _count(self, ill: "_Case", why: str) -> None:
        """Count a failure, and say what the log points to."""
        ward, died = ill.ward, ill.ward.died or ill.ward.verdict == "gone"
        ward.fail(stuck=not died)
        log = ill.running.tail(ward.name, _LOG_LINES) if died else ""
        self._journal.note(
            "crash-looping" if ward.failures.loops else "failed",
            ward.name,
            why,
            failures=ward.failures.count,
            wait_s=ward.failures.wait_s,
            **({"likely": causes.likely(log), "log": log.splitlines()} if died else {}),
        )

    def _heal(self, ill: "_Case") -> None:
        """Bring a sick replica back: to a process that lives, then to a page, then to the gateway.

        One that fails again and again is held back for longer and longer, so that neither the
        runtime nor the machine is kept busy with it.
        """
        ward, running = ill.ward, ill.running
        ward.unrecorded = False
        held = ill.state in {"stopped", "failed"} and ward.verdict == "gone"
        if not ward.failures.over(time.monotonic()):
            if not held:
                self._journal.note("held back", ward.name, wait_s=ward.failures.wait_s)
                ward.treatment = self._threads.submit(running.halt, ward.name, at_once=True)
        elif held or ill.state is None:
            self._journal.note("starting", ward.name)
            ward.treatment = self._threads.submit(running.start, ward.name)
        elif ward.stuck:
            ward.restarts += 1
            ward.treatment = self._threads.submit(self._restart, running, ill.replica)
        elif ward.proven:
            self._door.move((ward.name,), "serving", only_from={"sick"}, why="it reads again")
            out_s = time.monotonic() - (ward.sick_since_s or time.monotonic())
            self._journal.note("recovered", ward.name, out_s=round(out_s, 2))
            ward.sick_since_s = None
        else:
            ward.ask(ill.page, 0, self._threads)

    def _restart(self, running: Runtime, replica: Replica) -> None:
        self._journal.note("restarting", replica.name)
        running.halt(replica.name, at_once=True)
        running.start(replica.name)

    def _weigh(self, ill: "_Case") -> None:
        """Restart a replica that has grown too large, when another can take over meanwhile."""
        now, ward = ill.now, ill.ward
        limit, taken = _memory_limit_mib(now.settings), ward.seen and ward.seen.memory_mib
        others = [name for name in now.standings if name != ward.name and now.serves(name)]
        if limit and taken and taken > limit and others:
            ward.treatment = self._threads.submit(self._recycle, ward, taken, limit)

    def _recycle(self, ward: Ward, taken_mib: int, limit_mib: int) -> None:
        """Restart a replica after its pages, unless a command is changing the deployment."""
        try:
            with locked(self._layout.lock, wait_s=0):
                self._journal.note(
                    "recycling",
                    ward.name,
                    f"it takes {taken_mib} MiB, over the limit of {limit_mib}",
                )
                now = record.required(self._state)
                Convergence(now, now, self._door, self._journal, _log.info).restart(ward.name)
                ward.restarts += 1
        except DeploymentError as error:
            _log.warning("%s is not recycled: %s", ward.name, error)

    def _adopt(self, ill: "_Case") -> None:
        """Take on a replica that a command left half done: one that was killed, or that failed."""
        left: AbstractSet[Standing] = {"unproven", "cold", "draining"}
        try:
            with locked(self._layout.lock, wait_s=0):
                now = record.required(self._state)
                if now.standings.get(ill.ward.name) in left:
                    why = f"`invoke {now.under_way or 'up'}` did not end"
                    self._door.move((ill.ward.name,), "sick", only_from=left, why=why)
        except DeploymentError:
            return  # the command that has it is at work

    def _publish(self) -> None:
        """Tell `invoke status` what was seen."""
        told = {name: asdict(ward.vitals()) for name, ward in self._wards.items()}
        runs = {name: ward.chart.run for name, ward in self._wards.items() if ward.chart}
        taken = {name: ward.taken for name, ward in self._wards.items()}
        looping = self._shared.looping
        text = json.dumps(
            {"at": time.time(), "replicas": told, "runs": runs, "taken": taken, "looping": looping}
        )
        try:
            write_atomically(self._layout.watch, text, mode=0o600)
        except DeploymentError as error:
            self._trouble.met(error)
        else:
            self._trouble.over()

    def _remembered(self) -> dict[str, Ward]:
        """Return what an earlier watchdog knew: who died since it did has to read a page first."""
        path = self._layout.watch
        told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        taken = told.get("taken", {})
        return {
            name: Ward(name, Chart(run, time.monotonic()), taken.get(name, 0))
            for name, run in told.get("runs", {}).items()
        }


@dataclass(frozen=True)
class _Case:
    """One replica in one round: the deployment, its runtime, and what is known of it."""

    now: Record
    planned: Plan
    running: Runtime
    replica: Replica
    ward: Ward
    state: str | None

    @property
    def strays(self) -> str | None:
        """What it left where only its socket belongs: it may be text of pages."""
        folder = _folder(self.replica)
        if folder is None or not folder.is_dir():
            return None
        try:
            strays = sockets.find_strays(folder, name=SOCKET, is_kind=stat.S_ISSOCK)
        except OSError as error:
            return f"its socket folder cannot be read: {error.strerror}"
        return f"its socket folder contains more than the socket: {strays}" if strays else None

    @property
    def patience(self) -> Patience:
        """How long it may seem not to be well."""
        return patience(self.now.settings)

    @property
    def ready_s(self) -> float:
        """How long it may take to answer for the first time: one that gets pages is ready."""
        if self.now.standings[self.replica.name] != "sick":
            return self.patience.silence_s
        return ENGINES[self.planned.engine].ready_s

    def page(self) -> chat.Reading:
        """Let it read a test page."""
        with self.running.session() as session:
            return reading.read_page(self.planned, session, self.replica.url)


def _memory_limit_mib(settings: Settings) -> int | None:
    if settings.healing.memory_mib is not None or settings.runtime != "docker":
        return settings.healing.memory_mib
    return int(settings.docker.engine_memory_mib * _DOCKER_MEMORY_SHARE)


def _folder(replica: Replica) -> Path | None:
    """Return the folder of a replica's socket on this machine, None where it has none here."""
    here = replica.listener.here
    return here.path.parent if isinstance(here, UnixSocket) else None
