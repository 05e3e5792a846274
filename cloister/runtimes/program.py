"""What a runtime starts and keeps alive, and what it says about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

Role = Literal["engine", "gateway", "exporter"]
State = Literal["starting", "running", "backoff", "failed", "stopped"]


@dataclass(frozen=True)
class Program:
    """One long-running program; `stop_signal` asks it to finish its work within `stop_wait_s`."""

    name: str
    role: Role
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "TERM"
    stop_wait_s: int = 10


@dataclass(frozen=True)
class ProgramState:
    """A program as its runtime sees it now; `since_s` is the age of the state in seconds."""

    name: str
    state: State
    pid: int | None
    since_s: int
    detail: str


class Runtime(Protocol):
    """One way to keep programs alive."""

    def apply(self, programs: tuple[Program, ...]) -> tuple[str, ...]:
        """Make exactly these programs run; return the names of those started or replaced."""
        ...

    def stop(self, first: tuple[str, ...] = ()) -> bool:
        """Stop `first`, then everything else at once; return False when nothing ran."""
        ...

    def restart(self, names: tuple[str, ...]) -> None:
        """Stop and start these programs, one after the other."""
        ...

    def signal(self, name: str, signal: str) -> None:
        """Send a signal, such as `HUP`, to one program."""
        ...

    def states(self) -> tuple[ProgramState, ...]:
        """Return every program's state, or nothing when the runtime is down."""
        ...
