"""What is wrong with programs that their runtime calls running, or that it does not list."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import psutil
import requests
from urllib3.exceptions import ProtocolError

from cloister.deployment.plan import Plan, programs
from cloister.deployment.record import Record
from cloister.endpoint import UnixSocket
from cloister.runtimes import EXPORTER, GATEWAY, ProgramState, Runtime

# Of one question: a machine that is busy may take some seconds to answer one that costs nothing.
ASK_S = 10.0
FULL = "it closes connections without an answer: clients take all of them"
Reply = Literal["well", "full", "silent"]
_ALIVE = {"starting", "running"}
_INITS = {"docker-init", "tini"}
_IN_HAND = {None, "unproven", "draining"}
# Neither asks an engine anything: nginx returns a text, and prometheus_client answers a browser.
_CHEAP = {GATEWAY: "/-/generation", EXPORTER: "/favicon.ico"}


def missing(
    recorded: Record, planned: Plan, states: Sequence[ProgramState], *, is_command_at_work: bool
) -> tuple[ProgramState, ...]:
    """Return the programs of a deployment that nobody lists, as stopped; pure.

    A replica that a command has in hand is left out: it may be there in a moment, or be gone. The
    record alone does not tell, since it is that of a command that was killed as well.
    """
    listed = {state.name for state in states}
    in_hand = {
        name
        for name in planned.names
        if is_command_at_work and recorded.standings.get(name) in _IN_HAND
    }
    return tuple(
        ProgramState(program.name, "stopped", None, 0, "it does not run; next: invoke up")
        for program in programs(planned, None)
        if program.name not in listed | in_hand
    )


def unheld(running: Runtime) -> tuple[ProgramState, ...]:
    """Return the gateway's ports that nobody holds for it, each as what has failed."""
    return tuple(
        ProgramState(
            "reservation",
            "failed",
            None,
            0,
            f"{lost} is not held: another user could take it when nginx restarts; "
            "next: end what else listens there (ss -ltnp), then invoke up",
        )
        for lost in running.lost_ports()
    )


def examine(planned: Plan, state: ProgramState, session: requests.Session) -> ProgramState:
    """Return the state of a program; one that is frozen, or that does not answer, has failed."""
    if state.state not in _ALIVE or state.pid is None:
        return state
    # An engine's workers are its own: a page that takes too long ends its worker.
    if stopped := frozen(state.pid, main_only=state.name in planned.names):
        return replace(state, state="failed", detail=f"its process {stopped} is frozen (SIGSTOP)")
    reply = ask(planned, state.name, session) if state.state == "running" else "well"
    if reply == "silent":
        return replace(state, state="failed", detail=f"it has not answered for {ASK_S:g} s")
    return replace(state, detail=FULL) if reply == "full" else state


def frozen(pid: int, *, main_only: bool = False) -> int | None:
    """Return a process of a program that a signal stopped, None where all of them may run.

    With `main_only` its workers do not count. A container's first process is Docker's init, which
    has the program as its child.
    """
    try:
        first = psutil.Process(pid)
        children = first.children(recursive=not main_only)
        if main_only and first.name() not in _INITS:
            children = []
        return next((one.pid for one in (first, *children) if _is_stopped(one)), None)
    except psutil.Error:  # it ended meanwhile, or other users' processes are hidden
        return None


def _is_stopped(process: psutil.Process) -> bool:
    stopped: bool = process.status() == psutil.STATUS_STOPPED
    return stopped


def ask(planned: Plan, name: str, session: requests.Session) -> Reply:
    """Return how the gateway or the exporter replies; other programs have nothing to ask.

    It is `full` where it closes the connection: nginx does so to what it accepts while clients take
    all of its connections. Were that silence, any client could have it restarted, which cuts
    everybody's pages.
    """
    here = {GATEWAY: planned.site.status.here, EXPORTER: planned.site.exporter.here}.get(name)
    if not isinstance(here, UnixSocket):
        return "well"
    try:
        session.get(f"{here.url}{_CHEAP[name]}", timeout=ASK_S)
    except requests.RequestException as error:
        is_closed = bool(error.args) and isinstance(error.args[0], ProtocolError)
        return "full" if is_closed and name == GATEWAY else "silent"
    return "well"
