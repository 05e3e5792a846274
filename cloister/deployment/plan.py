"""What a deployment consists of: settings and a number of cores to replicas and programs, pure."""

import sys
from dataclasses import dataclass
from pathlib import Path

from cloister import gateway, nginx
from cloister.config import Settings
from cloister.engines import ENGINES, Replica, choose
from cloister.gateway import Place
from cloister.runtimes import Program

GATEWAY = "gateway"
EXPORTER = "exporter"


@dataclass(frozen=True)
class Plan:
    """What is to run: pure data from the settings and the machine's number of cores."""

    settings: Settings
    engine: str
    replicas: tuple[Replica, ...]
    exporter: str
    slots: int

    @property
    def url(self) -> str:
        """Where clients find the service."""
        return gateway.url(self.settings.gateway)

    @property
    def ports(self) -> dict[str, tuple[str, int]]:
        """The address and port of each program that listens."""
        host, _, port = self.exporter.rpartition(":")
        listening = {replica.name: (replica.host, replica.port) for replica in self.replicas}
        settings = self.settings.gateway
        return {
            GATEWAY: (str(settings.address), settings.port),
            EXPORTER: (host, int(port)),
            **listening,
        }


@dataclass(frozen=True)
class Layout:
    """The state folder, which holds everything that a deployment writes."""

    state: Path

    @property
    def run(self) -> Path:
        """The supervisor's files."""
        return self.state / "run"

    @property
    def gateway(self) -> Path:
        """The configuration and temporary files of nginx."""
        return self.state / "gateway"

    @property
    def logs(self) -> Path:
        """One log a program, and the access log."""
        return self.state / "logs"

    @property
    def record(self) -> Path:
        """The settings that the last `up` applied."""
        return self.state / "deployment.json"

    @property
    def lock(self) -> Path:
        """Held by the command that changes the deployment."""
        return self.state / "lock"

    @property
    def nginx_configuration(self) -> Path:
        """The rendered gateway."""
        return self.gateway / "nginx.conf"


def plan(settings: Settings, cores: int) -> Plan:
    """Decide which engine runs in how many replicas on which ports; pure."""
    engine = choose(settings.engine)
    first = settings.engines.first_port
    return Plan(
        settings=settings,
        engine=engine,
        replicas=tuple(
            Replica(f"{engine}-{number + 1}", first + number) for number in range(settings.replicas)
        ),
        exporter=f"127.0.0.1:{first - 1}",
        slots=ENGINES[engine].slots(settings, cores) * settings.replicas,
    )


def programs(planned: Plan, layout: Layout, nginx_program: Path, cores: int) -> tuple[Program, ...]:
    """Return what the runtime is to keep alive; pure."""
    settings, engine = planned.settings, ENGINES[planned.engine]
    launches = {
        replica.name: engine.launch(settings, replica, cores) for replica in planned.replicas
    }
    host, _, port = planned.exporter.rpartition(":")
    pairs = [f"{replica.name}={replica.url}" for replica in planned.replicas]
    return (
        *(
            Program(name, "engine", launch.command, launch.environment, stop_wait_s=30)
            for name, launch in launches.items()
        ),
        Program(
            EXPORTER,
            "exporter",
            (sys.executable, "-m", "cloister.exporter", f"--host={host}", f"--port={port}", *pairs),
        ),
        Program(
            GATEWAY,
            "gateway",
            nginx.command(nginx_program, layout.nginx_configuration),
            stop_signal="QUIT",  # nginx finishes the pages in flight
            stop_wait_s=settings.gateway.timeout_s + 10,
        ),
    )


def nginx_text(planned: Plan, place: Place) -> str:
    """Return the gateway's configuration; pure."""
    return gateway.render(planned.settings.gateway, planned.replicas, planned.exporter, place)
