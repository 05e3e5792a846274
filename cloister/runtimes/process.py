"""The process runtime: child processes of a supervisord of our own, as an ordinary user."""

import os
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path

import requests

from cloister import chat, modelstore, nginx, shell, sockets, statefolder, unixhttp
from cloister.config import Settings
from cloister.endpoint import Listener, TcpAddress, UnixSocket
from cloister.engines import ENGINES
from cloister.errors import DeploymentError
from cloister.gateway import Place
from cloister.layout import Layout
from cloister.runtimes.program import (
    EXPORTER,
    GATEWAY,
    SOCKET,
    SPOOL,
    Changes,
    Program,
    ProgramState,
    Site,
    longest_stop_s,
    socket_folder,
)
from cloister.runtimes.supervisor import Supervisor


def site(settings: Settings) -> Site:
    """Return where the processes listen: each on a Unix socket in a folder of its own; pure."""
    family = ENGINES[settings.engine].family

    def at(name: str) -> Listener:
        return Listener.at(
            UnixSocket(Layout(settings.state_dir).sockets / socket_folder(name) / SOCKET)
        )

    return Site(
        replicas=tuple(at(f"{family}-{n}") for n in range(1, settings.replicas + 1)),
        exporter=at(EXPORTER),
        status=at(GATEWAY),
        gateway=settings.gateway,
        published={GATEWAY: TcpAddress(str(settings.gateway.address), settings.gateway.port)},
        spool=_spool(Layout(settings.state_dir)),
    )


class ProcessRuntime:
    """Keeps programs alive under the state folder's `run`, which holds the supervisor's files."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._layout = Layout(settings.state_dir)
        self._supervisor = Supervisor(
            self._layout,
            longest_stop_s(settings),
            (TcpAddress(str(settings.gateway.address), settings.gateway.port),),
        )

    def check(self) -> None:
        """Raise what is missing: nginx, or what the engine needs."""
        engine = ENGINES[self._settings.engine]
        engine.check(self._settings)
        if engine.serves_model:
            modelstore.require(self._settings)
        nginx.find(self._settings.gateway.nginx)

    def require_own(self) -> None:
        """Only this user's supervisor answers in the state folder: there is nobody else."""

    def check_gateway(self, files: Callable[[Place], Mapping[str, str]]) -> None:
        """Let the installed nginx read its configuration in a scratch folder.

        It binds what it is to listen on, for a moment.
        """
        self._make_folder(self._layout.sockets / socket_folder(GATEWAY))
        nginx.check(nginx.find(self._settings.gateway.nginx), files)

    def place(self) -> Place:
        """Return where nginx keeps its files."""
        program = nginx.find(self._settings.gateway.nginx)
        return Place(
            self._layout.gateway,
            self._layout.logs,
            _spool(self._layout),
            worker_user=nginx.worker_user(),
            version=nginx.version(program),
            reserved=True,
            modules=nginx.modules(program),
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
        self._make_folders(described)
        if self._supervisor.alive():
            self._supervisor.reserve()
            return self._supervisor.apply(described, only)
        nginx.remove_leftovers(self._layout.gateway)
        self._remove_foreign_spool()
        first = tuple(program for program in described if program.name in only)
        self._supervisor.start(first)
        return tuple(program.name for program in first)

    def remove(self, names: AbstractSet[str]) -> None:
        """Stop programs, after the pages in flight, and forget them."""
        self._supervisor.remove(names)

    def stop(self, first: tuple[str, ...] = ()) -> bool:
        """Stop `first`, then everything else at once; return False when nothing ran."""
        ran = self._supervisor.stop(first)
        for folder, remove in (
            (self._layout.gateway, nginx.remove_leftovers),
            (self._layout.sockets, _remove_sockets),
        ):
            try:
                remove(folder)
            except OSError as error:
                raise DeploymentError(
                    f"`{folder}` cannot be emptied: {error.strerror}",
                    hint=f"sudo rm -rf {folder}, then try again",
                ) from error
        return ran

    def halt(self, name: str, *, at_once: bool = False) -> None:
        """Stop a program: after its pages, or `at_once`."""
        self._supervisor.halt(name, at_once=at_once)

    def start(self, name: str) -> None:
        """Start a program that was stopped."""
        self._supervisor.run(name)

    def signal(self, name: str, signal: str) -> None:
        """Send a signal, such as `HUP`, to one program."""
        if name == GATEWAY:
            self._supervisor.reserve()  # its port may have changed
        self._supervisor.signal(name, signal)

    def states(self) -> tuple[ProgramState, ...]:
        """Return every program's state, or nothing when the supervisor is down."""
        return self._supervisor.states()

    def orphans(self) -> tuple[ProgramState, ...]:
        """Return what a supervisor left that was killed, or that is frozen."""
        return self._supervisor.orphans()

    def end_orphans(self) -> None:
        """End what a supervisor left that was killed: it would hold the gateway's port."""
        if not self.states():
            self._supervisor.stop()

    def lost_ports(self, *, renew: bool = False) -> tuple[str, ...]:
        """Return the gateway's ports that the supervisor could not hold; `renew` tries again."""
        return self._supervisor.lost_ports(renew=renew)

    def session(self) -> requests.Session:
        """Return a session; the replicas listen on this machine."""
        return chat.session(unixhttp.below(self._layout.sockets))

    def tail(self, name: str, lines: int) -> str:
        """Return the last lines of a program's log."""
        return self._supervisor.tail(name, lines)

    def show_logs(self, name: str | None, *, lines: int, follow: bool) -> None:
        """Print the end of one program's log, or of all of them."""
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

    def _make_folders(self, programs: tuple[Program, ...]) -> None:
        """Make the sockets' folders, which only this user enters."""
        for program in programs:
            if program.socket:
                self._make_folder(program.socket.parent)
        with statefolder.closing():
            sockets.keep_out(self._layout.spool)

    def _remove_foreign_spool(self) -> None:
        """Remove a spool that containers left, to which this user's nginx cannot append."""
        spool = _spool(self._layout)
        if spool.exists() and spool.stat().st_uid != os.geteuid():
            spool.unlink()

    def _make_folder(self, folder: Path) -> None:
        with statefolder.closing():
            for closed in (self._layout.run, self._layout.sockets, folder):
                sockets.keep_out(closed)

    def _with_nginx(self, programs: tuple[Program, ...]) -> tuple[Program, ...]:
        """Return the programs, with this machine's nginx as the gateway's."""
        found = nginx.find(self._settings.gateway.nginx)
        command = nginx.command(found, self._layout.nginx_configuration)
        return tuple(
            replace(program, program=command) if program.name == GATEWAY else program
            for program in programs
        )


def _remove_sockets(folder: Path) -> None:
    """Remove the sockets and the spool: containers are another user, who cannot replace them.

    Where something still serves, it is none of this runtime's, and all of them stay.
    """
    if any(map(sockets.is_served, folder.glob(f"*/{SOCKET}"))) or not folder.exists():
        return
    sockets.remove_all(folder)
    folder.rmdir()


def _spool(layout: Layout) -> Path:
    return layout.spool / SPOOL
