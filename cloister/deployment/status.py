"""What runs now, as the runtime, the machine, the engines and the watchdog say."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import requests

from cloister import chat, gateway, gpus
from cloister.config import Settings
from cloister.deployment import access, defects, gauges, memory, record
from cloister.deployment.lifecycle import resolve, runtime
from cloister.deployment.plan import Plan, of
from cloister.deployment.record import Record
from cloister.engines import ENGINES
from cloister.errors import DeploymentError
from cloister.files import is_locked
from cloister.gpus import Card
from cloister.layout import Layout
from cloister.runtimes import WATCHDOG, ProgramState

_FRESH_S = 30.0
_SILENT_S = 60.0  # a change of the gateway's takes some of it


@dataclass(frozen=True)
class ProgramStatus:
    """One program; `memory_mib` is the resident set of it and its children.

    For a replica: `standing` is whether the gateway gives it pages, `verdict` what the watchdog
    last thought of it, `restarts` how often its process was another one since the watchdog began;
    `running` and `waiting` count pages; `kv_use` is a part from 0 to 1; rates are over ten
    seconds; `gpu` is its card, `gpu_busy_percent` how busy that is. None where there is no such
    thing, or where it is not known.
    """

    name: str
    state: str
    pid: int | None
    since_s: int
    memory_mib: int | None
    detail: str
    standing: str | None = None
    verdict: str | None = None
    restarts: int | None = None
    running: int | None = None
    waiting: int | None = None
    kv_use: float | None = None
    tokens_per_s: float | None = None
    pages_per_s: float | None = None
    gpu: int | None = None
    gpu_busy_percent: int | None = None


@dataclass(frozen=True)
class Status:
    """The deployment: `healthy` is the gateway's own answer on /health.

    `under_way` is the command that changes it, or that was killed while it did.
    """

    up: bool
    healthy: bool
    url: str
    engine: str
    model: str
    programs: tuple[ProgramStatus, ...]
    under_way: str | None = None


def status(settings: Settings) -> Status:
    """Return the state of the deployment in the settings' state folder.

    Raises DeploymentError where its containers are somebody else's.
    """
    recorded = record.read(settings)
    if recorded is None:
        return _empty(resolve(settings))
    planned, running = of(recorded), runtime(recorded.settings)
    running.require_own()
    # Also before the states: what a command that ends meanwhile has started is listed by then.
    lock = Layout(settings.state_dir).lock
    at_work = is_locked(lock)
    states = running.states()
    states = (*states, *running.orphans())
    at_work = at_work or is_locked(lock) or record.read(settings) != recorded
    missing = defects.missing(recorded, planned, states, is_command_at_work=at_work)
    states = (*states, *missing, *defects.unheld(running))
    needs_gpu = ENGINES[planned.engine].needs_gpu
    cards = {card.index: card for card in gpus.cards()} if needs_gpu else {}
    with running.session() as session:
        states = tuple(_check(settings, recorded, planned, session, state) for state in states)
        snapshot = _Snapshot(recorded, planned, session, _watchdog_stats(settings), cards)
        programs = tuple(snapshot.program(state) for state in states)
    return Status(
        # One that just started counts: the supervisor calls it running only after some seconds.
        up=bool(programs) and all(map(_is_healthy, programs)),
        healthy=_healthy(planned),
        url=planned.url,
        engine=planned.engine,
        model=planned.settings.model.name,
        programs=programs,
        under_way=recorded.under_way,
    )


@dataclass(frozen=True)
class _Snapshot:
    recorded: Record
    planned: Plan
    session: requests.Session
    watchdog_stats: Mapping[str, Mapping[str, Any]]
    cards: Mapping[int, Card]

    def program(self, state: ProgramState) -> ProgramStatus:
        common = ProgramStatus(
            name=state.name,
            state=state.state,
            pid=state.pid,
            since_s=state.since_s,
            memory_mib=memory.resident_mib(state.pid) if state.pid else None,
            detail=state.detail,
        )
        replicas = {replica.name: replica for replica in self.planned.replicas}
        if state.name not in replicas:
            return common
        replica = replicas[state.name]
        metrics = gauges.of(self.session, replica.url)
        stats = self.watchdog_stats.get(state.name, {})
        card = self.cards.get(replica.gpu) if replica.gpu is not None else None
        own = {
            "standing": self.recorded.standings.get(state.name),
            "running": _int(metrics.get(gauges.RUNNING)),
            "waiting": _int(metrics.get(gauges.WAITING)),
            "kv_use": metrics.get(gauges.KV_USE),
            "gpu": replica.gpu,
            "gpu_busy_percent": card.busy_percent if card else None,
            **{
                name: stats.get(name)
                for name in ("verdict", "restarts", "tokens_per_s", "pages_per_s")
            },
        }
        return ProgramStatus(**{**vars(common), **own})


def _is_healthy(program: ProgramStatus) -> bool:
    return program.state in {"running", "starting"} and program.standing != "sick"


def _empty(settings: Settings) -> Status:
    url = gateway.url(settings.gateway)
    return Status(
        up=False,
        healthy=False,
        url=url,
        engine=settings.engine,
        model=settings.model.name,
        programs=(),
    )


def _crash_looping(settings: Settings) -> tuple[str, ...]:
    """Return the programs whose process ends again and again, as the watchdog saw last."""
    content = _read_watchdog_file(settings)
    return tuple(content.get("looping", ()))


def _watchdog_stats(settings: Settings) -> Mapping[str, Mapping[str, Any]]:
    """Return what the watchdog saw last, nothing when that is long ago."""
    replicas: Mapping[str, Mapping[str, Any]] = _read_watchdog_file(settings).get("replicas", {})
    return replicas


def _read_watchdog_file(settings: Settings) -> Mapping[str, Any]:
    path = Layout(settings.state_dir).watch
    if not path.exists():
        return {}
    content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content if time.time() - content["at"] < _FRESH_S else {}


def _check(
    settings: Settings,
    recorded: Record,
    planned: Plan,
    session: requests.Session,
    state: ProgramState,
) -> ProgramState:
    """Return the state of a program as it is, whatever its runtime calls it."""
    if state.name in _crash_looping(settings) and state.state in {"running", "starting"}:
        why = f"its process ends again and again; next: invoke logs --name {state.name}"
        return replace(state, state="backoff", detail=why)
    return _check_watchdog(settings, recorded, defects.examine(planned, state, session))


def _check_watchdog(settings: Settings, recorded: Record, state: ProgramState) -> ProgramState:
    """Return the state of a program; a watchdog that writes nothing has failed."""
    if state.name != WATCHDOG or state.state not in {"running", "starting"}:
        return state
    layout = Layout(settings.state_dir)
    record_age_s = _age_s(layout.record) if layout.record.exists() else 0.0
    # One that ends again and again is always young, and the deployment is not.
    silent_s = min(_age_s(layout.watch), max(state.since_s, record_age_s))
    if silent_s < _SILENT_S + 2 * recorded.settings.healing.interval_s:
        return state
    detail = f"it has written nothing for {silent_s:.0f} s: is the disk full? does it hang?"
    return replace(state, state="failed", detail=detail)


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime if path.exists() else math.inf


def _healthy(planned: Plan) -> bool:
    try:
        with chat.session(access.of_this_machine(planned.settings)) as session:
            return gauges.get(session, f"{planned.url}/health") is not None
    except DeploymentError:
        return False  # another user listens there, and the gateway's own state says that it cannot


def _int(number: float | None) -> int | None:
    return None if number is None else int(number)
