"""The docker runtime: Compose changes the containers, the SDK tells what they do."""

import contextlib
import datetime as dt
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests
from docker.models.containers import Container

from cloister import containers, modelstore, shell
from cloister.config import Settings
from cloister.engines import ENGINES
from cloister.errors import DeploymentError, GatewayError, ToolError
from cloister.files import write_atomically
from cloister.gateway import Place
from cloister.layout import Layout
from cloister.runtimes.docker import neighbours, overlay, preflight, reach
from cloister.runtimes.docker.addresses import site
from cloister.runtimes.program import EXPORTER, GATEWAY, Program, ProgramState, State

_COMPOSE_S = 900.0
_PLACE = Place(Path("/run/cloister"), None, owner=10001)
_MODEL = Path("/model")
_NO_PROJECT = Path("/")  # without files Compose takes those of the current folder or above it
_NEVER = "0001-01-01"
_STATES: dict[str, State] = {
    "created": "starting",
    "restarting": "backoff",
    "removing": "stopped",
    "paused": "failed",
    "exited": "stopped",
    "dead": "failed",
}
_HEALTH: dict[str, State] = {"starting": "starting", "unhealthy": "failed"}


class DockerRuntime:
    """Keeps the containers of one Compose project."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._layout = Layout(settings.state_dir)
        self._project = settings.docker.project
        self._overlay = self._layout.docker / "compose.yaml"

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

    def apply(self, programs: tuple[Program, ...]) -> tuple[str, ...]:
        """Make exactly these programs run; return the names of those started or replaced."""
        text = overlay.render(self._settings, programs, neighbours.remembered(self._layout))
        write_atomically(self._overlay, text)
        before = {container.id for container in self._containers().values()}
        self._compose(
            *overlay.files(self._settings, self._overlay),
            *("up", "--detach", "--no-build", "--pull=never", "--remove-orphans"),
        )
        after = self._containers()
        return tuple(sorted(name for name, found in after.items() if found.id not in before))

    def stop(self, first: tuple[str, ...] = ()) -> bool:
        """Stop `first`, then everything else at once; return False when nothing ran."""
        running = self._containers()
        if not running:
            return False
        # The gateway first: it lets go of its port and finishes the pages in flight.
        leading = [name for name in first if name in running]
        if leading:
            self._compose("stop", *leading)
        self._compose("down", "--remove-orphans")
        return True

    def restart(self, names: tuple[str, ...]) -> None:
        """Stop and start these programs, one after the other."""
        for name in names:
            self._compose("restart", name)

    def signal(self, name: str, signal: str) -> None:
        """Send a signal, such as `HUP`, to one program."""
        self._compose("kill", f"--signal={signal}", name)

    def states(self) -> tuple[ProgramState, ...]:
        """Return every container's state, in the order of their names."""
        found = [_state(name, container) for name, container in self._containers().items()]
        return tuple(sorted(found, key=lambda state: (state.name == GATEWAY, state.name)))

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
        container = self._containers().get(name)
        return container.logs(tail=lines).decode(errors="replace") if container else ""

    def show_logs(self, name: str | None, *, lines: int, follow: bool) -> None:
        """Print the ends of the logs; to `follow`, this process becomes what prints them."""
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

    def _compose(self, *arguments: str) -> None:
        """Run Compose with the variables of the deployment; its last lines become the error."""
        serves = ENGINES[self._settings.engine].serves_model
        model = modelstore.folder(self._settings) if serves else None
        gateway = self._layout.gateway
        command = (*containers.compose(), f"--project-name={self._project}", *arguments)
        try:
            shell.run(
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


def _state(name: str, container: Container) -> ProgramState:
    state: dict[str, Any] = container.attrs["State"]
    health = (state.get("Health") or {}).get("Status", "")
    since = state["StartedAt"] if state["Status"] == "running" else state["FinishedAt"]
    since = container.attrs["Created"] if since.startswith(_NEVER) else since
    age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(since)
    told: State = "running" if state["Status"] == "running" else _STATES[state["Status"]]
    if told == "stopped" and state["ExitCode"] != 0:
        told = "failed"
    return ProgramState(
        name=name,
        state=_HEALTH.get(health, told) if told == "running" else told,
        pid=state["Pid"] or None,
        since_s=max(0, int(age.total_seconds())),
        detail=_detail(state, health),
    )


def _detail(state: dict[str, Any], health: str) -> str:
    if state.get("OOMKilled"):
        return "out of memory: it went over its limit (`docker.engine_memory_mib`)"
    if state["Status"] != "running":
        return state.get("Error") or f"{state['Status']}, exit code {state['ExitCode']}"
    checks = (state.get("Health") or {}).get("Log") or []
    return f"{health}: {checks[-1]['Output'].strip()[:200]}" if checks else state["Status"]
