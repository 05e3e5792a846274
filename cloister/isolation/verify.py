"""Proving the seal of a running deployment: what it is, who else is there, and what gets out."""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import docker
from docker.models.containers import Container

from cloister import containers, modelstore
from cloister.config import project_root
from cloister.deployment import of_this_machine
from cloister.deployment.plan import of
from cloister.deployment.record import Record, required
from cloister.errors import CloisterError, IsolationError
from cloister.files import BusyError
from cloister.isolation import expected, places
from cloister.isolation.acceptance import accept, list_unmatched
from cloister.isolation.attempts import Targets, checks, gateway_checks
from cloister.isolation.control import control, neighbour, observer
from cloister.isolation.differences import compare, line, normalize
from cloister.isolation.finding import Finding, Verdict, paired, worst
from cloister.isolation.fixes import leave, remove, undo
from cloister.isolation.gatewayfiles import inspect_files
from cloister.isolation.images import judge_profile, judge_variables
from cloister.isolation.looking import look, look_at_ports
from cloister.isolation.network import judge_settings
from cloister.isolation.part import Engine, Image
from cloister.isolation.parts import parts
from cloister.isolation.routes import allow_list, other_addresses
from cloister.isolation.scene import Scene
from cloister.isolation.sinks import sink
from cloister.isolation.trying import (
    ask_settings,
    attempt_beside,
    host_addresses,
    reach_freely,
    resolvers,
)
from cloister.layout import Layout
from cloister.runtimes import GATEWAY, SPOOL, socket_folder
from cloister.runtimes.docker import ALIAS, FOLDER, attached
from cloister.statefolder import locked

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    """Every finding, and the worst of their verdicts, at one moment.

    `sealed` is false as soon as one way out is open, unproven or unknown.
    """

    sealed: bool
    verdict: Verdict
    engine_version: str
    findings: tuple[Finding, ...]


def verify(
    recorded: Record,
    allowed: AbstractSet[str],
    outside: tuple[str, int] | None,
    progress: Progress,
) -> Report:
    """Prove the seal of the deployment that is up; changes nothing but throw-away containers.

    `allowed` are the lines of `docker.allowed_differences`, `outside` is one more place to try to
    reach. Raises IsolationError when there is nothing to look at, or when a probe cannot run: that
    would prove nothing. Raises BusyError when a command changes the deployment meanwhile, whatever
    was found: commands do not wait for a proof.
    """
    settings = recorded.settings
    if settings.runtime != "docker":
        raise IsolationError(
            "there are no containers: the service is up with `runtime: process`",
            hint="invoke down, then invoke up --set runtime=docker",
        )
    lock = Layout(settings.state_dir).proof_lock
    with containers.explained(), locked(lock, busy="another `invoke verify` is running"):
        client = containers.connect()
        containers.sweep(client, settings.docker.project)
        try:
            with containers.explained():
                return _prove(client, recorded, allowed, outside, progress)
        except CloisterError:
            with _at_rest(recorded):
                raise
        finally:
            containers.sweep(client, settings.docker.project)


@contextmanager
def _at_rest(recorded: Record) -> Iterator[None]:
    """Keep commands from changing the deployment; raises BusyError when one does, or did."""
    settings = recorded.settings
    with locked(Layout(settings.state_dir).lock):
        if _plan(required(settings)) != _plan(recorded):
            again = "invoke verify again"
            raise BusyError("a command changed the deployment during the proof", hint=again)
        yield


def _plan(recorded: Record) -> Record:
    """Return a record without what the watchdog writes as well: an engine can make it do so."""
    return recorded.model_copy(update={"standings": {}, "taken": {}})


def _prove(
    client: docker.DockerClient,
    recorded: Record,
    allowed: AbstractSet[str],
    outside: tuple[str, int] | None,
    progress: Progress,
) -> Report:
    settings, allowed = recorded.settings, frozenset(map(normalize, allowed))
    progress("comparing containers and networks with the plan")
    with _at_rest(recorded):
        scene = _scene(client, recorded, allowed)
        found = list(_told(scene))
    progress("asking the kernel")
    watching = observer(client, scene.probe_image, scene.project)
    found += look(scene, watching)
    found += _tried(scene, outside, watching, progress)
    found += _new(found, look(scene, watching))  # attempts take a minute
    progress("asking the gateway for every route")
    enter = of_this_machine(settings)
    found.append(allow_list(settings.gateway, enter))
    found.append(other_addresses(settings.gateway, enter, host_addresses()))
    with _at_rest(recorded):
        found.append(inspect_files(scene, watching))
        found += _unchanged(scene)
    found = list(accept(found, allowed))
    found += list_unmatched(found, allowed)
    version = str(client.version()["Version"])
    return Report(not any(f.failed for f in found), worst(found), version, tuple(found))


def _scene(client: docker.DockerClient, recorded: Record, allowed: AbstractSet[str]) -> Scene:
    settings = recorded.settings
    planned = of(recorded)
    model = modelstore.folder(settings)
    joined = attached(settings)
    described = parts(planned, model, partial(_image, client, recorded.images), joined)
    members = containers.members(client, settings.docker.project)
    missing = [
        part.service
        for part in described
        if part.service not in members or members[part.service].status != "running"
    ]
    if missing:
        raise IsolationError(
            f"not running: {', '.join(missing)}; only running containers can be proven sealed",
            hint="invoke up",
        )
    by_service = {part.service: part for part in described}
    return Scene(client, settings, members, by_service, allowed, recorded.images)


