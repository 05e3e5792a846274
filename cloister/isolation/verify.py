"""Proving the seal of a running deployment, from inside its containers."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import docker
import psutil
from docker.models.containers import Container

from cloister import containers, images
from cloister.config import Settings
from cloister.deployment import of_this_machine
from cloister.engines import ENGINES
from cloister.errors import IsolationError
from cloister.files import exclusive
from cloister.inside import probe as attempt_here
from cloister.isolation import static
from cloister.isolation.attempts import Check, Targets, checks, door_checks, merged
from cloister.isolation.control import beside, control, probe, sweep
from cloister.isolation.finding import Finding, Try, paired
from cloister.isolation.routes import allow_list, other_addresses
from cloister.isolation.sinks import Sink, sink
from cloister.layout import Layout
from cloister.runtimes import EXPORTER, GATEWAY

Progress = Callable[[str], None]
_RESOLVER_FILES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_HUB_CONTROL = {"kind": "hub", "offline": "0"}
_FILTERED = "2"  # /proc/PID/status: Seccomp


@dataclass(frozen=True)
class Report:
    """Every finding; `sealed` is false as soon as one way out is open or unproven."""

    sealed: bool
    engine_version: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class _Scene:
    """What is looked at, and what an ordinary container and this machine themselves could do."""

    client: docker.DockerClient
    settings: Settings
    members: Mapping[str, Container]
    targets: Targets
    sink: Sink
    controls: Mapping[str, Try]

    @property
    def probe_image(self) -> str:
        return images.catalogue()["exporter"].reference(self.settings.docker)


def verify(settings: Settings, outside: tuple[str, int] | None, progress: Progress) -> Report:
    """Prove the seal of the deployment that is up; changes nothing but throw-away containers.

    `outside` is one more place to try to reach. Raises IsolationError when there is nothing to
    look at, or when a probe cannot run: that would prove nothing.
    """
    if settings.runtime != "docker":
        raise IsolationError(
            "there are no containers: the service is up with `runtime: process`",
            hint="invoke down, then invoke up --set runtime=docker",
        )
    with containers.explained(), exclusive(Layout(settings.state_dir).lock):
        client = containers.connect()
        sweep(client, settings.docker.project)
        members = _running(client, settings)
        version = str(client.version()["Version"])
        progress("looking at containers and networks")
        found = [*_static(client, settings, members), *static.docker_engine(version)]
        image = images.catalogue()["exporter"].reference(settings.docker)
        with sink() as heard, control(client, image, settings.docker.project) as ordinary:
            targets = Targets(
                host_addresses=_host_addresses(),
                sink_port=heard.port,
                resolvers=_resolvers(),
                outside=outside,
                other_container=ordinary.listener,
            )
            progress("trying every way out from an ordinary container")
            controls = _controls(ordinary.container, targets)
            scene = _Scene(client, settings, members, targets, heard, controls)
            progress(f"trying them from {', '.join(members)}")
            with ThreadPoolExecutor(len(members)) as threads:
                for findings in threads.map(partial(_subject, scene), members):
                    found += findings
        progress("asking the gateway for every route")
        enter = of_this_machine(settings)
        found.append(allow_list(settings.gateway, enter))
        found.append(other_addresses(settings.gateway, enter, _host_addresses()))
    return Report(not any(finding.failed for finding in found), version, tuple(found))


def _running(client: docker.DockerClient, settings: Settings) -> Mapping[str, Container]:
    members = containers.members(client, settings.docker.project)
    stopped = [name for name, container in members.items() if container.status != "running"]
    if GATEWAY not in members or stopped:
        raise IsolationError(
            f"not running: {', '.join(stopped) or 'anything'}; what does not run proves nothing",
            hint="invoke up",
        )
    return dict(sorted(members.items()))


def _static(
    client: docker.DockerClient, settings: Settings, members: Mapping[str, Container]
) -> Iterator[Finding]:
    internal, _ = own = _own(settings)
    published = (str(settings.gateway.address), settings.gateway.port)
    for service, container in members.items():
        door = service == GATEWAY
        yield from static.container(service, container.attrs)
        yield static.ports(service, container.attrs, published if door else None)
        if door:
            yield from static.neighbours(container.attrs, own)
        else:
            yield static.networks(service, container.attrs, (internal,))
    names = [str(container.name) for container in members.values()]
    network = client.networks.get(internal)
    yield from static.internal_network(network.attrs, names)


def _own(settings: Settings) -> tuple[str, str]:
    """Return the names of the two networks that the gateway is on."""
    return f"{settings.docker.project}-internal", f"{settings.docker.project}-default"


def _controls(container: Container, targets: Targets) -> dict[str, Try]:
    """Return what an ordinary container reaches; `expected` is whether this machine does."""
    nonce = f"control-{secrets.token_hex(6)}"
    planned = checks(targets, nonce)
    results = _probed(container, planned)
    doubtful = [c for c in planned if c.outside and not merged(results[c.name]).reached]
    with ThreadPoolExecutor() as threads:  # each waits for seconds where the network is filtered
        reached = threads.map(_reached_here, doubtful)
        here = {check.name: found for check, found in zip(doubtful, reached, strict=True)}
    return {
        check.name: merged(results[check.name], expected=here.get(check.name, True))
        for check in planned
    }


def _reached_here(check: Check) -> bool:
    return merged([attempt_here.attempt(one) for one in check.attempts]).reached


def _subject(scene: _Scene, service: str) -> list[Finding]:
    container = scene.members[service]
    if service == EXPORTER or service.startswith(f"{ENGINES[scene.settings.engine].family}-"):
        return [
            *_tried(scene, service, container, checks),
            *_facts(service, probe(container, [{"kind": "facts"}])[0]),
            *([] if service == EXPORTER else _hub(scene, service, container)),
        ]
    project = scene.settings.docker.project
    with beside(scene.client, scene.probe_image, project, container) as neighbour:
        if service != GATEWAY:  # one of `docker.override`, whose image may have no Python
            return list(_tried(scene, service, neighbour, checks))
        tried = _tried(scene, service, neighbour, door_checks)
        return [
            *static.through_neighbours(tried, container.attrs, _own(scene.settings)),
            *_door_facts(service, probe(neighbour, [{"kind": "facts"}])[0]),
        ]


def _tried(
    scene: _Scene,
    service: str,
    container: Container,
    plan: Callable[[Targets, str], tuple[Check, ...]],
) -> Iterator[Finding]:
    nonce = f"{service}-{secrets.token_hex(6)}"
    planned = plan(scene.targets, nonce)
    results = _probed(container, planned)
    for check in planned:
        tried = merged(results[check.name])
        if not tried.reached and "UDP" in check.name and scene.sink.heard(nonce):
            tried = Try(reached=True, detail="it arrived, and no answer came back")
        yield paired(service, check.name, tried, scene.controls[check.name], fix=check.fix)


def _probed(container: Container, planned: Sequence[Check]) -> dict[str, list[Any]]:
    """Make all attempts of all checks in one go, and return the results by check."""
    results = iter(probe(container, [one for check in planned for one in check.attempts]))
    return {check.name: [next(results) for _ in check.attempts] for check in planned}


def _facts(service: str, seen: Mapping[str, Any]) -> Iterator[Finding]:
    addresses = [line.split()[-1] for line in seen["inet6"] if line.split()[-1] != "lo"]
    wrong = {
        "capabilities in force": "" if int(seen["CapEff"], 16) == 0 else f"CapEff {seen['CapEff']}",
        "no new privileges in force": "" if seen["NoNewPrivs"] == "1" else "NoNewPrivs 0",
        "seccomp in force": "" if seen["Seccomp"] == _FILTERED else f"Seccomp {seen['Seccomp']}",
        "user in force": "" if seen["Uid"].split()[0] != "0" else "uid 0",
        "IPv6 in force": f"an address on {', '.join(addresses)}" if addresses else "",
        "Docker's socket in sight": ", ".join(seen["docker_socket"]),
    }
    for check, detail in wrong.items():
        if detail:
            yield Finding(service, check, "open", detail, "invoke down, then invoke up")
        else:
            yield Finding(service, check, "sealed", static.AS_OBSERVED)


def _door_facts(service: str, seen: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge what the gateway's network says; the process there is the probe's, not nginx."""
    if seen["ip_forward"] == "0":
        yield Finding(service, "forwarding", "sealed", "net.ipv4.ip_forward is 0")
    else:
        yield Finding(
            service,
            "forwarding",
            "open",
            "it would route frames from one of its networks to the other",
            "`sysctls: {net.ipv4.ip_forward: 0}`, as in compose/compose.yaml",
        )


def _hub(scene: _Scene, service: str, container: Container) -> Iterator[Finding]:
    """Judge whether the hub's own library refuses to call, and calls when it is allowed to."""
    if not scene.settings.engine.startswith("vllm"):
        return
    (refused,), (allowed,) = (
        probe(container, [{"kind": "hub"}]),
        probe(container, [_HUB_CONTROL]),
    )
    yield paired(
        service,
        "calling the hub",
        Try(refused["reached"], refused["detail"]),
        Try(allowed["reached"], f"without HF_HUB_OFFLINE, {allowed['detail']}"),
        fix="HF_HUB_OFFLINE=1 in the image vllm",
    )


def _host_addresses() -> tuple[str, ...]:
    """Return this machine's IPv4 addresses, its bridges' too; not those only it can reach."""
    found = {
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family.name == "AF_INET" and not address.address.startswith("127.")
    }
    return tuple(sorted(found))


def _resolvers() -> tuple[str, ...]:
    """Return the name servers that this machine asks, as far as they are not itself."""
    words = [
        line.split()
        for path in _RESOLVER_FILES
        if path.exists()
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
    ]
    servers = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
    outside = [server for server in servers if ":" not in server and not server.startswith("127.")]
    return tuple(dict.fromkeys(outside))
