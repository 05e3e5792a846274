"""What runs now, as the runtime, the operating system and the engines themselves say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil
import requests

from cloister import chat
from cloister.config import Settings
from cloister.deployment import access, gauges, record
from cloister.deployment.lifecycle import cores, resolve, runtime
from cloister.deployment.plan import Plan, plan
from cloister.runtimes import ProgramState


@dataclass(frozen=True)
class ProgramStatus:
    """One program; `memory_mib` is the resident set of it and its children.

    `running` and `waiting` count pages, None for a program that reads none or does not answer.
    """

    name: str
    state: str
    pid: int | None
    since_s: int
    memory_mib: int | None
    running: int | None
    waiting: int | None
    detail: str


@dataclass(frozen=True)
class Status:
    """The deployment: `healthy` is the gateway's own answer on /health."""

    up: bool
    healthy: bool
    url: str
    engine: str
    model: str
    programs: tuple[ProgramStatus, ...]


def status(settings: Settings) -> Status:
    """Return the state of the deployment in the settings' state folder."""
    recorded = record.read(settings)
    planned = plan(recorded or resolve(settings), cores())
    running = runtime(planned.settings)
    states = running.states()
    with running.session() as session:
        return _status(planned, states, session)


def _status(planned: Plan, states: Sequence[ProgramState], session: requests.Session) -> Status:
    urls = {replica.name: replica.url for replica in planned.replicas}
    return Status(
        # One that just started counts: the supervisor calls it running only after some seconds.
        up=bool(states) and all(state.state in {"running", "starting"} for state in states),
        healthy=_healthy(planned),
        url=planned.url,
        engine=planned.engine,
        model=planned.settings.model.name,
        programs=tuple(_program(state, urls, session) for state in states),
    )


def _healthy(planned: Plan) -> bool:
    with chat.session(access.of_this_machine(planned.settings)) as session:
        return gauges.get(session, f"{planned.url}/health") is not None


def _program(
    state: ProgramState, urls: Mapping[str, str], session: requests.Session
) -> ProgramStatus:
    told = gauges.of(session, urls[state.name]) if state.name in urls else {}
    return ProgramStatus(
        name=state.name,
        state=state.state,
        pid=state.pid,
        since_s=state.since_s,
        memory_mib=_memory_mib(state.pid) if state.pid else None,
        running=told.get(gauges.RUNNING),
        waiting=told.get(gauges.WAITING),
        detail=state.detail,
    )


def _memory_mib(pid: int) -> int | None:
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(member.memory_info().rss for member in family) >> 20
    except psutil.Error:  # gone between the two questions
        return None
