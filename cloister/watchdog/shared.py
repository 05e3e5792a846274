"""The gateway and the exporter under watch: started where they ended, restarted where they hang."""

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from cloister.deployment import defects
from cloister.deployment.plan import Plan
from cloister.events import Journal
from cloister.files import BusyError
from cloister.layout import Layout
from cloister.runtimes import EXPORTER, GATEWAY, ProgramState, Runtime
from cloister.statefolder import locked
from cloister.watchdog.backoff import Failures

# A restart of the gateway cuts all pages, so it has more time than a replica.
SILENCE_S = 30.0


@dataclass
class SharedProgram:
    """A program that is there once; times are of the monotonic clock, in seconds.

    `pid` is its process at the last look, `well_s` when it was last seen to be well, and `look`
    the question whether it is, which may take as long as the program is silent.
    """

    name: str
    pid: int | None = None
    well_s: float = field(default_factory=time.monotonic)
    failures: Failures = field(default_factory=Failures)
    look: Future[str | None] | None = None
    treatment: Future[None] | None = None

    def see(self, state: ProgramState) -> None:
        """Take in its process; another one than before counts as a failure of that one."""
        now = time.monotonic()
        if state.pid is not None and self.pid not in {state.pid, None}:
            self.failures = self.failures.failed(now)
            self.begin(now)
        self.pid = state.pid or self.pid

    def begin(self, now_s: float) -> None:
        """Give its process as much time as a new one."""
        self.well_s, self.look = now_s, None

    def answer(self) -> str | None:
        """Return why it is not well, by the last look that ended; None where none of them tells."""
        if self.look is None or not self.look.done():
            return None
        why, self.look = self.look.result(), None
        if why is None:
            self.well_s = time.monotonic()
            self.failures = self.failures.well(self.well_s)
        return why


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
        self._hold_ports(running)
        for name, program in self._programs.items():
            if program.treatment is not None:
                if program.treatment.done():
                    done, program.treatment = program.treatment, None
                    program.begin(time.monotonic())
                    done.result()
                continue
            state = states.get(name)  # None: it is not there at all, and only `up` can make it
            why = self._complaint(program, planned, running, state) if state else None
            if why is not None and program.failures.over(time.monotonic()):
                silent_s = time.monotonic() - program.well_s
                if program.pid is None or silent_s >= silence_s:
                    program.treatment = self._threads.submit(self._restart, program, running, why)

    def _hold_ports(self, running: Runtime) -> None:
        lost = running.lost_ports(renew=True)
        if lost != self._lost:
            self._lost = lost
            why = f"{', '.join(lost)} is not held" if lost else "it is held again"
            self._journal.note("reservation", GATEWAY, why)

    def _complaint(
        self, program: SharedProgram, planned: Plan, running: Runtime, state: ProgramState
    ) -> str | None:
        program.see(state)
        if state.pid is None:
            program.pid = None
            # One that its runtime starts again in a moment is not the watchdog's.
            return None if state.state == "backoff" else f"it has no process ({state.detail})"
        why = program.answer()
        if program.look is None and state.state != "stopped":  # that one is being stopped
            program.look = self._threads.submit(_look, planned, running, state)
        return why

    def _restart(self, program: SharedProgram, running: Runtime, why: str) -> None:
        try:
            with locked(self._layout.lock, wait_s=0):
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


def _look(planned: Plan, running: Runtime, state: ProgramState) -> str | None:
    """Return what is wrong with a program that has a process."""
    if state.state == "failed":
        return state.detail  # Docker's health check, or paused
    with running.session() as session:
        # Asked whatever its runtime says: a supervisor calls it running only after some seconds.
        seen = defects.examine(planned, replace(state, state="running"), session)
    return seen.detail if seen.state == "failed" else None
