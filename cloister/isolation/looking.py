"""What the kernel says of this machine's processes, asked by a container of ours that sees all."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docker.models.containers import Container

from cloister.errors import IsolationError
from cloister.isolation.acceptance import accept
from cloister.isolation.control import probe
from cloister.isolation.finding import Finding
from cloister.isolation.mounts import Surroundings
from cloister.isolation.observed import observed
from cloister.isolation.part import Part
from cloister.isolation.scene import Scene
from cloister.isolation.strangers import Ours, judge_ports, strangers
from cloister.layout import Layout

_LOOKS = 3
_STRANGER = "stranger."
_DEVICE = "com.docker.network.bridge.name"


def look(scene: Scene, watching: Container) -> list[Finding]:
    """Return what the kernel says of the containers, and who else is in them.

    What was seen once is found, whatever became of it: a container may change its name each
    second. What may be of a process that Docker is about to confine, such as that of a health
    check, is found when it is seen each time.
    """
    looks = [list(_look_once(scene, watching))]
    while len(looks) < _LOOKS and any(one.failed for one in looks[-1]):
        looks.append(list(_look_once(scene, watching)))
    lasting = set.intersection(*({_kind(f) for f in look if f.failed} for look in looks))
    found = {
        (one.subject, one.check): one
        for look in looks
        for one in look
        if one.failed and (not one.passing or _kind(one) in lasting)
    }
    met = any(check.startswith(_STRANGER) for _, check in found)
    fine = [one for one in looks[-1] if not one.failed and not (met and one.check == "strangers")]
    return [*fine, *found.values()]


def _kind(finding: Finding) -> tuple[str, str]:
    """Return what a finding is about; strangers are one kind, since they choose their names."""
    check = _STRANGER if finding.check.startswith(_STRANGER) else finding.check
    return finding.subject, check


def look_at_ports(scene: Scene, watching: Container, on_host: Container) -> Iterator[Finding]:
    """Yield what is plugged into the project's bridges; `on_host` is in the machine's network."""
    ours, others = _ours(scene), _others(scene)
    facts = _ask(scene, watching, others)
    for bridge in scene.bridges:
        # Other containers on it are named as strangers already.
        there = [one["Id"] for one in others if bridge.name in one["NetworkSettings"]["Networks"]]
        links = [facts["containers"][identity]["links"] or {} for identity in ours.services]
        links += [facts["others"][identity]["links"] or {} for identity in there]
        told = scene.client.networks.get(bridge.name).attrs
        device = (told.get("Options") or {}).get(_DEVICE) or f"br-{told['Id'][:12]}"
        (result,) = probe(on_host, [{"kind": "ports", "bridge": device}])
        yield judge_ports(device, bridge.name, result.get("ports"), links)


def _look_once(scene: Scene, watching: Container) -> Iterator[Finding]:
    # What is accepted is no reason to look again.
    yield from accept(_observe(scene, watching), scene.allowed)


def _observe(scene: Scene, watching: Container) -> Iterator[Finding]:
    ours, others = _ours(scene), _others(scene)
    facts = _ask(scene, watching, others)
    for service, part in scene.parts.items():
        identity = str(scene.members[service].id)
        around = _surround(part, scene.members[service].attrs, facts)
        yield from observed(part, identity, facts, around, scene.fix)
    yield from strangers(ours, others, facts)


def _ask(scene: Scene, watching: Container, others: list[dict[str, Any]]) -> Mapping[str, Any]:
    """Return what the kernel says; raises IsolationError when it could not be asked."""
    members = [scene.members[service].attrs for service in scene.parts]
    pids = [{str(one["Id"]): one["State"]["Pid"] for one in some} for some in (members, others)]
    (facts,) = probe(watching, [{"kind": "facts", "containers": pids[0], "others": pids[1]}])
    if not facts["reached"]:
        detail = str(facts["detail"])
        for one in (*members, *others):
            detail = detail.replace(one["Id"][:12], str(one["Name"]).lstrip("/"))
        raise IsolationError(
            f"the processes of the containers could not be read: {detail}",
            hint="a container was restarted or has too many processes; invoke verify again",
        )
    return facts


def _others(scene: Scene) -> list[dict[str, Any]]:
    """Return what Docker says of the containers that run and are not planned."""
    mine = {scene.members[service].id for service in scene.parts}
    listed = scene.client.containers.list(ignore_removed=True)
    return [other.attrs for other in listed if other.id not in mine]


def _ours(scene: Scene) -> Ours:
    layout = Layout(scene.settings.state_dir)
    folders = {
        str(mount.target)
        for part in scene.parts.values()
        for mount in part.mounts
        if mount.source.is_relative_to(layout.sockets) or mount.source == layout.gateway
    }
    members = {service: scene.members[service].attrs for service in scene.parts}
    return Ours(members, folders, tuple(bridge.name for bridge in scene.bridges))


def _surround(part: Part, inspected: Mapping[str, Any], facts: Mapping[str, Any]) -> Surroundings:
    """Return what is outside of a container, as far as its mounts are compared with it."""
    neighbours = (told for one, told in facts["containers"].items() if one != inspected["Id"])
    host = inspected["HostConfig"]
    hidden = {*(host.get("MaskedPaths") or ()), *(host.get("ReadonlyPaths") or ())}
    theirs = {mount["device"] for told in neighbours for mount in told["mounts"] or ()}
    files = {str(mount.target): _identify(mount.source) for mount in part.mounts}
    # The kernel shows the same files here and there, whatever is mounted over them.
    existing = frozenset(path for path in hidden if Path(path).exists())
    networks = inspected["NetworkSettings"]["Networks"] or {}
    return Surroundings(theirs | set(facts["devices"]), files, existing, networks)


def _identify(folder: Path) -> list[int] | None:
    try:
        told = folder.stat()
    except OSError:
        return None
    return [told.st_dev, told.st_ino]
