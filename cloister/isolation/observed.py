"""What the kernel says of a container's processes, beside what the plan says; pure.

It does not come from Docker, which tells what it was asked for: hooks of a GPU's driver mount more.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from cloister.isolation.differences import line
from cloister.isolation.finding import Finding
from cloister.isolation.fixes import RECREATE
from cloister.isolation.mounts import Surroundings, strange_devices, strange_mounts
from cloister.isolation.network import strange_network
from cloister.isolation.part import Part

_ID = "10001"
_FILTERED = "2"  # /proc/PID/status, Seccomp: by a filter
_RIGHTS = ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd")
_NAMESPACES = frozenset({"cgroup", "ipc", "mnt", "net", "network", "pid", "uts"})
_CHECKS = (
    *("capabilities", "no_new_privileges", "seccomp", "user", "core", "namespaces", "root"),
    *("folder", "tracer", "deleted"),
)
# What a process that Docker starts in a container is not yet, or one that ends is no more; a socket
# may be on its way from one process to another one.
_PASSING = frozenset(f"kernel.{check}" for check in (*_CHECKS, "sockets") if check != "deleted")
_OWN_VARIABLES = frozenset({"HOME", "HOSTNAME"})
# What is wrong with a process, and the processes of which that is so.
_Wrong = dict[str, list[int]]
Told = Mapping[str, Any]


def observed(
    part: Part,
    identity: str,
    facts: Told,
    surroundings: Surroundings,
    fix: str = RECREATE,
) -> Iterator[Finding]:
    """Yield what the kernel says of a container; `identity` is the one that Docker gave it.

    `facts` are those of the machine, of which every process of the container's is judged: by its
    control group, which it cannot choose, and never by its name.
    """
    container = facts["containers"][identity]
    own = [one for one in facts["processes"] if one["container"] == identity]
    mounts: Sequence[Told] = container["mounts"] or ()
    wrong = {f"kernel.{check}": seen for check, seen in _judge_all(container, own).items()}
    wrong["kernel.sockets"] = {f"nobody's {socket}": [] for socket in container["sockets"]}
    wrong["kernel.devices"] = {node: [] for node in strange_devices(part, container["nodes"])}
    wrong["kernel.environment"] = {name: [] for name in _strange_variables(part, container)}
    for check, seen in strange_network(container["network"], surroundings.networks):
        wrong.setdefault(f"kernel.{check}", {})[seen] = []
    fine = sum(not seen for seen in wrong.values())
    # Each mount apart, so that one can be accepted and another one be found.
    for point, seen in strange_mounts(part, identity, mounts, surroundings):
        wrong.setdefault(f"kernel.mounts.{point}", {})[seen] = []
    for check, found in wrong.items():
        if found:
            yield _name(part.service, check, found, fix)
    told = f"{fine} facts of {len(own)} processes and {len(mounts)} mounts are as planned"
    yield Finding(part.service, "kernel", "sealed", told)


def _name(subject: str, check: str, found: _Wrong, fix: str) -> Finding:
    # The numbers of processes are others each time, and are no part of what is accepted.
    difference = line(subject, check, ", ".join(sorted(found)))
    seen = ", ".join(f"{what}{_number(pids)}" for what, pids in sorted(found.items()))
    return Finding(subject, check, "open", seen, fix, difference, passing=check in _PASSING)


def _number(pids: Sequence[int]) -> str:
    return f" (pid {', '.join(map(str, pids[:5]))})" if pids else ""


def _judge_all(container: Told, processes: Sequence[Told]) -> dict[str, _Wrong]:
    """Return what is wrong with the processes of a container, by check."""
    first = next((one for one in processes if one["pid"] == container["pid"]), None)
    devices = {one["file"][0] for one in container["mounts"] or () if one["file"]}
    kept = {
        number for one in container["mounts"] or () if _is_kept(one) for number in _number_all(one)
    }
    wrong: dict[str, _Wrong] = {check: {} for check in _CHECKS}
    if first is None:
        wrong["namespaces"]["its first process is in another control group"] = [container["pid"]]
    for process in processes:
        place = _judge_place(process, first, devices) if first else ()
        for check, seen in (*_judge(process, kept), *place):
            wrong[check].setdefault(f"{process['comm']}: {seen}", []).append(process["pid"])
    return wrong


def _judge(process: Told, kept: AbstractSet[int]) -> Iterator[tuple[str, str]]:
    """Yield each check that a process fails by itself, and what is wrong."""
    yield from _judge_rights(process)
    if process["TracerPid"] != "0":
        yield "tracer", "another process traces it"
    if process["core"] != ["0", "0"]:
        yield "core", f"core files of {process['core']}"
    for file in process["deleted"]:
        if file["device"] in kept:
            yield "deleted", f"{file['path']} of {file['bytes']} bytes"


def _judge_place(
    process: Told, first: Told, devices: AbstractSet[int]
) -> Iterator[tuple[str, str]]:
    """Yield where a process is elsewhere than the first one of its container."""
    for kind in sorted(_NAMESPACES):
        theirs = process["namespaces"].get(kind)
        if theirs is None or theirs != first["namespaces"].get(kind):
            yield "namespaces", f"another one of kind {kind}"
    if process["root"] is None or process["root"] != first["root"]:
        yield "root", "another folder for its root"
    if process["folder"] is None or process["folder"][0] not in devices:
        yield "folder", "in a folder of no mount of the container"
    # Kernels before 5.9 do not tell how many filters there are.
    if process["Seccomp_filters"] != first["Seccomp_filters"]:
        yield "seccomp", "another number of filters"


def _judge_rights(process: Told) -> Iterator[tuple[str, str]]:
    for name in _RIGHTS:
        if int(process[name], 16):
            yield "capabilities", f"{name} {process[name]}"
    if process["NoNewPrivs"] != "1":
        yield "no_new_privileges", "they can be gained"
    if process["Seccomp"] != _FILTERED:
        yield "seccomp", "no filter"
    for name in ("Uid", "Gid", "Groups"):
        # Which groups there are besides its own depends on the engine's version: none, or that one.
        if not set(process[name].split()) <= {_ID}:
            yield "user", f"{name} {' '.join(process[name].split())}"


def _is_kept(mount: Told) -> bool:
    """Tell whether what is written to a mount outlives the container."""
    is_scratch = mount["type"] == "tmpfs" and mount["root"] == "/"
    return bool(mount["file"]) and "rw" in mount["options"].split(",") and not is_scratch


def _number_all(mount: Told) -> tuple[int, int]:
    """Return a file system's numbers: that of its files, and the one that memory maps have.

    On btrfs the first is of the subvolume.
    """
    major, minor = map(int, mount["device"].split(":"))
    return mount["file"][0], os.makedev(major, minor)


def _strange_variables(part: Part, container: Told) -> list[str]:
    image = {str(text).partition("=")[0] for text in part.image.configuration.get("Env") or ()}
    planned = image | set(part.environment) | _OWN_VARIABLES
    names: Sequence[str] | None = container["environment"]
    return ["it could not be read"] if names is None else sorted(set(names) - planned)
