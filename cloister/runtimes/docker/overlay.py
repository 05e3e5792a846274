"""What the docker runtime adds to the files in compose/: pure text and variables."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cloister.config import DockerSettings, Settings, project_root
from cloister.endpoint import Endpoint, UnixSocket
from cloister.engines import ENGINES
from cloister.images import catalogue
from cloister.layout import Layout
from cloister.runtimes.docker.addresses import ALL, OWN, SPOOL_FOLDER, prefix, site
from cloister.runtimes.program import (
    EXPORTER,
    GATEWAY,
    Program,
    gateway_stop_s,
    socket_folder,
)

FOLDER = "compose"
ALIAS = "cloister"  # by which other projects' containers find the gateway, as by its own name
_DEFAULT = DockerSettings().project
# On SELinux hosts: the folder gets the label that all containers may use. Ignored elsewhere.
_SHARED = "z"
_HEADER = "# Rendered by Cloister from the settings; edits here are lost at the next `invoke up`.\n"


class _Override(list[Any]):
    """A list that replaces the one it would else be appended to: Compose's `!override`."""


class _Reset:
    """What takes a value away that an earlier file gave: Compose's `!reset`."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    _Override,
    lambda dumper, value: dumper.represent_sequence("!override", list(value), flow_style=True),
)
_Dumper.add_representer(_Reset, lambda dumper, _: dumper.represent_scalar("!reset", "null"))


def files(settings: Settings, overlay: Path) -> tuple[str, ...]:
    """Return the Compose files of a deployment, as flags."""
    folder = project_root() / FOLDER
    own = settings.docker.override
    engine = folder / f"{settings.engine}.yaml"
    network = [folder / "internal.yaml"] if settings.docker.engine_network == "internal" else []
    paths = (folder / "compose.yaml", engine, *network, overlay, *([own] if own else []))
    return tuple(f"--file={path}" for path in paths)


def variables(settings: Settings, model: Path | None) -> dict[str, str]:
    """Return what the files in compose/ leave open; pure.

    `model` is the folder of the model.
    """
    docker, address = settings.docker, str(settings.gateway.address)
    bodies_mib = docker.gateway_memory_mib * 2 // 3
    return {
        # The files name the default project, some of whose containers have no prefix.
        "CLOISTER_DOCKER_PROJECT": "" if docker.project == _DEFAULT else docker.project,
        "CLOISTER_DOCKER_IMAGES": docker.images,
        "CLOISTER_DOCKER_TAG": docker.tag,
        "CLOISTER_DOCKER_GATEWAY_MEMORY_MIB": str(docker.gateway_memory_mib),
        "CLOISTER_DOCKER_ENGINE_MEMORY_MIB": str(docker.engine_memory_mib),
        "CLOISTER_NET": prefix(docker),
        "CLOISTER_GATEWAY_ADDRESS": f"[{address}]" if ":" in address else address,
        "CLOISTER_GATEWAY_PORT": str(settings.gateway.port),
        "CLOISTER_SECCOMP": str(project_root() / FOLDER / "seccomp.json"),
        "CLOISTER_GATEWAY_TMPFS": f"size={bodies_mib}m",
        "CLOISTER_GATEWAY_STOP": f"{gateway_stop_s(settings)}s",
        "CLOISTER_MODEL_FOLDER": str(model or "/nowhere"),
        "CLOISTER_MODELS": str(settings.model.store),
    }


def container_name(docker: DockerSettings, service: str) -> str:
    """Return the name of a service's container.

    In the default project gateway and vLLM are found by the names of their services.
    """
    bare = docker.project == _DEFAULT and service.startswith("vllm-")
    return service if bare else f"{docker.project}-{service}"


def own_network(docker: DockerSettings) -> str:
    """Return the name of the network on which clients of this machine find the gateway."""
    return f"{docker.project}-default"


def internal_network(docker: DockerSettings) -> str:
    """Return the name of the engines' network, where they have one."""
    return f"{docker.project}-internal"


