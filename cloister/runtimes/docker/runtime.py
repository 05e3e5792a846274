"""The docker runtime: Compose changes the containers, the SDK tells what they do."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import requests
from docker.models.containers import Container
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from cloister import containers, modelstore, shell
from cloister.config import Settings
from cloister.engines import ENGINES
from cloister.errors import DeploymentError, GatewayError, ToolError
from cloister.files import write_atomically
from cloister.gateway import Place
from cloister.layout import Layout
from cloister.runtimes.docker import neighbours, overlay, preflight, reach, states
from cloister.runtimes.docker.addresses import site
from cloister.runtimes.program import (
    EXPORTER,
    GATEWAY,
    WATCHDOG,
    Changes,
    Program,
    ProgramState,
)
from cloister.runtimes.supervisor import Supervisor

_COMPOSE_S = 900.0
_ENDPOINTS_S, _ENDPOINTS_PAUSE_S = 60.0, 1.0
_PLACE = Place(Path("/run/cloister"), None, owner=10001)
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
        self._beside = Supervisor(self._layout)

    def check(self) -> None:
        """Raise what is missing: engine, Compose, images, GPU runtime, addresses, model."""
        containers.compose()
        with containers.explained():
            preflight.check(containers.connect(), self._settings)

    def check_gateway(self, files: Callable[[Place], Mapping[str, str]]) -> None:
        """Let the gateway's own image read its configuration, on no network at all."""
        image = preflight.reference("gateway", self._settings.docker)
        with tempfile.TemporaryDirectory(prefix="cloister-nginx-") as scratch:
            # Read by the image's user; the folder around it keeps everybody else out.
            folder = Path(scratch) / "etc"
            folder.mkdir(mode=0o755)
            for name, text in files(_PLACE).items():
                (folder / name).write_text(text, encoding="utf-8")
                (folder / name).chmod(0o644)
            with containers.explained():
                client = containers.connect()
                container = client.containers.create(
                    image,
                    ["-c", "/etc/cloister/nginx.conf", "-t"],
                    network_mode="none",
                    read_only=True,
                    cap_drop=["ALL"],
                    tmpfs={"/run/cloister": "uid=10001,gid=10001,mode=0700"},
                    volumes={str(folder): {"bind": "/etc/cloister", "mode": "ro"}},
                )
                with contextlib.ExitStack() as cleanup:
                    cleanup.callback(container.remove, force=True)
                    container.start()
                    code = container.wait(timeout=30)["StatusCode"]
                    output = container.logs().decode(errors="replace").strip()
        if code != 0:
            raise GatewayError(f"nginx refuses the rendered configuration:\n{output}")

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
        found = self.changes(programs)
        started = (found.added | found.changed) & only
        services = sorted(started - {program.name for program in beside})
        if services:
            flags = ("up", "--detach", "--no-build", "--pull=never", "--no-deps")
            self._compose(*self._files(), *flags, *services)
        if self._beside.alive():
            self._beside.apply(beside, only)
        elif any(program.name in only for program in beside):
            self._beside.start(beside)
        return tuple(sorted(started))

    def remove(self, names: AbstractSet[str]) -> None:
        """Stop containers, after the pages in flight, and remove them."""
        there = self._containers()
        if self._beside.alive():
            self._beside.remove(names - set(there))
        with containers.explained():
            for name in sorted(names & set(there)):
                there[name].stop()
                there[name].remove()

    def stop(self, first: tuple[str, ...] = ()) -> bool:
        """Stop `first`, then everything else at once; return False when nothing ran."""
        watched = self._beside.stop()
        running = self._containers()
        if not running:
            return watched
        # The gateway first: it lets go of its port and finishes the pages in flight.
        leading = [name for name in first if name in running]
        if leading:
            self._compose("stop", *leading)
        self._remove_all()
        return True

    def _remove_all(self) -> None:
        """Remove containers and networks.

        A busy Docker releases an endpoint some time after its container is gone, and refuses to
        remove the network until then.
        """
        for attempt in Retrying(
            retry=retry_if_exception(lambda error: "active endpoints" in str(error)),
            stop=stop_after_delay(_ENDPOINTS_S),
            wait=wait_fixed(_ENDPOINTS_PAUSE_S),
            reraise=True,
        ):
            with attempt:
                self._compose("down", "--remove-orphans")

    def halt(self, name: str, *, at_once: bool = False) -> None:
        """Stop a container: after its pages, or `at_once`."""
        if name == WATCHDOG:
            self._beside.halt(name, at_once=at_once)
            return
        with containers.explained():
            container = self._container(name)
            # The grace period is the container's own, from compose/.
            container.stop(timeout=0) if at_once else container.stop()

    def start(self, name: str) -> None:
        """Start a container that was stopped."""
        if name == WATCHDOG:
            self._beside.run(name)
            return
        with containers.explained():
            self._container(name).start()

    def signal(self, name: str, signal: str) -> None:
        """Send a signal, such as `HUP`, to one program."""
        self._compose("kill", f"--signal={signal}", name)

    def states(self) -> tuple[ProgramState, ...]:
        """Return every container's state, in the order of their names."""
        found = [states.of(name, container) for name, container in self._containers().items()]
        found.sort(key=lambda state: (state.name == GATEWAY, state.name))
        return (*found, *self._beside.states())

    def session(self) -> requests.Session:
        """Return a session that asks the replicas from within."""
        names = {service: str(found.name) for service, found in self._containers().items()}
        family = ENGINES[self._settings.engine].family
        urls = {
            f"http://{host}:{port}": names.get(f"{family}-{number}", "")
            for number, (host, port) in enumerate(site(self._settings).replicas, start=1)
        }
        # The exporter asks for the gateway's own state, which has no Python.
        host, port = site(self._settings).status
        urls[f"http://{host}:{port}"] = names.get(EXPORTER, "")
        return reach.session(containers.connect(), urls)

    def tail(self, name: str, lines: int) -> str:
        """Return the last lines that a program wrote."""
        if name == WATCHDOG:
            return self._beside.tail(name, lines)
        container = self._containers().get(name)
        return container.logs(tail=lines).decode(errors="replace") if container else ""

    def show_logs(self, name: str | None, *, lines: int, follow: bool) -> None:
        """Print the ends of the logs; to `follow`, this process becomes what prints them."""
        if name == WATCHDOG:
            shell.tail((self._layout.logs / f"{name}.log",), lines=lines, follow=follow)
        services = sorted(self._containers())
        if name is not None and name not in services:
            raise DeploymentError(
                f"no log `{name}`; there are {', '.join(services) or 'none'}", hint="invoke status"
            )
        flags = [f"--tail={lines}", *(["--follow"] if follow else []), *([name] if name else [])]
        command = (*containers.compose(), f"--project-name={self._project}", "logs", *flags)
        sys.stdout.flush()
        os.chdir(_NO_PROJECT)
        os.execvp(command[0], command)  # noqa: S606  # a list, no shell

    def _containers(self) -> dict[str, Container]:
        with containers.explained():
            return containers.members(containers.connect(), self._project)

    def _container(self, name: str) -> Container:
        found = self._containers().get(name)
        if found is None:
            raise DeploymentError(f"no container `{name}`", hint="invoke status")
        return found

    def _describe(self, programs: tuple[Program, ...]) -> None:
        text = overlay.render(self._settings, programs, neighbours.remembered(self._layout))
        write_atomically(self._overlay, text)

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
        gateway = self._layout.gateway
        command = (*containers.compose(), f"--project-name={self._project}", *arguments)
        try:
            done = shell.run(
                command,
                timeout_s=_COMPOSE_S,
                environment=overlay.variables(self._settings, gateway=gateway, model=model),
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
