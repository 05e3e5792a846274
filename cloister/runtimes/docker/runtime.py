"""The docker runtime: Compose changes the containers, the SDK tells what they do."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import requests
from docker.models.containers import Container

from cloister import chat, containers, modelstore, shell, unixhttp
from cloister.config import Settings
from cloister.engines import ENGINES
from cloister.errors import DeploymentError, ToolError
from cloister.files import write_atomically
from cloister.gateway import Place
from cloister.layout import Layout
from cloister.runtimes.docker import (
    folders,
    neighbours,
    overlay,
    ownership,
    preflight,
    states,
    trial,
)
from cloister.runtimes.docker.addresses import SPOOL_FOLDER
from cloister.runtimes.program import (
    GATEWAY,
    SPOOL,
    WATCHDOG,
    Changes,
    Program,
    ProgramState,
    longest_stop_s,
    socket_folder,
)
from cloister.runtimes.supervisor import Supervisor

_COMPOSE_S = 900.0
_PLACE = Place(Path("/run/cloister"), None, SPOOL_FOLDER / SPOOL, owner=10001)
_MODEL = Path("/model")
_NO_PROJECT = Path("/")  # without files Compose takes those of the current folder or above it
_HASH = "com.docker.compose.config-hash"


class DockerRuntime:
    """Keeps the containers of one Compose project."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._layout = Layout(settings.state_dir)
        self._project = settings.docker.project
        self._overlay = self._layout.docker / "compose.yaml"
        # What has to reach the Docker engine stays outside of it: no container gets its socket.
        self._beside = Supervisor(self._layout, longest_stop_s(settings))

    def check(self) -> None:
        """Raise what is missing: engine, Compose, images, GPU runtime, addresses, model."""
        containers.compose()
        self.require_own()
        with containers.explained():
            preflight.check(containers.connect(), self._settings)

    def require_own(self) -> None:
        """Raise DeploymentError while somebody else's containers run in the project."""
        ownership.require(self._members(), self._overlay, self._project)

    def check_gateway(self, files: Callable[[Place], Mapping[str, str]]) -> None:
        """Let the gateway's own image read its configuration, on no network at all."""
        image = preflight.reference("gateway", self._settings.docker)
        trial.check(image, files(_PLACE))

    def place(self) -> Place:
        """Return where nginx keeps its files inside its container."""
        return _PLACE

    def model(self) -> Path:
        """Return where compose/vllm.yaml mounts the model."""
        return _MODEL

    def changes(self, programs: tuple[Program, ...]) -> Changes:
        """Return what `apply` would do, as Compose's own hashes of the services tell it."""
        inside, beside = _apart(programs)
        self._describe(inside)
        there = self._containers()
        idle = {name for name, found in there.items() if found.status != "running"}
        hashes = self._hashes()
        wanted = set(hashes)  # a service of the user's own file is there as well
        changed = {
            name
            for name in wanted & set(there)
            if there[name].labels.get(_HASH) != hashes[name] or self._outdated(there[name])
        }
        ours = self._beside.changes(beside)
        return Changes(
            added=frozenset(wanted - set(there) | (wanted & idle) - changed) | ours.added,
            changed=frozenset(changed) | ours.changed,
            removed=frozenset(set(there) - wanted) | ours.removed,
        )

    def apply(self, programs: tuple[Program, ...], only: AbstractSet[str]) -> tuple[str, ...]:
        """Make `only` these programs run as they are described; return those (re)started."""
        inside, beside = _apart(programs)
        self._describe(inside)
        folders.make(self._layout, inside)
        found = self.changes(programs)
        started = (found.added | found.changed) & only
        services = sorted(started - {program.name for program in beside})
        if services:
            self._empty_folders({program.name for program in inside} & started)
            flags = ("up", "--detach", "--no-build", "--pull=never", "--no-deps")
            self._compose(*self._files(), *flags, *services)
        if self._beside.alive():
            self._beside.apply(beside, only)
        elif any(program.name in only for program in beside):
            self._beside.start(beside)
        return tuple(sorted(started))

    def _empty_folders(self, names: AbstractSet[str]) -> None:
        """Stop what is to be replaced, and remove what it left before its successor listens."""
        there = set(self._containers())
        if stopping := sorted(names & there):
            self._compose("stop", *stopping)
        for name in sorted(names):
            folders.empty(self._layout.sockets / socket_folder(name), self._settings.docker)
        if GATEWAY in names - there:
            folders.forget_process(self._layout, self._settings.docker)

    def remove(self, names: AbstractSet[str]) -> None:
        """Stop containers, after the pages in flight, and remove them."""
        there, docker = self._containers(), self._settings.docker
        if self._beside.alive():
            self._beside.remove(names - set(there))
        with containers.explained():
            for name in sorted(names & set(there)):
                containers.stop(there[name])
                there[name].remove()
                if folder := folders.find(self._layout, there[name]):
                    folders.remove(folder, docker)

    def stop(self, first: tuple[str, ...] = ()) -> bool:
        """Stop `first`, then everything else at once; return False when nothing ran."""
        self.require_own()
        watched = self._beside.stop()
        with containers.explained():
            # What a proof left that was killed shares the network of what is stopped.
            containers.sweep(containers.connect(), self._project)
        running = self._containers()
        if running:
            # The gateway first: it lets go of its port and finishes the pages in flight.
            leading = [name for name in first if name in running]
            if leading:
                self._compose("stop", *leading)
            containers.once_released(lambda: self._compose("down", "--remove-orphans"))
        # Also what an earlier attempt could not remove.
        folders.remove(self._layout.sockets, self._settings.docker)
        return watched or bool(running)

    def halt(self, name: str, *, at_once: bool = False) -> None:
        """Stop a container: after its pages, or `at_once`."""
        if name == WATCHDOG:
            self._beside.halt(name, at_once=at_once)
            return
        with containers.explained():
            container = self._container(name)
            if container.status == "paused":  # or Docker refuses to stop it
                container.unpause()
            container.stop(timeout=0) if at_once else containers.stop(container)

    def start(self, name: str) -> None:
        """Start a container that was stopped, with an empty folder for its socket."""
        if name == WATCHDOG:
            self._beside.run(name)
            return
        container = self._container(name)
        folder = folders.find(self._layout, container)
        if folder and folder.is_dir():
            folders.empty(folder, self._settings.docker)
        with containers.explained():
            container.start()

    def signal(self, name: str, signal: str) -> None:
        """Send a signal, such as `HUP`, to one program."""
        self._compose("kill", f"--signal={signal}", name)

    def states(self) -> tuple[ProgramState, ...]:
        """Return every container's state, in the order of their names."""
        found = [states.of(name, container) for name, container in self._containers().items()]
        found.sort(key=lambda state: (state.name == GATEWAY, state.name))
        return (*found, *self._beside.states())

    def orphans(self) -> tuple[ProgramState, ...]:
        """Return the watchdog whose supervisor was killed, or is frozen."""
        return self._beside.orphans()

    def end_orphans(self) -> None:
        """Nothing is left that is in the way of a start; the watchdog's supervisor ends its own."""

    def lost_ports(self, *, renew: bool = False) -> tuple[str, ...]:  # noqa: ARG002
        """Docker holds the ports that it publishes."""
        return ()

    def session(self) -> requests.Session:
        """Return a session; the replicas' sockets are in folders of this machine."""
        return chat.session(unixhttp.below(self._layout.sockets))

    def tail(self, name: str, lines: int) -> str:
        """Return the last lines that a program wrote."""
        if name == WATCHDOG:
            return self._beside.tail(name, lines)
        container = self._containers().get(name)
        with containers.explained():
            return container.logs(tail=lines).decode(errors="replace") if container else ""

    def show_logs(self, name: str | None, *, lines: int, follow: bool) -> None:
        """Print the ends of the logs, and to `follow` what comes, until Ctrl-C."""
        if name == WATCHDOG:
            shell.tail((self._layout.logs / f"{name}.log",), lines=lines, follow=follow)
            return
        services = sorted(self._containers())
        if name is not None and name not in services:
            raise DeploymentError(
                f"no log `{name}`; there are {', '.join(services) or 'none'}", hint="invoke status"
            )
        flags = [f"--tail={lines}", *(["--follow"] if follow else []), *([name] if name else [])]
        command = (*containers.compose(), f"--project-name={self._project}", "logs", *flags)
        shell.relay(command, folder=_NO_PROJECT)

    def _containers(self) -> dict[str, Container]:
        return ownership.select(self._members(), self._overlay)

    def _members(self) -> dict[str, Container]:
        with containers.explained():
            return containers.members(containers.connect(), self._project)

    def _container(self, name: str) -> Container:
        found = self._containers().get(name)
        if found is None:
            raise DeploymentError(f"no container `{name}`", hint="invoke status")
        return found

    def _describe(self, programs: tuple[Program, ...]) -> None:
        text = overlay.render(self._settings, programs, neighbours.remembered(self._layout))
        write_atomically(self._overlay, text, mode=0o600)

    def _files(self) -> tuple[str, ...]:
        return overlay.files(self._settings, self._overlay)

    def _hashes(self) -> dict[str, str]:
        """Return what Compose would write on each service's container."""
        lines = self._compose(*self._files(), "config", "--hash=*").splitlines()
        return dict(line.split() for line in lines)

    def _outdated(self, container: Container) -> bool:
        """Tell whether the image was built anew under the same name."""
        with containers.explained():
            name = container.attrs["Config"]["Image"]
            found = containers.connect().images.list(name)
        return not any(image.id == container.attrs["Image"] for image in found)

    def _compose(self, *arguments: str) -> str:
        """Run Compose with the variables of the deployment; its last lines become the error."""
        serves = ENGINES[self._settings.engine].serves_model
        model = modelstore.folder(self._settings) if serves else None
        command = (*containers.compose(), f"--project-name={self._project}", *arguments)
        try:
            done = shell.run(
                command,
                timeout_s=_COMPOSE_S + longest_stop_s(self._settings),
                environment=overlay.variables(self._settings, model),
                folder=_NO_PROJECT,
            )
        except ToolError as error:
            last = [line.strip() for line in error.message.splitlines() if line.strip()][-2:]
            raise DeploymentError(
                f"Compose failed: {' / '.join(last)}", hint="invoke logs"
            ) from error
        return done.stdout


def _apart(programs: tuple[Program, ...]) -> tuple[tuple[Program, ...], tuple[Program, ...]]:
    """Return what runs in containers, and what runs beside them."""
    inside = tuple(program for program in programs if program.role != "watchdog")
    return inside, tuple(program for program in programs if program.role == "watchdog")
