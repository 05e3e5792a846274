"""What a deployment consists of: settings and a number of cores to replicas and programs, pure."""

import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cloister import gateway
from cloister.config import Settings
from cloister.engines import ENGINES, Replica
from cloister.gateway import Place
from cloister.runtimes import EXPORTER, GATEWAY, RUNTIMES, Program, Site


@dataclass(frozen=True)
class Plan:
    """What is to run: pure data from the settings and the machine's number of cores."""

    settings: Settings
    engine: str
    replicas: tuple[Replica, ...]
    site: Site
    slots: int

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
    )


def programs(planned: Plan, cores: int, model: Path | None) -> tuple[Program, ...]:
    """Return what the runtime is to keep alive, `model` being the folder it serves; pure."""
    settings, engine = planned.settings, ENGINES[planned.engine]
    launches = {
        replica.name: engine.launch(settings, replica, cores, model) for replica in planned.replicas
    }
    pairs = [f"{replica.name}={replica.url}" for replica in planned.replicas]
    _, port = planned.site.exporter
    return (
        *(
            Program(name, "engine", launch.program, launch.flags, stop_wait_s=launch.stop_wait_s)
            for name, launch in launches.items()
        ),
        Program(
            EXPORTER,
            "exporter",
            (sys.executable, "-m", "cloister.exporter"),
            (f"--host={planned.site.bind}", f"--port={port}", *pairs),
        ),
        Program(
            GATEWAY,
            "gateway",
            stop_signal="QUIT",  # nginx finishes the pages in flight
            stop_wait_s=settings.gateway.timeout_s + 10,
        ),
    )


def nginx_text(planned: Plan, place: Place, unproven: Collection[str] = ()) -> str:
    """Return the gateway's configuration, in which the `unproven` replicas get no page; pure."""
    host, port = planned.site.exporter
    return gateway.render(planned.site.gateway, planned.replicas, f"{host}:{port}", place, unproven)
