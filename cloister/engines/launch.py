"""What every engine has to say about itself: how it is checked and how it is launched."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cloister.endpoint import Listener

if TYPE_CHECKING:  # the engine's own processes import this package, and need no configuration
    from cloister.config import Settings


@dataclass(frozen=True)
class Replica:
    """One running engine: its name, and where it listens.

    `gpu` is the card that it is placed on, `memory_percent` its share of the card's memory; both
    are None for an engine that needs no card.
    """

    name: str
    listener: Listener
    gpu: int | None = None
    memory_percent: int | None = None

    @property
    def url(self) -> str:
        """The root of the engine's routes, for the commands of this machine."""
        return self.listener.here.url


@dataclass(frozen=True)
class Launch:
    """A program, its flags, and how long it may take to finish its pages when it is stopped.

    An engine's image has the program as its entry point, so there only the flags are given.
    """

    program: tuple[str, ...]
    flags: tuple[str, ...]
    stop_wait_s: int


# From the end of its last page, an engine may take so long to end.
END_S = 30


@dataclass(frozen=True)
class Patience:
    """How long an engine that is well may seem not to be, in seconds.

    `silence_s` without an answer about its own numbers, `stall_s` with pages and without progress.
    """

    silence_s: float
    stall_s: float


@dataclass(frozen=True)
class AnswerLimits:
    """The longest answer that an engine gives: its size in MiB, and from first to last byte."""

    mib: int
    seconds: int


class Engine(Protocol):
    """One engine: a module or an object with these names."""

    @property
    def family(self) -> str:
        """What its replicas are called, before their number."""

    @property
    def image(self) -> str:
        """The name of its image."""

    @property
    def serves_model(self) -> bool:
        """Whether it needs a model from the model store."""

    @property
    def needs_gpu(self) -> bool:
        """Whether each replica is placed on a card."""

    @property
    def ready_s(self) -> float:
        """The longest time in seconds that it may take to start."""

    def check(self, settings: "Settings") -> None:
        """Raise EngineError when this machine cannot run the engine as a process."""

    def launch(
        self, settings: "Settings", replica: Replica, cores: int, model: Path | None
    ) -> Launch:
        """Return how one replica starts on a machine of `cores` cores; pure."""
        ...

    def stop_wait_s(self, settings: "Settings") -> int:
        """Return how long one replica may take to finish its pages when it is stopped; pure."""
        ...

    def patience(self, settings: "Settings") -> Patience:
        """Return how long one replica may seem not to be well; pure."""
        ...

    def answer_limits(self, settings: "Settings") -> AnswerLimits:
        """Return the longest answer by the engine's own limits; pure."""
        ...

    def slots(self, settings: "Settings", cores: int) -> int:
        """Return how many pages one replica reads at once; pure."""
        ...

    def room(self, settings: "Settings", cores: int) -> int:
        """Return how many pages one replica takes at once, read or waiting; pure."""
        ...
