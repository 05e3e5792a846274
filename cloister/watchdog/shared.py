"""The gateway and the exporter under watch: started where they ended, restarted where they hang."""

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from cloister.config import Settings
from cloister.deployment import defects, record
from cloister.deployment.plan import Plan
from cloister.events import Journal
from cloister.files import BusyError, is_locked
from cloister.layout import Layout
from cloister.runtimes import EXPORTER, GATEWAY, ProgramState, Runtime
from cloister.statefolder import locked
from cloister.watchdog.backoff import Failures
from cloister.watchdog.notes import log_errors

# A restart of the gateway cuts all pages, so it has more time than a replica.
_SILENCE_S = 30.0
_LOOKS = 2  # one alone may fall into the wrong moment


def longest_silence_s(settings: Settings) -> float:
    """Return how long the gateway or the exporter may not answer, in seconds; pure.

    Longer than one look takes, which waits `defects.ASK_S` for an answer.
    """
    return max(settings.healing.silence_s or _SILENCE_S, _LOOKS * defects.ASK_S)


# Longer than `status` takes to see whether the lock is held.
_LOCK_S = 0.5


@dataclass
class SharedProgram:
    """A program that is there once; times are of the monotonic clock, in seconds.

    `taken` is how often commands had started it when it was last looked at, `pid` its process then,
    `well_s` when it was last seen to be well, and `probe` the question whether it is, which may
    take as long as the program is silent.
    """

    name: str
    taken: int = 0
    pid: int | None = None
    well_s: float = field(default_factory=time.monotonic)
    failures: Failures = field(default_factory=Failures)
    probe: Future[ProgramState] | None = None
    repair: Future[None] | None = None

    def observe(self, state: ProgramState) -> None:
        """Take in its process; another one than before counts as a failure of that one."""
        now = time.monotonic()
        if state.pid is not None and self.pid not in {state.pid, None}:
            self.failures = self.failures.failed(now)
            self.restart_clock(now)
        self.pid = state.pid or self.pid

    def reset(self) -> None:
        """Forget its process, which a command ends, or has ended, on purpose."""
        self.pid = None
        self.restart_clock(time.monotonic())

    def restart_clock(self, now_s: float) -> None:
        """Give its process as much time as a new one."""
        self.well_s, self.probe = now_s, None

    def unhealthy_reason(self) -> str | None:
        """Return why it is not well, by the last look that ended; None where none of them tells."""
        if self.probe is None or not self.probe.done():
            return None
        done, self.probe = self.probe, None
        observed = done.result()
        if observed.state == "failed":
            return observed.detail
        self.well_s = time.monotonic()
        # Full of clients it is not silent, and that it is well is not known.
        forgive = self.failures.unsure if observed.detail == defects.FULL else self.failures.well
        self.failures = forgive(self.well_s)
        return None

    def is_due(self, silence_s: float) -> bool:
        """Return whether one that is not well has had its time, and may be restarted again."""
        now = time.monotonic()
        has_had_its_time = self.pid is None or now - self.well_s >= silence_s
        return has_had_its_time and self.failures.over(now)

    def finish_repair(self) -> None:
        """Watch it again where its repair has ended; raises as that did."""
        if self.repair is not None and self.repair.done():
            done, self.repair = self.repair, None
            self.restart_clock(time.monotonic())
            done.result()


class SharedPrograms:
    """Watches them, once a round of the watchdog, and leaves them alone while a command works."""

    def __init__(self, layout: Layout, journal: Journal, threads: ThreadPoolExecutor) -> None:
        self._layout, self._journal, self._threads = layout, journal, threads
        self._programs = {name: SharedProgram(name) for name in (GATEWAY, EXPORTER)}
        self._lost: tuple[str, ...] = ()

    @property
    def looping(self) -> list[str]:
        """Those whose process ends again and again."""
        return [name for name, program in self._programs.items() if program.failures.loops]

    def care(
        self,
        planned: Plan,
        running: Runtime,
        states: Mapping[str, ProgramState],
        silence_s: float,
    ) -> None:
        """Look at each, and treat those that are not well; see that the gateway's port is held."""
        with log_errors(GATEWAY):
            self._hold_ports(running)
        # In this order: a command counts what it started before it lets go of its lock, so what
        # it started before the `states` were asked for is seen by one or the other.
        is_in_hand = is_locked(self._layout.lock)
        recorded = record.read(planned.settings)
        taken = recorded.taken if recorded else {}
        for name, program in self._programs.items():
            with log_errors(name):
                if program.repair is not None:
                    program.finish_repair()
                elif is_in_hand or program.taken != taken.get(name, 0):
                    program.taken = taken.get(name, 0)
                    program.reset()
                # None: it is not there at all, and only `up` can make it.
                elif (state := states.get(name)) is not None:
                    why = self._unhealthy_reason(program, planned, running, state)
                    if why is not None and program.is_due(silence_s):
                        restart = self._threads.submit(self._restart, program, running, why)
                        program.repair = restart

    def _hold_ports(self, running: Runtime) -> None:
        lost = running.lost_ports(renew=True)
        if lost != self._lost:
            self._lost = lost
            why = f"{', '.join(lost)} is not held" if lost else "it is held again"
            self._journal.note("reservation", GATEWAY, why)

    def _unhealthy_reason(
        self, program: SharedProgram, planned: Plan, running: Runtime, state: ProgramState
    ) -> str | None:
        program.observe(state)
        if state.pid is None:
            program.pid = None
            # One that its runtime starts again in a moment is not the watchdog's.
            return None if state.state == "backoff" else f"it has no process ({state.detail})"
        why = program.unhealthy_reason()
        if program.probe is None and state.state != "stopped":  # that one is being stopped
            program.probe = self._threads.submit(_probe, planned, running, state)
        return why

    def _restart(self, program: SharedProgram, running: Runtime, why: str) -> None:
        try:
            with locked(self._layout.lock, wait_s=_LOCK_S):
                program.failures = program.failures.failed(time.monotonic())
                event = "crash-looping" if program.failures.loops else "failed"
                self._journal.note(event, program.name, why, failures=program.failures.count)
                if program.pid is not None:
                    self._journal.note("restarting", program.name)
                    running.halt(program.name, at_once=True)
                else:
                    self._journal.note("starting", program.name)
                program.pid = None
                running.start(program.name)
        except BusyError:
            return  # a command is at work, which may be stopping it


def _probe(planned: Plan, running: Runtime, state: ProgramState) -> ProgramState:
    """Return the state of a program that has a process, as it is."""
    if state.state == "failed":
        return state  # Docker's health check, or paused
    with running.session() as session:
        # Asked whatever its runtime says: a supervisor calls it running only after some seconds.
        return defects.examine(planned, replace(state, state="running"), session)
