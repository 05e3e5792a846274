"""The runtimes: where programs run and who keeps them alive, behind one protocol, in one dict."""

from cloister.runtimes import docker, process
from cloister.runtimes.program import (
    EXPORTER,
    GATEWAY,
    Kind,
    Program,
    ProgramState,
    Runtime,
    Site,
)

__all__ = [
    "EXPORTER",
    "GATEWAY",
    "RUNTIMES",
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
