"""The process runtime: child processes of a supervisord of our own, as an ordinary user."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path

import requests

from cloister import chat, modelstore, nginx, shell
from cloister.config import Settings
from cloister.engines import ENGINES
from cloister.errors import DeploymentError
from cloister.gateway import Place
from cloister.layout import Layout
from cloister.runtimes.program import EXPORTER, GATEWAY, Changes, Program, ProgramState, Site
from cloister.runtimes.supervisor import Supervisor

_HOST = "127.0.0.1"


def site(settings: Settings) -> Site:
    """Return where the processes listen: one port after the other on 127.0.0.1; pure."""
    first = settings.engines.first_port
    replicas = tuple((_HOST, first + number) for number in range(settings.replicas))
    exporter, status = (_HOST, first - 1), (_HOST, first - 2)
    names = (f"replica {number}" for number in range(1, settings.replicas + 1))
    gateway = (str(settings.gateway.address), settings.gateway.port)
    return Site(
        replicas=replicas,
        exporter=exporter,
        status=status,
        status_allow=(),
        bind=_HOST,
        gateway=settings.gateway,
        published={
            GATEWAY: gateway,
            EXPORTER: exporter,
            "the gateway's state": status,
            **dict(zip(names, replicas, strict=True)),
        },
    )


class ProcessRuntime:
    """Keeps programs alive under the state folder's `run`, which holds the supervisor's files."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._layout = Layout(settings.state_dir)
        self._supervisor = Supervisor(self._layout)

    def check(self) -> None:
        """Raise what is missing: nginx, or what the engine needs."""
        engine = ENGINES[self._settings.engine]
        engine.check(self._settings)
        if engine.serves_model:
            modelstore.require(self._settings)
        nginx.find(self._settings.gateway.nginx)
        if not self.states():
            self.stop()  # what a killed supervisor left would hold the ports

    def check_gateway(self, files: Callable[[Place], Mapping[str, str]]) -> None:
        """Let the installed nginx read its configuration in a scratch folder."""
        nginx.check(nginx.find(self._settings.gateway.nginx), files)

    def place(self) -> Place:
        """Return where nginx keeps its files."""
        program = nginx.find(self._settings.gateway.nginx)
        return Place(
            self._layout.gateway,
            self._layout.logs,
            worker_user=nginx.worker_user(self._layout.state),
            version=nginx.version(program),
        )

    def model(self) -> Path | None:
        """Return the model's folder in the model store."""
        return modelstore.folder(self._settings)

    def changes(self, programs: tuple[Program, ...]) -> Changes:
        """Return what `apply` would do."""
        return self._supervisor.changes(self._with_nginx(programs))

    def apply(self, programs: tuple[Program, ...], only: AbstractSet[str]) -> tuple[str, ...]:
        """Make `only` these programs run as they are described; return those (re)started."""
        described = self._with_nginx(programs)
        if self._supervisor.alive():
            return self._supervisor.apply(described, only)
        nginx.forget_bodies(self._layout.gateway)
        first = tuple(program for program in described if program.name in only)
        self._supervisor.start(first)
        return tuple(program.name for program in first)

    def remove(self, names: AbstractSet[str]) -> None:
        """Stop programs, after the pages in flight, and forget them."""
        self._supervisor.remove(names)

    def stop(self, first: tuple[str, ...] = ()) -> bool:
        """Stop `first`, then everything else at once; return False when nothing ran."""
        return self._supervisor.stop(first)

    def halt(self, name: str, *, at_once: bool = False) -> None:
        """Stop a program: after its pages, or `at_once`."""
        self._supervisor.halt(name, at_once=at_once)

    def start(self, name: str) -> None:
        """Start a program that was stopped."""
        self._supervisor.run(name)

    def signal(self, name: str, signal: str) -> None:
        """Send a signal, such as `HUP`, to one program."""
        self._supervisor.signal(name, signal)

    def states(self) -> tuple[ProgramState, ...]:
        """Return every program's state, or nothing when the supervisor is down."""
        return self._supervisor.states()

    def session(self) -> requests.Session:
        """Return a session; the replicas listen on this machine."""
        return chat.session()

    def tail(self, name: str, lines: int) -> str:
        """Return the last lines of a program's log."""
        return self._supervisor.tail(name, lines)

    def show_logs(self, name: str | None, *, lines: int, follow: bool) -> None:
        """Become `tail` over one program's log, or over all of them."""
        logs = self._layout.logs
        files = {path.stem: path for path in sorted(logs.glob("*.log"))}
        if name is not None and name not in files:
            raise DeploymentError(
                f"no log `{name}` in `{logs}`; there are {', '.join(files) or 'none'}"
            )
        if not files:
            raise DeploymentError(f"no logs in `{logs}`", hint="invoke up")
        chosen = (files[name],) if name else tuple(files.values())
        shell.tail(chosen, lines=lines, follow=follow)

    def _with_nginx(self, programs: tuple[Program, ...]) -> tuple[Program, ...]:
        """Return the programs, with this machine's nginx as the gateway's."""
        found = nginx.find(self._settings.gateway.nginx)
        command = nginx.command(found, self._layout.nginx_configuration)
        return tuple(
            replace(program, program=command) if program.role == GATEWAY else program
            for program in programs
        )
