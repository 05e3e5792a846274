"""What a proof of the seal looks at: containers, their plan, and the engine that has them."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import docker
from docker.models.containers import Container

from cloister.config import Settings
from cloister.isolation.fixes import undo
from cloister.isolation.part import Bridge, Part
from cloister.runtimes import EXPORTER, GATEWAY
from cloister.runtimes.docker import internal_network, own_network


@dataclass(frozen=True)
class Scene:
    """A deployment that is up.

    `members` are its project's containers, `parts` the planned ones, `allowed` the lines of
    `docker.allowed_differences`, `images` the identities of the images that `up` made them of.
    """

    client: docker.DockerClient
    settings: Settings
    members: Mapping[str, Container]
    parts: Mapping[str, Part]
    allowed: AbstractSet[str]
    images: Mapping[str, str]

    @property
    def project(self) -> str:
        """The name of its Compose project."""
        return self.settings.docker.project

    @property
    def fix(self) -> str:
        """What makes a container as planned."""
        return undo(self.settings.docker.override)

    @property
    def probe_image(self) -> str:
        """The image that probes run in: the exporter's, by its identity and not by its tag."""
        return self.parts[EXPORTER].image.identity

    @property
    def bridges(self) -> tuple[Bridge, ...]:
        """The project's own networks."""
        docker, prefix = self.settings.docker, self.settings.docker.subnet.network_address
        gateway = self.parts[GATEWAY].container
        own = Bridge(own_network(docker), f"{prefix + 128}/26", (gateway,))
        if docker.engine_network == "none":
            return (own,)
        everybody = tuple(part.container for part in self.parts.values())
        return (own, Bridge(internal_network(docker), f"{prefix}/25", everybody, internal=True))
