"""What has to be there before containers are started, each with what to type when it is not."""

from ipaddress import ip_network
from typing import Any

import docker

from cloister import modelstore
from cloister.config import DockerSettings, Settings
from cloister.engines import ENGINES
from cloister.errors import DeploymentError
from cloister.images import catalogue

_BESIDE_ENGINES = ("gateway", "exporter")


def reference(image: str, docker: DockerSettings) -> str:
    """Return the name and tag of one of our images."""
    return catalogue()[image].reference(docker)


def check(client: docker.DockerClient, settings: Settings) -> None:
    """Raise DeploymentError or ModelStoreError for the first thing that is missing."""
    engine = ENGINES[settings.engine]
    baked = settings.docker.baked and engine.serves_model
    if not engine.serves_model:
        engine.check(settings)  # its image has the data that this machine has
    elif not baked:
        modelstore.require(settings)
    _require_images(client, settings.docker, engine.image, baked=baked)
    if engine.image == "vllm-cuda":
        _require_gpu_runtime(client)
    _require_free_addresses(client, settings.docker)


def _require_images(
    client: docker.DockerClient, settings: DockerSettings, engine: str, *, baked: bool
) -> None:
    wanted = [reference(name, settings) for name in _BESIDE_ENGINES]
    wanted.append(catalogue()[engine].baked(settings) if baked else reference(engine, settings))
    missing = [f"`{name}`" for name in wanted if not client.images.list(name)]
    if missing:
        device = catalogue()[engine].engine
        flags = f" --engine {device}" * bool(device) + " --bake" * baked
        raise DeploymentError(
            f"{'images are' if len(missing) > 1 else 'an image is'} missing: {', '.join(missing)}",
            hint=f"invoke images.build{flags}",
        )


def _require_gpu_runtime(client: docker.DockerClient) -> None:
    info: dict[str, Any] = client.info()
    if "nvidia" not in info.get("Runtimes", {}) and not info.get("CDISpecDirs"):
        raise DeploymentError(
            "the Docker engine cannot give GPUs to containers: it has no NVIDIA runtime",
            hint="install nvidia-container-toolkit (1.17.8 or newer), then: "
            "sudo nvidia-ctk runtime configure && sudo systemctl restart docker",
        )


def _require_free_addresses(client: docker.DockerClient, settings: DockerSettings) -> None:
    for network in client.networks.list():
        attributes: dict[str, Any] = network.attrs
        if (attributes.get("Labels") or {}).get("com.docker.compose.project") == settings.project:
            continue
        for pool in (attributes.get("IPAM") or {}).get("Config") or []:
            taken = ip_network(pool.get("Subnet", "::1/128"))
            if taken.version == 4 and taken.overlaps(settings.subnet):  # noqa: PLR2004  # IPv4
                raise DeploymentError(
                    f"the network `{network.name}` has {taken}, which `docker.subnet` "
                    f"({settings.subnet}) overlaps",
                    hint="choose another with `--set docker.subnet=172.30.41.0/24`",
                )
