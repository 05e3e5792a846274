"""What a runtime starts and keeps alive, where it puts it, and what it says about it."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import requests

from cloister.config import GatewaySettings, Settings
from cloister.endpoint import Listener, TcpAddress
from cloister.engines import ENGINES
from cloister.gateway import Place

Role = Literal["engine", "gateway", "exporter", "watchdog"]
State = Literal["starting", "running", "backoff", "failed", "stopped"]

GATEWAY = "vllm-nginx-gateway"
EXPORTER = "exporter"
WATCHDOG = "watchdog"
# The names of a server's socket in its folder, and of the access log's lines in theirs.
SOCKET, SPOOL = "sock", "access.log"
_SOCKET_FOLDERS = {GATEWAY: "gateway"}
# What is there once, whatever is scaled; `gateway` is what earlier versions called theirs, which
# holds the port until it goes.
BESIDE = frozenset({GATEWAY, EXPORTER, WATCHDOG, "gateway"})


@dataclass(frozen=True)
class Program:
    """One long-running program; `stop_signal` asks it to finish its work within `stop_wait_s`.

    Containers have `program` as their entry point, and are given the flags only. `gpu` is the one
    card that it may use, by the number that nvidia-smi gives it, and `socket` where it listens.
    """

    name: str
    role: Role
    program: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    stop_signal: str = "TERM"
    stop_wait_s: int = 10
    gpu: int | None = None
    socket: Path | None = None


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
    image: str | None = None


@dataclass(frozen=True)
class Site:
    """Where the parts of a deployment listen, before any of them runs.

    At `status` nginx tells its own state, to this machine and the exporter. `gateway` is what nginx
    itself is told, which differs from the settings where its port is published; `published` are
    the ports of this machine that have to be free. At `spool` the exporter finds the lines of
    nginx' access log. `further_ports` are the gateway's for clients of its own networks.
    """

    replicas: tuple[Listener, ...]
    exporter: Listener
    status: Listener
    gateway: GatewaySettings
    published: dict[str, TcpAddress]
    spool: Path
    further_ports: tuple[int, ...] = ()


def gateway_stop_s(settings: Settings) -> int:
    """Return how long nginx may take to finish its pages when it is stopped; pure.

    Longer than its own `worker_shutdown_timeout`, `gateway.timeout_s` + 10: it ends by itself, and
    removes its socket and its files, before it is killed.
    """
    return settings.gateway.timeout_s + 20


def longest_stop_s(settings: Settings) -> int:
    """Return how long any program of a deployment may take to stop, whatever its engine; pure."""
    engines = (engine.stop_wait_s(settings) for engine in ENGINES.values())
    return max(gateway_stop_s(settings), *engines)


def socket_folder(name: str) -> str:
    """Return the name of the folder in which a program's socket is; pure.

    Short and the same for all engines: a socket's path ends at 107 bytes (unix(7)), of which a
    state folder may have 80.
    """
    family, _, number = name.rpartition("-")
    if number.isdecimal() and family in {engine.family for engine in ENGINES.values()}:
        return f"engine-{number}"
    return _SOCKET_FOLDERS.get(name, name)


class Runtime(Protocol):
    """One way to keep programs alive."""

    def check(self) -> None:
        """Raise a CloisterError for whatever this machine lacks; changes nothing."""
        ...

    def require_own(self) -> None:
        """Raise DeploymentError while somebody else's programs run under the deployment's name."""
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
        """Start one program that was stopped; what it left in its socket's folder is removed."""
        ...

    def signal(self, name: str, signal: str) -> None:
        """Send a signal, such as `HUP`, to one program."""
        ...

    def states(self) -> tuple[ProgramState, ...]:
        """Return every program's state, or nothing when the runtime is down."""
        ...

    def orphans(self) -> tuple[ProgramState, ...]:
        """Return the programs that run though whoever is to keep them alive does not answer."""
        ...

    def end_orphans(self) -> None:
        """End those of them that would be in the way of a start; raises DeploymentError."""
        ...

    def lost_ports(self, *, renew: bool = False) -> tuple[str, ...]:
        """Return the gateway's ports that another user could take while it is away, with reasons.

        With `renew` it is first tried again to hold them.
        """
        ...

    def session(self) -> requests.Session:
        """Return a session that reaches the replicas, whatever they listen on."""
        ...

    def tail(self, name: str, lines: int) -> str:
        """Return the last lines that a program wrote."""
        ...

    def show_logs(self, name: str | None, *, lines: int, follow: bool) -> None:
        """Print the ends of the logs, and to `follow` what comes, until Ctrl-C."""
        ...


@dataclass(frozen=True)
class Kind:
    """One runtime: its site, which is pure, and how it is made."""

    site: Callable[[Settings], Site]
    make: Callable[[Settings], Runtime]
