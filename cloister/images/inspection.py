"""What is in a built image, read from the image itself, and what must be true of it."""

import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import docker
from docker.errors import ImageNotFound

from cloister import containers
from cloister.errors import ImageError
from cloister.images.catalogue import Image

_OWNER = "10001:10001"
_SETUID = 0o6000
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "busybox"})
_PACKAGE_MANAGERS = frozenset({"apt", "apt-get", "dpkg", "rpm", "apk", "pip"})
_GATEWAY_MAX_BYTES = 40_000_000
_LABEL = "org.opencontainers.image."


@dataclass(frozen=True)
class Facts:
    """One built image: `size_bytes` is unpacked, `files` counts everything but folders."""

    reference: str
    id: str
    size_bytes: int
    user: str
    files: int
    setuid: tuple[str, ...]
    shells: tuple[str, ...]
    package_managers: tuple[str, ...]
    health_check: bool
    labels: Mapping[str, str]
    layers: tuple[str, ...]


def inspect(client: docker.DockerClient, reference: str) -> Facts:
    """Return the facts of a built image; reads all of its files once.

    Raises ImageError when it was not built.
    """
    try:
        attributes = client.images.get(reference).attrs
    except ImageNotFound as error:
        raise ImageError(f"`{reference}` was not built", hint="invoke images.build") from error
    config = attributes["Config"]
    members = [member for member in _members(client, reference) if not member.isdir()]
    programs = {m.name.rpartition("/")[2]: f"/{m.name}" for m in members if "bin/" in m.name}
    return Facts(
        reference=reference,
        id=attributes["Id"],
        size_bytes=attributes["Size"],
        user=config.get("User") or "root",
        files=len(members),
        setuid=tuple(f"/{m.name}" for m in members if m.isfile() and m.mode & _SETUID),
        shells=tuple(sorted(programs[name] for name in _SHELLS & programs.keys())),
        package_managers=tuple(sorted(programs[n] for n in _PACKAGE_MANAGERS & programs.keys())),
        health_check=bool((config.get("Healthcheck") or {}).get("Test")),
        labels=config.get("Labels") or {},
        layers=tuple(attributes["RootFS"]["Layers"]),
    )


def verify(image: Image, facts: Facts) -> tuple[str, ...]:
    """Return what is wrong with an image, nothing when it may be run; pure."""
    missing = [
        name
        for name in ("title", "version", "revision", "licenses", "base.name")
        if not facts.labels.get(_LABEL + name)
    ]
    wrong = [
        *([f"runs as `{facts.user}`, not as {_OWNER}"] if facts.user != _OWNER else []),
        *([f"has setuid files: {', '.join(facts.setuid[:5])}"] if facts.setuid else []),
        *(["has no health check"] if _serves(image) and not facts.health_check else []),
        *([f"lacks the labels {', '.join(missing)}"] if missing else []),
    ]
    if image.name == "gateway":
        extra = (*facts.shells, *facts.package_managers)
        wrong += [f"has {', '.join(extra)}"] if extra else []
        if facts.size_bytes > _GATEWAY_MAX_BYTES:
            wrong.append(f"is {facts.size_bytes} bytes, over {_GATEWAY_MAX_BYTES}")
    return tuple(wrong)


def _serves(image: Image) -> bool:
    return image.name != "downloader"


def _members(client: docker.DockerClient, reference: str) -> Iterator[tarfile.TarInfo]:
    container = client.containers.create(reference, command=["-"], network_mode="none")
    try:
        exported = cast("Iterable[bytes]", container.export())
        with tarfile.open(fileobj=containers.file_of(exported), mode="r|") as archive:
            yield from archive
    finally:
        container.remove()
