"""The runtimes: where programs run and who keeps them alive, behind one protocol, in one dict."""

from cloister.runtimes import docker, process
from cloister.runtimes.program import (
    BESIDE,
    EXPORTER,
    GATEWAY,
    WATCHDOG,
    Changes,
    Kind,
    Program,
    ProgramState,
    Runtime,
    Site,
)

__all__ = [
    "BESIDE",
    "EXPORTER",
    "GATEWAY",
    "RUNTIMES",
    "WATCHDOG",
    "Changes",
    "Kind",
    "Program",
    "ProgramState",
    "Runtime",
    "Site",
]

RUNTIMES: dict[str, Kind] = {
    "process": Kind(process.site, process.ProcessRuntime),
    "docker": Kind(docker.site, docker.DockerRuntime),
}
