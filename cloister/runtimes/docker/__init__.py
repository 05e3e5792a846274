"""The docker runtime: sealed containers, which Compose starts and the SDK looks at."""

from cloister.runtimes.docker.addresses import site
from cloister.runtimes.docker.neighbours import attach, attached, detach
from cloister.runtimes.docker.overlay import (
    ALIAS,
    FOLDER,
    container_name,
    internal_network,
    own_network,
)
from cloister.runtimes.docker.runtime import DockerRuntime

__all__ = [
    "ALIAS",
    "FOLDER",
    "DockerRuntime",
    "attach",
    "attached",
    "container_name",
    "detach",
    "internal_network",
    "own_network",
    "site",
]
