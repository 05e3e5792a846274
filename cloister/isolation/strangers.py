"""Who else is where the containers are: in their namespaces, on their networks, at sockets; pure.

Namespaces and folders are compared as the kernel numbers them, whatever way led there: a chain of
containers that joined one another, a symbolic link, a named volume.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from cloister.isolation.differences import line
from cloister.isolation.finding import Finding

_SHOWN = 5
_END = "end the process, or find who started it"
# What Docker starts in a container, until it has entered the control group; and Docker itself, of
# which a thread enters a network to look at its interfaces.
_ENTERING = re.compile("runc:.*|dockerd")


@dataclass(frozen=True)
class Ours:
    """The deployment's containers, as Docker inspects them, and what they share.

    `folders` are places in containers at which folders of the deployment are mounted, `networks`
    the names of its own networks.
    """

    members: Mapping[str, Mapping[str, Any]]
    folders: AbstractSet[str]
    networks: tuple[str, ...]

    @property
    def services(self) -> dict[str, str]:
        """The services by the identities of their containers."""
        return {str(member["Id"]): service for service, member in self.members.items()}


@dataclass(frozen=True)
class _Contact:
    """What another container, or a process of this machine, shares with one of ours."""

    subject: str
    name: str
    value: str
    seen: str
    fix: str
    passing: bool = False


def strangers(
    ours: Ours,
    others: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
) -> Iterator[Finding]:
    """Yield a finding for everybody else who is in one of ours, and one when there is nobody.

    `others` are inspected containers, `facts` is what the kernel says.
    """
    by_identity = {str(other["Id"]): other for other in others}
    contacts = [
        *_in_namespaces(ours, by_identity, facts),
        *_on_networks(ours, others),
        *_at_folders(ours, by_identity, facts),
    ]
    for contact in contacts:
        check = f"stranger.{contact.name}"
        difference = line(contact.subject, check, contact.value)
        yield Finding(
            *(contact.subject, check, "open", contact.seen, contact.fix, difference),
            passing=contact.passing,
        )
    if facts["unknown"]:
        seen = f"the namespaces of these processes cannot be read: {', '.join(facts['unknown'])}"
        again = "invoke verify again"
        yield Finding("this machine", "strangers", "unproven", seen, again, passing=True)
    elif not contacts:
        seen = f"none among {facts['count']} processes and {len(others)} other containers"
        yield Finding("this machine", "strangers", "sealed", seen)


def judge_ports(
    bridge: str,
    name: str,
    there: Mapping[str, Sequence[int]] | None,
    links: Sequence[Mapping[str, Sequence[int]]],
) -> Finding:
    """Return whether each port of a bridge is the other end of an interface of its containers.

    `there` are the ports, `links` the interfaces of each container: the number of an interface and
    that of its other end, by name. None where the bridge cannot be seen.
    """
    check = "ports of the bridge"
    if there is None:
        seen = f"the bridge {bridge} cannot be read"
        return Finding(name, check, "unproven", seen, "find out where the engine keeps its bridges")
    ends = {(far, own) for one in links for own, far in one.values()}
    strange = sorted(port for port, (own, far) in there.items() if (own, far) not in ends)
    if strange:
        seen = f"{', '.join(strange)} on {bridge}, of no container on that network"
        return Finding(name, check, "open", seen, "ip link set PORT nomaster")
    return Finding(name, check, "sealed", f"{len(there)}, each of a container on that network")


def _in_namespaces(
    ours: Ours, others: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]
) -> Iterator[_Contact]:
    """Yield who is in a namespace of one of ours without being of its container.

    Each process is known by its control group, which it cannot choose.
    """
    for identity, service in ours.services.items():
        spaces: dict[str, Any] = {}
        for process in facts["processes"]:
            if process["pid"] == facts["containers"][identity]["pid"]:
                spaces = process["namespaces"]
        found: dict[str, list[tuple[Mapping[str, Any], list[str]]]] = {}
        for process in facts["processes"]:
            kinds = [k for k, space in process["namespaces"].items() if spaces.get(k) == space]
            if process["container"] != identity and kinds:
                found.setdefault(process["container"] or "", []).append((process, kinds))
        for whose, processes in found.items():
            yield _introduce(ours, service, others.get(whose), whose, processes)


def _introduce(
    ours: Ours,
    service: str,
    other: Mapping[str, Any] | None,
    whose: str,
    processes: Sequence[tuple[Mapping[str, Any], list[str]]],
) -> _Contact:
    """Return who the processes of one container, or of none, are."""
    shown = [
        f"{one['comm']} (pid {one['pid']}, {', '.join(kinds)}, control group {one['cgroup']})"
        for one, kinds in processes[:_SHOWN]
    ]
    more = f" and {len(processes) - _SHOWN} more" if len(processes) > _SHOWN else ""
    seen = f"shares namespaces: {'; '.join(shown)}{more}"
    if other is not None:
        return _introduce_container(service, other, seen)
    programs = ", ".join(sorted({str(one["comm"]) for one, _ in processes}))
    name = ours.services.get(whose) or (whose[:12] if whose else "process")
    passing = all(_ENTERING.fullmatch(str(one["comm"])) for one, _ in processes)
    return _Contact(service, name, programs, seen, _END, passing)


def _on_networks(ours: Ours, others: Sequence[Mapping[str, Any]]) -> Iterator[_Contact]:
    for other in others:
        for network in sorted(set(other["NetworkSettings"]["Networks"]) & set(ours.networks)):
            yield _introduce_container(network, other, "on the same network")


def _at_folders(
    ours: Ours, others: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]
) -> Iterator[_Contact]:
    """Yield which other containers have folders of ours, or folders above or below those.

    Those of other engines are known by a process that sees them, and so is what the first process
    of a container does not see.
    """
    places = {
        (mount["device"], PurePosixPath(mount["root"]))
        for container in facts["containers"].values()
        for mount in container["mounts"] or ()
        if mount["point"] in ours.folders
    }
    for identity, told in facts["others"].items():
        if point := _find_place(places, told["mounts"] or ()):
            seen = f"it mounts the folder of the sockets at `{point}`"
            yield _introduce_container("sockets", others[identity], seen)
    for view in facts["views"]:
        if point := _find_place(places, view["mounts"]):
            comm, whose = str(view["comm"]), view["container"] or ""
            seen = (
                f"{comm} (pid {view['pid']}, control group {view['cgroup']}) "
                f"mounts the folder of the sockets at `{point}`"
            )
            passing = _ENTERING.fullmatch(comm) is not None
            if other := others.get(whose):
                yield _introduce_container("sockets", other, seen, passing=passing)
            else:
                yield _Contact("sockets", whose[:12] or "process", comm, seen, _END, passing)


def _find_place(
    places: AbstractSet[tuple[str, PurePosixPath]], mounts: Sequence[Mapping[str, Any]]
) -> str | None:
    """Return where one of these folders is mounted, or a folder above or below; None if nowhere."""
    for mount in mounts:
        root = PurePosixPath(mount["root"])
        theirs = [place for device, place in places if device == mount["device"]]
        if any(one.is_relative_to(root) or root.is_relative_to(one) for one in theirs):
            return str(mount["point"])
    return None


def _introduce_container(
    subject: str, other: Mapping[str, Any], seen: str, *, passing: bool = False
) -> _Contact:
    """Return who an inspected container is."""
    name, image = str(other["Name"]).lstrip("/"), str(other["Config"]["Image"])
    return _Contact(subject, name, image, seen, f"docker rm -f {name}", passing)
