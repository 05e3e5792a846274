"""What a runtime starts and keeps alive, where it puts it, and what it says about it."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import requests

from cloister.config import GatewaySettings, Settings
from cloister.gateway import Place

Role = Literal["engine", "gateway", "exporter", "watchdog"]
State = Literal["starting", "running", "backoff", "failed", "stopped"]

GATEWAY = "gateway"
EXPORTER = "exporter"
WATCHDOG = "watchdog"
BESIDE = frozenset({GATEWAY, EXPORTER, WATCHDOG})  # what is there once, whatever is scaled


@dataclass(frozen=True)
class Program:
    """One long-running program; `stop_signal` asks it to finish its work within `stop_wait_s`.

    Containers have `program` as their entry point, and are given the flags only. `gpu` is the one
    card that it may use, by the number that nvidia-smi gives it.
    """

    name: str
    role: Role
    program: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    stop_signal: str = "TERM"
    stop_wait_s: int = 10
    gpu: int | None = None


@dataclass(frozen=True)
class Changes:
    """Names of programs: `added` are to be started, `changed` to be replaced by what is wanted."""

    added: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ProgramState:
    """A program as its runtime sees it now; `since_s` is the age of the state in seconds."""

    name: str
    state: State
    pid: int | None
    since_s: int
    detail: str


@dataclass(frozen=True)
class Site:
    """Where the parts of a deployment are found, as (host, port), before any of them runs.

    Engines, the exporter and nginx' listener for its own state listen on the address `bind`; at
    `status` that one is asked by this machine and by `status_allow`.
    `gateway` is what nginx itself is told, which differs from the settings where its port is
    published; `published` are the ports of this machine that have to be free.
    """

    replicas: tuple[tuple[str, int], ...]
    exporter: tuple[str, int]
    status: tuple[str, int]
    status_allow: tuple[str, ...]
    bind: str
    gateway: GatewaySettings
    published: dict[str, tuple[str, int]]


class Runtime(Protocol):
    """One way to keep programs alive."""

    def check(self) -> None:
        """Raise a CloisterError for whatever this machine lacks; changes nothing."""
        ...

    def check_gateway(self, files: Callable[[Place], Mapping[str, str]]) -> None:
        """Let nginx read its configuration in a scratch place; raises GatewayError if it refuses.

        `files` gives the texts by their names, nginx.conf among them.
        """
        ...

    def place(self) -> Place:
        """Return where nginx keeps its files."""
        ...

    def model(self) -> Path | None:
        """Return the folder in which the engine finds the model, None when there is none."""
        ...

    def changes(self, programs: tuple[Program, ...]) -> Changes:
        """Return what is to be done until exactly these programs run; changes none of them."""
        ...

    def apply(self, programs: tuple[Program, ...], only: AbstractSet[str]) -> tuple[str, ...]:
        """Make `only` these of the programs run as described, and leave the others as they are.

        Return those that were started or replaced.
        """
        ...

    def remove(self, names: AbstractSet[str]) -> None:
        """Stop programs, each after the pages in flight, and forget them."""
        ...

    def stop(self, first: tuple[str, ...] = ()) -> bool:
        """Stop `first`, then everything else at once; return False when nothing ran."""
        ...

    def halt(self, name: str, *, at_once: bool = False) -> None:
        """Stop one program: after the pages in flight, or `at_once`, however stuck it is."""
        ...

    def start(self, name: str) -> None:
        """Start one program that was stopped."""
        ...

    def signal(self, name: str, signal: str) -> None:
        """Send a signal, such as `HUP`, to one program."""
        ...

    def states(self) -> tuple[ProgramState, ...]:
        """Return every program's state, or nothing when the runtime is down."""
        ...

    def session(self) -> requests.Session:
        """Return a session that reaches the replicas at their private addresses."""
        ...

    def tail(self, name: str, lines: int) -> str:
        """Return the last lines that a program wrote."""
        ...

    def show_logs(self, name: str | None, *, lines: int, follow: bool) -> None:
        """Print the ends of the logs; to `follow`, this process becomes what prints them."""
        ...


@dataclass(frozen=True)
class Kind:
    """One runtime: its site, which is pure, and how it is made."""

    site: Callable[[Settings], Site]
    make: Callable[[Settings], Runtime]
