"""What has to be there before containers are started, each with what to type when it is not."""

from ipaddress import ip_network
from typing import Any

import docker
from docker.errors import ImageNotFound

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
    if engine.serves_model:
        modelstore.require(settings)
    _require_images(client, settings.docker, engine.image)
    if engine.image == "vllm-cuda":
        _require_gpu_runtime(client)
    _require_free_addresses(client, settings.docker)


def _require_images(client: docker.DockerClient, settings: DockerSettings, engine: str) -> None:
    missing = []
    for name in (*_BESIDE_ENGINES, engine):
        try:
            client.images.get(reference(name, settings))
        except ImageNotFound:
            missing.append(name)
    if missing:
        device = catalogue()[engine].engine
        flag = f" --engine={device}" if device else ""
        wanted = ", ".join(f"`{reference(name, settings)}`" for name in missing)
        raise DeploymentError(
            f"{'images are' if len(missing) > 1 else 'an image is'} missing: {wanted}",
            hint=f"invoke images.build{flag}",
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
        if attributes.get("Labels", {}).get("com.docker.compose.project") == settings.project:
            continue
        for pool in (attributes.get("IPAM") or {}).get("Config") or []:
            taken = ip_network(pool.get("Subnet", "::1/128"))
            if taken.version == 4 and taken.overlaps(settings.subnet):  # noqa: PLR2004  # IPv4
                raise DeploymentError(
                    f"the network `{network.name}` has {taken}, which `docker.subnet` "
                    f"({settings.subnet}) overlaps",
                    hint="choose another with `--set docker.subnet=172.30.41.0/24`",
                )