def _image(
    client: docker.DockerClient, recorded: Mapping[str, str], service: str, name: str
) -> Image:
    # What the tag names by now may be another image.
    found = client.images.get(recorded.get(service, name))
    return Image(name, str(found.id), found.attrs["Config"])


def _told(scene: Scene) -> Iterator[Finding]:
    """Yield what Docker tells of containers and networks that is not as planned."""
    information = scene.client.info()
    engine = Engine(
        tuple(information["Runtimes"]),
        tuple(information["SecurityOptions"] or ()),
        limits_swap=bool(information["SwapLimit"]),
    )
    profile = (project_root() / FOLDER / "seccomp.json").read_bytes()
    override = scene.settings.docker.override
    yield judge_profile(profile)
    yield from _recorded(scene)
    for service, part in scene.parts.items():
        told = scene.members[service].attrs
        networks = told["NetworkSettings"]["Networks"]
        wanted = expected.container(part, engine, json.loads(profile))
        fixes = {"NetworkSettings.Networks": undo(override, leave(part, networks))}
        wanted = replace(wanted, fix=scene.fix, fixes=fixes)
        yield from compare(service, expected.plain(told), wanted)
        yield from judge_variables(part)
        for name in sorted(set(networks) & {*part.networks, "none"}):
            further = {ALIAS} if name in attached(scene.settings) else set[str]()
            wanted = replace(expected.endpoint(part, str(told["Id"]), name, further), fix=scene.fix)
            yield from compare(f"{service} on {name}", networks[name], wanted)
    for service, container in scene.members.items():
        if service not in scene.parts:
            yield _unplanned(service, container)
    yield from _networks(scene)
    layout = Layout(scene.settings.state_dir)
    folders = {service: layout.sockets / socket_folder(service) for service in scene.parts}
    yield from places.contents(folders, layout.spool / SPOOL)


def _recorded(scene: Scene) -> Iterator[Finding]:
    for service in sorted(set(scene.parts) - set(scene.images)):
        seen = "the image that `up` made it from is not recorded"
        yield Finding(service, "Image", "unproven", seen, "invoke up")


def _unplanned(service: str, container: Container) -> Finding:
    image = str(container.attrs["Config"]["Image"])
    difference = line(service, "service", image)
    seen = f"a container of {image} that the plan does not have"
    return Finding(service, "service", "open", seen, f"docker rm -f {container.name}", difference)


def _unchanged(scene: Scene) -> Iterator[Finding]:
    """Yield which containers are not those any more that the proof began with."""
    for service, before in scene.members.items():
        now = containers.members(scene.client, scene.project).get(service)
        same = now is not None and now.id == before.id and _started(now) == _started(before)
        if not same:
            seen = "the container was restarted or replaced during the proof"
            yield Finding(service, "the same container", "unproven", seen, "invoke verify again")


def _started(container: Container) -> str:
    return str(container.attrs["State"]["StartedAt"])


def _networks(scene: Scene) -> Iterator[Finding]:
    for bridge in scene.bridges:
        told = scene.client.networks.get(bridge.name).attrs
        members = (str(one["Name"]) for one in (told.get("Containers") or {}).values())
        fixes = {"Containers": remove(bridge, members)}
        wanted = replace(expected.network(bridge), fix=scene.fix, fixes=fixes)
        yield from compare(bridge.name, expected.plain_network(told), wanted)


def _new(before: Sequence[Finding], after: Sequence[Finding]) -> list[Finding]:
    """Return what is wrong now and was not before."""
    known = {(one.subject, one.check) for one in before if one.failed}
    return [one for one in after if one.failed and (one.subject, one.check) not in known]


def _tried(
    scene: Scene, outside: tuple[str, int] | None, watching: Container, progress: Progress
) -> Iterator[Finding]:
    """Yield what came of every way out, tried beside each container."""
    with sink() as heard:
        free = control(scene.client, scene.probe_image, scene.project)
        yield from look_at_ports(scene, watching, free.containers["host"])
        targets = Targets(
            host_addresses=host_addresses(),
            sink_port=heard.port,
            closed_port=heard.closed_port,
            abstract=heard.abstract,
            resolvers=resolvers(),
            outside=outside,
            other_container=free.listener,
        )
        progress("trying every way out from containers that are not sealed")
        freely = reach_freely(free, targets, f"control-{secrets.token_hex(6)}")
        progress(f"trying them beside {', '.join(scene.parts)}")

        def attempt(service: str) -> list[Finding]:
            nonce = f"{service}-{secrets.token_hex(6)}"
            planned = (gateway_checks if service == GATEWAY else checks)(targets, nonce)
            part, member = scene.parts[service], scene.members[service]
            beside = neighbour(scene.client, scene.probe_image, scene.project, member)
            found = [
                *judge_settings(part, ask_settings(beside, part)),
                *(
                    paired(service, check.name, tried, unsealed, fix=check.fix)
                    for check, tried, unsealed in attempt_beside(beside, planned, heard, freely)
                ),
            ]
            beside.remove(force=True)  # who looks next would take it for a stranger
            return found

        with ThreadPoolExecutor(len(scene.parts)) as threads:
            for findings in threads.map(attempt, scene.parts):
                yield from findings
