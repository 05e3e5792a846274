"""Throw-away containers: ordinary ones that may get out, and one in another's network."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import docker
from docker.models.containers import Container
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from cloister.errors import IsolationError
from cloister.inside.probe import Result

_LABEL = "cloister.verify"
_LISTEN_PORT = 8000
_START_S = 60
_PROBE = ("python3", "-m", "cloister.inside.probe")
_WAIT = ["python3", "-c", "import signal; signal.pause()"]
_LISTEN = ["python3", "-m", "http.server", f"{_LISTEN_PORT}", "--directory", "/tmp"]  # noqa: S108


@dataclass(frozen=True)
class Control:
    """An ordinary container on an ordinary network, and a neighbour of it that listens."""

    container: Container
    listener: tuple[str, int]


def probe(container: Container, attempts: Sequence[Mapping[str, Any]]) -> list[Result]:
    """Make attempts inside a container; raises IsolationError when its image cannot."""
    result: Any = container.exec_run([*_PROBE, json.dumps(list(attempts))], demux=True)
    output, errors = result.output
    if result.exit_code != 0:
        last = (errors or output or b"no output").decode(errors="replace").strip().splitlines()[-1:]
        raise IsolationError(
            f"no probe could be run in {container.name}: {' '.join(last)}",
            hint="invoke status; does the image have `cloister.inside`? invoke images.build",
        )
    parsed: list[Result] = json.loads(output)
    return parsed


def sweep(client: docker.DockerClient, project: str) -> None:
    """Remove what a killed `verify` left."""
    mine: dict[str, Any] = {"label": f"{_LABEL}={project}"}
    for container in client.containers.list(all=True, filters=mine):
        container.remove(force=True)
    for network in client.networks.list(filters=mine):
        network.remove()


@contextmanager
def control(client: docker.DockerClient, image: str, project: str) -> Iterator[Control]:
    """Run two containers as Docker runs them by default, on a network of their own.

    Raises IsolationError when the one that is to listen does not: nothing would be proven by it.
    """
    try:
        name = f"{project}-verify-{secrets.token_hex(3)}"
        client.networks.create(name, driver="bridge", labels={_LABEL: project})
        ordinary, listening = (
            client.containers.run(
                image,
                entrypoint=command,
                command=[],
                user="root",
                network=name,
                labels={_LABEL: project},
                detach=True,
            )
            for command in (_WAIT, _LISTEN)
        )
        _await(listening)
        listening.reload()
        address = listening.attrs["NetworkSettings"]["Networks"][name]["IPAddress"]
        yield Control(ordinary, (address, _LISTEN_PORT))
    finally:
        sweep(client, project)  # by label: an interrupt may leave what nobody got hold of


def _await(listening: Container) -> None:
    """Wait until it listens: probes that come before would find a neighbour out of reach."""
    own = [{"kind": "tcp", "host": "127.0.0.1", "port": _LISTEN_PORT}]
    try:
        Retrying(
            retry=retry_if_result(lambda results: not results[0]["reached"]),
            stop=stop_after_delay(_START_S),
            wait=wait_fixed(0.1),
        )(probe, listening, own)
    except RetryError as error:
        raise IsolationError(
            f"a container that is to listen for the proof did not within {_START_S} s",
            hint="see what keeps Docker busy, then invoke verify again",
        ) from error


@contextmanager
def beside(
    client: docker.DockerClient, image: str, project: str, neighbour: Container
) -> Iterator[Container]:
    """Run a probe in the network of a container whose image has no Python, and with its rights."""
    container = client.containers.run(
        image,
        entrypoint=_WAIT,
        command=[],
        network_mode=f"container:{neighbour.id}",
        labels={_LABEL: project},
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        read_only=True,
        detach=True,
    )
    try:
        yield container
    finally:
        container.remove(force=True)
