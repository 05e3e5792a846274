"""What is in a built image, read from the image itself, and what must be true of it."""

import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import docker
from docker.errors import ImageNotFound

from cloister import containers
from cloister.containers import archives
from cloister.errors import ImageError
from cloister.images.catalogue import LABEL, Image
from cloister.images.packages import Package, Records

_OWNER = "10001:10001"
_SETUID = 0o6000
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "busybox"})
_PACKAGE_MANAGERS = frozenset({"apt", "apt-get", "dpkg", "rpm", "apk", "pip"})
_GATEWAY_MAX_BYTES = 40_000_000


@dataclass(frozen=True)
class Facts:
    """One built image: `size_bytes` is unpacked, `files` counts everything but folders.

    `health_check` is its command, or nothing.
    """

    reference: str
    id: str
    size_bytes: int
    user: str
    files: int
    setuid: tuple[str, ...]
    shells: tuple[str, ...]
    package_managers: tuple[str, ...]
    health_check: str
    ports: tuple[str, ...]
    labels: Mapping[str, str]
    layers: tuple[str, ...]
    packages: tuple[Package, ...]


def inspect(client: docker.DockerClient, reference: str) -> Facts:
    """Return the facts of a built image; reads all of its files once.

    Raises ImageError when it was not built.
    """
    attributes = described(client, reference)
    config = attributes["Config"]
    members, packages = _contents(client, reference)
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
        health_check=_health_check(config),
        ports=tuple(sorted(config.get("ExposedPorts") or {})),
        labels=config.get("Labels") or {},
        layers=tuple(attributes["RootFS"]["Layers"]),
        packages=packages,
    )


def described(client: docker.DockerClient, reference: str) -> dict[str, Any]:
    """Return what the engine says of an image; raises ImageError when it was not built."""
    try:
        return client.images.get(reference).attrs
    except ImageNotFound as error:
        raise ImageError(f"`{reference}` was not built", hint="invoke images.build") from error


def verify(image: Image, facts: Facts) -> tuple[str, ...]:
    """Return what is wrong with an image, nothing when it may be run; pure."""
    missing = [
        name
        for name in ("title", "version", "revision", "licenses", "base.name")
        if not facts.labels.get(LABEL + name)
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


def _health_check(config: Mapping[str, Any]) -> str:
    kind, *words = (config.get("Healthcheck") or {}).get("Test") or ["NONE"]
    return "" if kind == "NONE" else " ".join(words)


def _contents(
    client: docker.DockerClient, reference: str
) -> tuple[list[tarfile.TarInfo], tuple[Package, ...]]:
    """Read the file system once: everything but folders, and the packages."""
    container = client.containers.create(reference, command=["-"], network_mode="none")
    members, records = [], Records()
    try:
        exported = cast("Iterable[bytes]", container.export())
        with archives.reading(f"`{reference}`", containers.file_of(exported)) as archive:
            for member in archives.members(archive):
                records.take(archive, member)
                if not member.isdir():
                    members.append(member)
    finally:
        container.remove()
    return members, records.packages()
