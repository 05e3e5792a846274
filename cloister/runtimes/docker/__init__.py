"""The docker runtime: sealed containers, which Compose starts and the SDK looks at."""

from cloister.runtimes.docker.addresses import site
from cloister.runtimes.docker.neighbours import attach, attached, detach
from cloister.runtimes.docker.runtime import DockerRuntime

__all__ = ["DockerRuntime", "attach", "attached", "detach", "site"]
