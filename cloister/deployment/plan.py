"""What a deployment consists of: settings and a number of cores to replicas and programs, pure."""

import sys
from dataclasses import dataclass
from pathlib import Path

from cloister import gateway
from cloister.config import Settings
from cloister.deployment.access import Access
from cloister.engines import ENGINES, Replica
from cloister.gateway import Door, Upstream
from cloister.runtimes import EXPORTER, GATEWAY, RUNTIMES, Program, Site


@dataclass(frozen=True)
class Entry:
    """Which replicas get no page yet, and which no more than they read at once."""

    unproven: frozenset[str] = frozenset()
    cold: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Plan:
    """What is to run: pure data from the settings and the machine's number of cores.

    `slots` are the pages that all replicas read at once, `room` those that one takes at once.
    """

    settings: Settings
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


def plan(settings: Settings, cores: int) -> Plan:
    """Decide in how many replicas which engine runs, and where; pure.

    The engine has to be decided: see `resolve`.
    """
    engine = ENGINES[settings.engine]
    site = RUNTIMES[settings.runtime].site(settings)
    return Plan(
        settings=settings,
        engine=settings.engine,
        replicas=tuple(
            Replica(f"{engine.family}-{number}", port, host, site.bind)
            for number, (host, port) in enumerate(site.replicas, start=1)
        ),
        site=site,
        slots=engine.slots(settings, cores) * settings.replicas,
        room=settings.gateway.max_pages_per_replica or engine.room(settings, cores),
    )


def programs(planned: Plan, cores: int, model: Path | None) -> tuple[Program, ...]:
    """Return what the runtime is to keep alive, `model` being the folder it serves; pure."""
    settings, engine = planned.settings, ENGINES[planned.engine]
    launches = {
        replica.name: engine.launch(settings, replica, cores, model) for replica in planned.replicas
    }
    pairs = [f"{replica.name}={replica.url}" for replica in planned.replicas]
    _, port = planned.site.exporter
    status = _url(planned.site.status)
    return (
        *(
            Program(name, "engine", launch.program, launch.flags, stop_wait_s=launch.stop_wait_s)
            for name, launch in launches.items()
        ),
        Program(
            EXPORTER,
            "exporter",
            (sys.executable, "-m", "cloister.exporter"),
            (f"--host={planned.site.bind}", f"--port={port}", f"--gateway={status}", *pairs),
        ),
        Program(
            GATEWAY,
            "gateway",
            stop_signal="QUIT",  # nginx finishes the pages in flight
            stop_wait_s=settings.gateway.timeout_s + 10,
        ),
    )


def door(planned: Plan, access: Access, entry: Entry) -> Door:
    """Return what the gateway is to be told; pure."""
    site, settings = planned.site, planned.settings
    host, port = site.exporter
    weights = settings.engines.weights or (1,) * len(planned.replicas)
    slots = planned.slots // len(planned.replicas)
    upstreams = (
        Upstream(
            replica,
            weight,
            max_conns=slots if replica.name in entry.cold else planned.room,
            down=replica.name in entry.unproven,
        )
        for replica, weight in zip(planned.replicas, weights, strict=True)
    )
    return Door(
        settings=site.gateway,
        upstreams=tuple(upstreams),
        exporter=f"{host}:{port}",
        status=f"{site.bind}:{site.status[1]}",
        status_allow=site.status_allow,
        keys=access.keys,
        tls=access.tls,
    )


def _url(place: tuple[str, int]) -> str:
    host, port = place
    return f"http://{host}:{port}"
