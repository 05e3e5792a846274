"""The containers and networks of a deployment as planned, in Docker's words; plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Image:
    """An image as Docker tells it: its identity, and the configuration that containers take on."""

    name: str
    identity: str
    configuration: Mapping[str, Any]


@dataclass(frozen=True)
class Mount:
    """A folder of this machine in a container."""

    source: Path
    target: Path
    writable: bool = False


@dataclass(frozen=True)
class Health:
    """How often a container's health is asked for, in seconds, and how long it may take."""

    interval_s: int
    timeout_s: int
    start_s: int
    retries: int = 3


@dataclass(frozen=True)
class Part:
    """One container as planned.

    `networks` are names, `addresses` those that it has to have on some of them, `published` a port
    of this machine a port.
    """

    service: str
    container: str
    image: Image
    command: tuple[str, ...]
    mounts: tuple[Mount, ...]
    tmpfs: Mapping[str, str]
    memory_mib: int
    pids: int
    stop_s: int
    health: Health
    networks: tuple[str, ...] = ()
    addresses: Mapping[str, str] = field(default_factory=dict)
    dns: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    shared_memory_mib: int = 64
    restart: str = "always"
    gpu: int | None = None


@dataclass(frozen=True)
class Bridge:
    """One of the project's own networks, and the containers that are on it."""

    name: str
    subnet: str
    members: tuple[str, ...]
    internal: bool = False


@dataclass(frozen=True)
class Engine:
    """What of the Docker engine containers depend on: `docker info`."""

    runtimes: tuple[str, ...]
    security: tuple[str, ...]
    limits_swap: bool

    def has(self, name: str) -> bool:
        """Tell whether the engine applies a kind of confinement, such as `apparmor`."""
        return any(f"name={name}" in option for option in self.security)
