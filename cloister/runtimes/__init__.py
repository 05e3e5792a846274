"""The runtimes: where programs run and who keeps them alive, behind one protocol, in one dict."""

from cloister.runtimes import docker, process
from cloister.runtimes.program import (
    BESIDE,
    EXPORTER,
    GATEWAY,
    SOCKET,
    SPOOL,
    WATCHDOG,
    Changes,
    Kind,
    Program,
    ProgramState,
    Runtime,
    Site,
    gateway_stop_s,
    longest_stop_s,
    socket_folder,
)

__all__ = [
    "BESIDE",
    "EXPORTER",
    "GATEWAY",
    "RUNTIMES",
    "SOCKET",
    "SPOOL",
    "WATCHDOG",
    "Changes",
    "Kind",
    "Program",
    "ProgramState",
    "Runtime",
    "Site",
    "gateway_stop_s",
    "longest_stop_s",
    "socket_folder",
]

RUNTIMES: dict[str, Kind] = {
    "process": Kind(process.site, process.ProcessRuntime),
    "docker": Kind(docker.site, docker.DockerRuntime),
}
