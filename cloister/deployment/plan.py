"""What a deployment consists of: settings, cores and seats to replicas and programs, pure."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloister import gateway
from cloister.config import Settings
from cloister.deployment.access import Access
from cloister.deployment.record import Record
from cloister.engines import ENGINES, AnswerLimits, Patience, Replica
from cloister.gateway import Door, Upstream
from cloister.placement import Seat
from cloister.runtimes import (
    EXPORTER,
    GATEWAY,
    RUNTIMES,
    WATCHDOG,
    Program,
    Site,
    gateway_stop_s,
)

# What the watchdog takes at most from its verdict to the end of an engine.
_REPAIR_S = 60
_CLOSED = {"unproven", "draining", "sick"}


@dataclass(frozen=True)
class Plan:
    """What is to run: pure data from the settings, the machine's number of cores, and the seats.

    `slots` are the pages that all replicas read at once, `room` those that one takes at once.
    """

    settings: Settings
    cores: int
    engine: str
    replicas: tuple[Replica, ...]
    site: Site
    slots: int
    room: int

    @property
    def proves_reading(self) -> bool:
        """Whether replicas have to read a page rightly before they get any."""
        return not (self.settings.model.synthetic and ENGINES[self.engine].serves_model)

    @property
    def url(self) -> str:
        """Where clients find the service."""
        return gateway.url(self.settings.gateway)

    @property
    def names(self) -> tuple[str, ...]:
        """The replicas' names, in their order."""
        return tuple(replica.name for replica in self.replicas)


def plan(settings: Settings, cores: int, seats: Sequence[Seat] = ()) -> Plan:
    """Decide in how many replicas which engine runs, and where; pure.

    The engine has to be decided: see `resolve`. `seats` are the replicas' places on cards, none
    for an engine that needs no card.
    """
    engine = ENGINES[settings.engine]
    site = RUNTIMES[settings.runtime].site(settings)
    places = seats or (None,) * len(site.replicas)
    return Plan(
        settings=settings,
        cores=cores,
        engine=settings.engine,
        replicas=tuple(
            Replica(
                f"{engine.family}-{number}",
                listener,
                gpu=seat.gpu if seat else None,
                memory_percent=seat.memory_percent if seat else None,
            )
            for number, (listener, seat) in enumerate(
                zip(site.replicas, places, strict=True), start=1
            )
        ),
        site=site,
        slots=engine.slots(settings, cores) * settings.replicas,
        room=settings.gateway.max_pages_per_replica or engine.room(settings, cores),
    )


def of(record: Record) -> Plan:
    """Return the plan of a deployment; pure."""
    return plan(record.settings, record.cores, record.seats)


def with_names(record: Record, names: Iterable[str]) -> Plan:
    """Return the plan of a deployment, wide enough to have these replicas too; pure.

    What a killed command had forgotten already may run on.
    """
    numbers = [int(end) for name in names if (end := name.rpartition("-")[2]).isdecimal()]
    if max(numbers, default=0) <= record.settings.replicas:
        return of(record)
    wide = record.settings.model_copy(update={"replicas": max(numbers)})
    return plan(wide, record.cores)


def programs(planned: Plan, model: Path | None) -> tuple[Program, ...]:
    """Return what the runtime is to keep alive, `model` being the folder it serves; pure."""
    settings = planned.settings
    pairs = [f"{replica.name}={replica.listener.inside}" for replica in planned.replicas]
    status = planned.site.status.inside
    listens = (f"--listen={planned.site.exporter.own}", f"--access-log={planned.site.spool}")
    state = f"--state-dir={settings.state_dir}"
    watchdog = Program(WATCHDOG, "watchdog", (sys.executable, "-m", "cloister.watchdog"), (state,))
    return (
        *(_engine(planned, replica, model) for replica in planned.replicas),
        Program(
            EXPORTER,
            "exporter",
            (sys.executable, "-m", "cloister.exporter"),
            (*listens, f"--gateway={status}", *pairs),
            socket=planned.site.exporter.socket,
        ),
        Program(
            GATEWAY,
            "gateway",
            stop_signal="QUIT",  # nginx finishes the pages in flight
            stop_wait_s=gateway_stop_s(settings),
            socket=planned.site.status.socket,
        ),
        *((watchdog,) if settings.healing.enabled else ()),
    )


def door(
    planned: Plan, access: Access, standings: Mapping[str, str], shares: Mapping[str, int]
) -> Door:
    """Return what the gateway is to be told; pure.

    A replica without a standing gets pages; `shares` replace the configured weights.
    """
    site, settings = planned.site, planned.settings
    weights = settings.engines.weights or (1,) * len(planned.replicas)
    slots = planned.slots // len(planned.replicas)
    upstreams = (
        Upstream(
            replica,
            shares.get(replica.name, weight),
            max_conns=slots if standings.get(replica.name) == "cold" else planned.room,
            down=standings.get(replica.name) in _CLOSED,
        )
        for replica, weight in zip(planned.replicas, weights, strict=True)
    )
    return Door(
        settings=site.gateway,
        upstreams=tuple(upstreams),
        answer=_answer_limits(settings),
        moved_s=_moved_s(settings),
        exporter=site.exporter.inside,
        status=site.status.own,
        keys=access.keys,
        tls=access.tls,
        further_ports=site.further_ports,
    )


def patience(settings: Settings) -> Patience:
    """Return how long an engine may seem not to be well; pure."""
    own, healing = ENGINES[settings.engine].patience(settings), settings.healing
    return Patience(healing.silence_s or own.silence_s, healing.stall_s or own.stall_s)


def _answer_limits(settings: Settings) -> AnswerLimits:
    own, gateway_ = ENGINES[settings.engine].answer_limits(settings), settings.gateway
    return AnswerLimits(gateway_.max_answer_mib or own.mib, gateway_.max_answer_s or own.seconds)


def _moved_s(settings: Settings) -> int:
    """Return for how long a page may be moved: as long as a hung engine is not taken out."""
    longest = settings.gateway.timeout_s + 10
    if not settings.healing.enabled:
        return longest
    well = patience(settings)
    return min(longest, math.ceil(max(well.silence_s, well.stall_s)) + _REPAIR_S)


def _engine(planned: Plan, replica: Replica, model: Path | None) -> Program:
    engine = ENGINES[planned.engine]
    launch = engine.launch(planned.settings, replica, planned.cores, model)
    return Program(
        replica.name,
        "engine",
        launch.program,
        launch.flags,
        stop_wait_s=launch.stop_wait_s,
        gpu=replica.gpu,
        socket=replica.listener.socket,
    )