def render(settings: Settings, programs: Sequence[Program], attached: Sequence[str]) -> str:
    """Return the overlay: flags, places of sockets, further replicas, attached networks; pure."""
    replicas = [program for program in programs if program.role == "engine"]
    services: dict[str, Any] = {
        program.name: _replica(settings, program, number) for number, program in enumerate(replicas)
    }
    layout = Layout(settings.state_dir)
    # All sockets by the folder above them, once: a mount a replica would mean another gateway at
    # each `scale`. Connecting needs no right to write there.
    everything = f"{layout.sockets}:{ALL}:ro,{_SHARED}"
    spool = f"{layout.spool}:{SPOOL_FOLDER}:{_SHARED}"
    services |= {
        program.name: {
            "command": list(program.flags),
            "volumes": _Override([everything, _socket(layout, program.name), spool]),
        }
        for program in programs
        if program.role == EXPORTER
    }
    etc = f"{layout.gateway}:/etc/cloister:ro,{_SHARED}"
    gateway: dict[str, Any] = {
        "volumes": _Override([etc, everything, _socket(layout, GATEWAY), spool])
    }
    services[GATEWAY] = gateway
    overlay: dict[str, Any] = {"services": services}
    if attached:
        gateway["networks"] = {name: {"aliases": [ALIAS]} for name in attached}
        overlay["networks"] = {name: {"name": name, "external": True} for name in attached}
    text: str = yaml.dump(overlay, Dumper=_Dumper, sort_keys=False, width=1000)
    return _HEADER + text


def _replica(settings: Settings, program: Program, number: int) -> Mapping[str, Any]:
    engine = settings.engine
    service: dict[str, Any] = {
        "command": list(program.flags),
        "stop_grace_period": f"{program.stop_wait_s}s",
    }
    service |= _on_network(site(settings).replicas[number].inside)
    service["volumes"] = _Override(_volumes(settings, program))
    if number > 0:
        first = f"{ENGINES[engine].family}-1"
        path = str(project_root() / FOLDER / f"{engine}.yaml")
        service = {
            "extends": {"file": path, "service": first},
            "container_name": container_name(settings.docker, program.name),
            **service,
        }
    if settings.docker.baked and ENGINES[engine].serves_model:
        service["image"] = catalogue()[ENGINES[engine].image].baked(settings.docker)
    if engine == "vllm-cuda":
        device = {
            "driver": "nvidia",
            "device_ids": [str(program.gpu or 0)],
            "capabilities": ["gpu"],
        }
        service["deploy"] = {"resources": {"reservations": {"devices": _Override([device])}}}
    return service


def _volumes(settings: Settings, program: Program) -> Iterator[str]:
    """Yield all mounts of a replica, in place of those of the engine's file in compose/.

    A replica that listens by TCP has no folder for a socket: it could only fill it.
    """
    if settings.docker.engine_network == "none":
        yield _socket(Layout(settings.state_dir), program.name)
    if ENGINES[settings.engine].serves_model and not settings.docker.baked:
        yield "${CLOISTER_MODEL_FOLDER}:/model:ro"  # as in compose/vllm.yaml
    if tessdata := settings.tesseract.tessdata_dir:
        yield f"{tessdata}:{tessdata}:ro"


def _on_network(endpoint: Endpoint) -> Mapping[str, Any]:
    """Return what puts a replica that listens by TCP on a network; nothing for a socket."""
    if isinstance(endpoint, UnixSocket):
        return {}
    return {
        "network_mode": _Reset(),
        "networks": {"cloister-internal": {"ipv4_address": endpoint.host}},
        "dns": ["127.0.0.1"],
        "environment": {"CLOISTER_HEALTH_AT": f"127.0.0.1:{endpoint.port}"},
    }


def _socket(layout: Layout, name: str) -> str:
    return f"{layout.sockets / socket_folder(name)}:{OWN}:{_SHARED}"
