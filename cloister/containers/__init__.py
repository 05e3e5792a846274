"""Docker on this machine: the engine for looking, its command line and Compose for changing."""

from cloister.containers.daemon import (
    MINIMUM_ENGINE,
    connect,
    explained,
    members,
    once_released,
    stop,
)
from cloister.containers.programs import builder, compose
from cloister.containers.proofs import sweep
from cloister.containers.stream import file_of

__all__ = [
    "MINIMUM_ENGINE",
    "builder",
    "compose",
    "connect",
    "explained",
    "file_of",
    "members",
    "once_released",
    "stop",
    "sweep",
]
