"""Other projects' networks that the gateway is joined to, kept so that `up` keeps them."""

import json
from typing import Any

from docker.errors import APIError, NotFound

from cloister import containers
from cloister.config import Settings
from cloister.errors import DeploymentError
from cloister.files import write_atomically
from cloister.layout import Layout
from cloister.runtimes.docker.overlay import ALIAS
from cloister.runtimes.program import GATEWAY


def remembered(layout: Layout) -> tuple[str, ...]:
    """Return the names of the networks that were attached."""
    path = layout.docker / "attached.json"
    return tuple(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else ()


def attached(settings: Settings) -> tuple[str, ...]:
    """Return the names of the attached networks."""
    return remembered(Layout(settings.state_dir))


def attach(settings: Settings, name: str) -> None:
    """Join the gateway to a network, where it is found as `cloister`.

    Raises DeploymentError when there is no such network, or when it is one of our own.
    """
    layout = Layout(settings.state_dir)
    with containers.explained():
        client = containers.connect()
        network = _network(client, settings, name)
        try:
            network.connect(_gateway(client, settings), aliases=[ALIAS])
        except APIError as error:
            if "already exists in network" not in str(error):
                raise
    _remember(layout, {*remembered(layout), name})


def detach(settings: Settings, name: str) -> None:
    """Take the gateway off a network again."""
    layout = Layout(settings.state_dir)
    if name not in remembered(layout):
        raise DeploymentError(
            f"the gateway is not attached to `{name}`; "
            f"it is to {', '.join(remembered(layout)) or 'none'}"
        )
    _remember(layout, {*remembered(layout)} - {name})
    with containers.explained():
        client = containers.connect()
        _network(client, settings, name).disconnect(_gateway(client, settings), force=True)


def _network(client: Any, settings: Settings, name: str) -> Any:
    own = {f"{settings.docker.project}-{kind}" for kind in ("internal", "default", "download")}
    if name in own:
        raise DeploymentError(f"`{name}` is Cloister's own network; name another project's")
    try:
        return client.networks.get(name)
    except NotFound as error:
        names = sorted(network.name for network in client.networks.list())
        raise DeploymentError(
            f"no network `{name}`; there are {', '.join(names)}",
            hint=f"docker network create {name}, or start the project that has it",
        ) from error


def _gateway(client: Any, settings: Settings) -> Any:
    found = containers.members(client, settings.docker.project).get(GATEWAY)
    if found is None:
        raise DeploymentError("the gateway does not run in Docker", hint="invoke up")
    return found


def _remember(layout: Layout, names: set[str]) -> None:
    text = json.dumps(sorted(names), indent=2) + "\n"
    write_atomically(layout.docker / "attached.json", text, mode=0o600)
