"""What every engine has to say about itself: how it is checked and how it is launched."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # the engine's own processes import this package, and need no configuration
    from cloister.config import Settings


@dataclass(frozen=True)
class Replica:
    """One engine process: its name, and its private address on this machine."""

    name: str
    port: int
    host: str = "127.0.0.1"

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The root of the engine's routes."""
        return f"http://{self.address}"


@dataclass(frozen=True)
class Launch:
    """A command line, and what its environment needs beside the common one."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """One engine; a module is one when it has these functions."""

    def check(self, settings: "Settings") -> None:
        """Raise EngineError when this machine cannot run the engine as configured."""

    def launch(self, settings: "Settings", replica: Replica, cores: int) -> Launch:
        """Return the command of one replica on a machine of `cores` cores; pure."""
        ...

    def slots(self, settings: "Settings", cores: int) -> int:
        """Return how many pages one replica reads at once; pure."""
        ...
