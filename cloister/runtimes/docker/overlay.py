"""What the docker runtime adds to the files in compose/: pure text and variables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cloister.config import Settings, project_root
from cloister.engines import ENGINES
from cloister.images import catalogue
from cloister.runtimes.docker.addresses import prefix, site
from cloister.runtimes.program import EXPORTER, GATEWAY, Program

FOLDER = "compose"
_HEADER = "# Rendered by Cloister from the settings; edits here are lost at the next `invoke up`.\n"


class _Override(list[Any]):
    """A list that replaces the one it would else be appended to: Compose's `!override`."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    _Override,
    lambda dumper, value: dumper.represent_sequence("!override", list(value), flow_style=True),
)


def files(settings: Settings, overlay: Path) -> tuple[str, ...]:
    """Return the Compose files of a deployment, as flags."""
    folder = project_root() / FOLDER
    own = settings.docker.override
    engine = folder / f"{settings.engine}.yaml"
    paths = (folder / "compose.yaml", engine, overlay, *([own] if own else []))
    return tuple(f"--file={path}" for path in paths)


def variables(settings: Settings, *, gateway: Path, model: Path | None) -> dict[str, str]:
    """Return what the files in compose/ leave open; pure.

    `gateway` is the folder of nginx' configuration, `model` that of the model.
    """
    docker, address = settings.docker, str(settings.gateway.address)
    bodies_mib = docker.gateway_memory_mib * 2 // 3
    return {
        "CLOISTER_DOCKER_PROJECT": docker.project,
        "CLOISTER_DOCKER_IMAGES": docker.images,
        "CLOISTER_DOCKER_TAG": docker.tag,
        "CLOISTER_DOCKER_GATEWAY_MEMORY_MIB": str(docker.gateway_memory_mib),
        "CLOISTER_DOCKER_ENGINE_MEMORY_MIB": str(docker.engine_memory_mib),
        "CLOISTER_NET": prefix(docker),
        "CLOISTER_GATEWAY_ADDRESS": f"[{address}]" if ":" in address else address,
        "CLOISTER_GATEWAY_PORT": str(settings.gateway.port),
        "CLOISTER_GATEWAY_FOLDER": str(gateway),
        "CLOISTER_GATEWAY_TMPFS": f"size={bodies_mib}m",
        "CLOISTER_GATEWAY_STOP": f"{settings.gateway.timeout_s + 10}s",
        "CLOISTER_MODEL_FOLDER": str(model or "/nowhere"),
        "CLOISTER_MODELS": str(settings.model.store),
    }


def render(settings: Settings, programs: Sequence[Program], attached: Sequence[str]) -> str:
    """Return the overlay: flags, further replicas and attached networks; pure."""
    replicas = [program for program in programs if program.role == "engine"]
    services: dict[str, Any] = {
        program.name: _replica(settings, program, number) for number, program in enumerate(replicas)
    }
    services |= {
        program.name: {"command": list(program.flags)}
        for program in programs
        if program.role == EXPORTER
    }
    overlay: dict[str, Any] = {"services": services}
    if attached:
        services[GATEWAY] = {"networks": {name: {"aliases": ["cloister"]} for name in attached}}
        overlay["networks"] = {name: {"name": name, "external": True} for name in attached}
    text: str = yaml.dump(overlay, Dumper=_Dumper, sort_keys=False, width=1000)
    return _HEADER + text


def _replica(settings: Settings, program: Program, number: int) -> Mapping[str, Any]:
    engine = settings.engine
    host, _ = site(settings).replicas[number]
    service: dict[str, Any] = {
        "command": list(program.flags),
        "stop_grace_period": f"{program.stop_wait_s}s",
    }
    if number > 0:
        first = f"{ENGINES[engine].family}-1"
        path = str(project_root() / FOLDER / f"{engine}.yaml")
        service = {
            "extends": {"file": path, "service": first},
            **service,
            "networks": {"cloister-internal": {"ipv4_address": host}},
        }
    if settings.docker.baked and ENGINES[engine].serves_model:
        service["image"] = catalogue()[ENGINES[engine].image].baked(settings.docker)
        service["volumes"] = _Override()
    if tessdata := settings.tesseract.tessdata_dir:
        service["volumes"] = [f"{tessdata}:{tessdata}:ro"]
    if engine == "vllm-cuda":
        device = {
            "driver": "nvidia",
            "device_ids": [str(program.gpu or 0)],
            "capabilities": ["gpu"],
        }
        service["deploy"] = {"resources": {"reservations": {"devices": _Override([device])}}}
    return service
