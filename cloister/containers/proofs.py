"""Throw-away containers and networks of a proof of the seal: how they are known, and removed."""

import contextlib
from http import HTTPStatus
from typing import Any

import docker
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from cloister.containers.daemon import once_released

LABEL = "cloister.verify"
_REMOVED_S = 60


def sweep(client: docker.DockerClient, project: str) -> None:
    """Remove what proofs left: those that ended, that were killed, or that this ends."""
    filters: dict[str, Any] = {"label": f"{LABEL}={project}"}
    for container in client.containers.list(all=True, ignore_removed=True, filters=filters):
        with contextlib.suppress(NotFound):
            _remove(container)
    for network in client.networks.list(filters=filters):
        with contextlib.suppress(NotFound):
            once_released(network.remove)


def _remove(container: Container) -> None:
    """Remove a container, or wait for whoever does: `down`, and the proof that it ends."""
    try:
        container.remove(force=True)
    except APIError as error:
        if error.status_code != HTTPStatus.CONFLICT:
            raise
        container.wait(timeout=_REMOVED_S, condition="removed")
