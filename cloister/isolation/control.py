"""Throw-away containers: some that are not sealed, and some beside what is looked at.

Whoever runs them removes them by their label, since an interrupt leaves what nobody got hold of.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import NotFound
from docker.models.containers import Container
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from cloister.containers.execs import execute
from cloister.containers.proofs import LABEL
from cloister.errors import IsolationError
from cloister.inside.probe import Result, limit_all_s
from cloister.isolation.attempts import Where

_LISTEN_PORT = 8000
_START_S = 60
_PROBE = ("python3", "-m", "cloister.inside.probe")
# They end by themselves when nobody is left to end them; a proof takes some minutes.
_LIFE_S = 1800
_WAIT = ["sleep", f"{_LIFE_S}"]
_LISTEN = [
    *("timeout", f"{_LIFE_S}", "python3", "-m", "http.server", f"{_LISTEN_PORT}"),
    *("--directory", "/tmp"),  # noqa: S108
]
_DEVICES = ("/dev/kmsg", "/dev/net/tun", "/dev/fuse")
# One by one: an engine that itself lacks a right, as in a container, refuses `privileged`.
_RIGHTS = (
    *("DAC_READ_SEARCH", "MKNOD", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_CHROOT"),
    *("SYS_MODULE", "SYS_PTRACE"),
)
# What a container may do, by Docker's names: `systempaths=unconfined` is told by two paths' keys.
_MEANS = (
    *("Privileged", "CapAdd", "CapDrop", "SecurityOpt", "GroupAdd", "UsernsMode", "CgroupnsMode"),
    *("Devices", "DeviceCgroupRules", "ReadonlyRootfs", "MaskedPaths", "ReadonlyPaths"),
)
# Where links, pipes and mounts are tried; nothing of it is the suspect's.
_TMPFS = {"/tmp": "size=1m,mode=1777"}  # noqa: S108


@dataclass(frozen=True)
class Control:
    """Containers that nothing is kept from, by the network that they are on, and one that listens.

    They run as root with every right that an attempt may need.
    """

    containers: Mapping[Where, Container]
    listener: tuple[str, int]


def probe(container: Container, attempts: Sequence[Mapping[str, Any]]) -> list[Result]:
    """Make attempts inside a container; raises IsolationError when its image cannot, or it ends."""
    command = [*_PROBE, json.dumps(list(attempts))]
    within_s = limit_all_s(attempts) + _START_S
    try:
        code, output, errors = execute(container, command, within_s=within_s)
    except (NotFound, ConnectionError, TimeoutError) as error:
        why = error.explanation if isinstance(error, NotFound) else str(error)
        raise IsolationError(
            f"the attempts in {container.name} did not end: {why}",
            hint="was the container stopped or removed by hand? invoke verify again",
        ) from error
    if code != 0 or not output:
        last = (errors or output or b"no output").decode(errors="replace").strip().splitlines()[-1:]
        raise IsolationError(
            f"no probe could be run in {container.name}: {' '.join(last)}",
            hint="is the image `exporter` of this version? invoke images.build",
        )
    try:
        parsed: list[Result] = json.loads(output)
    except ValueError as error:
        raise IsolationError(
            f"the output of the probe in {container.name} is incomplete", hint="invoke verify again"
        ) from error
    return parsed


def control(client: docker.DockerClient, image: str, project: str) -> Control:
    """Run containers that are not sealed: on a network of their own, and on this machine's.

    Raises IsolationError when the one that is to listen does not: nothing would be proven by it.
    """
    name = f"{project}-verify-{secrets.token_hex(3)}"
    labels = {LABEL: project}

    def run(command: list[str], network: str, **rights: Any) -> Container:
        # Nothing of /proc is hidden or read-only.
        host = client.api.create_host_config(network_mode=network, **rights)
        host |= {"MaskedPaths": [], "ReadonlyPaths": []}
        return _run(client, image, command, "root", labels, host)

    client.networks.create(name, driver="bridge", labels=labels)
    containers: dict[Where, Container] = {
        "network": run(_WAIT, name, **_free()),
        "host": run(_WAIT, "host", **_free()),
    }
    listening = run(_LISTEN, name)
    _await(listening)
    listening.reload()
    address = listening.attrs["NetworkSettings"]["Networks"][name]["IPAddress"]
    return Control(containers, (address, _LISTEN_PORT))


def neighbour(
    client: docker.DockerClient, image: str, project: str, suspect: Container
) -> Container:
    """Run a container of ours in the network of another one, with the rights of that one.

    Only its network is shared: a suspect that was taken over can change neither what is tried nor
    what is told. What the suspect has mounted is compared, and not tried.
    """
    told = suspect.attrs
    host = client.api.create_host_config(network_mode=f"container:{suspect.id}", tmpfs=_TMPFS)
    host |= {name: told["HostConfig"].get(name) for name in _MEANS}
    user = told["Config"].get("User") or ""
    return _run(client, image, _WAIT, user, {LABEL: project}, host)


def observer(client: docker.DockerClient, image: str, project: str) -> Container:
    """Run a container of ours that sees every process of the machine, as root of no network.

    It shares a namespace with this machine alone, and can do nothing to anybody.
    """
    return client.containers.run(
        image,
        entrypoint=_WAIT,
        command=[],
        user="0:0",
        network_mode="none",
        pid_mode="host",
        userns_mode="host",
        labels={LABEL: project},
        cap_drop=["ALL"],
        cap_add=["DAC_READ_SEARCH", "SYS_PTRACE"],
        # A profile for containers lets nobody look at what is none.
        security_opt=["no-new-privileges:true", "apparmor=unconfined", "label=disable"],
        read_only=True,
        detach=True,
    )


def _free() -> dict[str, Any]:
    return {
        "cap_add": list(_RIGHTS),
        "security_opt": ["seccomp=unconfined", "apparmor=unconfined", "label=disable"],
        "devices": [f"{path}:{path}:rwm" for path in _DEVICES if Path(path).exists()],
        "tmpfs": _TMPFS,
    }


def _run(
    client: docker.DockerClient,
    image: str,
    command: list[str],
    user: str,
    labels: dict[str, str],
    host: Mapping[str, Any],
) -> Container:
    """Run a container by Docker's own words, of which the SDK does not have all."""
    api = client.api
    made = api.create_container(
        image, entrypoint=command, user=user, labels=labels, host_config=host
    )
    api.start(made)
    return client.containers.get(made["Id"])


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
            f"a container of the proof did not listen within {_START_S} s",
            hint="invoke verify again when this machine is less busy",
        ) from error
