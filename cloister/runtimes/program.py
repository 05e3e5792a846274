"""What a runtime starts and keeps alive, where it puts it, and what it says about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import requests

from cloister.config import GatewaySettings, Settings
from cloister.gateway import Place

Role = Literal["engine", "gateway", "exporter"]
State = Literal["starting", "running", "backoff", "failed", "stopped"]

GATEWAY = "gateway"
EXPORTER = "exporter"


@dataclass(frozen=True)
class Program:
    """One long-running program; `stop_signal` asks it to finish its work within `stop_wait_s`.

    Containers have `program` as their entry point, and are given the flags only.
    """

    name: str
    role: Role
    program: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
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
