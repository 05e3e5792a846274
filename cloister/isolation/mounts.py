"""What is mounted in a container, beside what the plan says; pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from cloister.isolation.part import Part

# What a container has without being asked for it: file systems of its own, by their types, and
# files that Docker keeps for it in the container's folder.
_OWN_TYPES = {
    "/dev": "tmpfs",
    "/dev/mqueue": "mqueue",
    "/dev/pts": "devpts",
    "/dev/shm": "tmpfs",  # noqa: S108
    "/proc": "proc",
    "/sys": "sysfs",
    "/sys/fs/cgroup": "tmpfs",
}
_OWN_FILES = frozenset({"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"})
_INIT = re.compile(r"/(usr/)?sbin/docker-init")
_INIT_PROGRAMS = frozenset({"docker-init", "tini", "tini-static"})
_NULL = [1, 3]  # the numbers of /dev/null, which hides a file of the kernel's
# What NVIDIA's container toolkit mounts of a driver: devices, libraries, programs. Sockets of its
# daemons (persistenced, fabric manager, MPS) are not among them: this machine listens there.
_DRIVER_DEVICE = re.compile(r"/dev/nvidia[^/]*|/dev/nvidia-caps/[^/]*")
_GPU = re.compile(r"/dev/nvidia[0-9]+")
_DRIVER_MAJOR = 195  # of the GPUs, each with the minor number that is in its name
_CONTROLS = {254: "/dev/nvidia-modeset", 255: "/dev/nvidiactl"}
_DRIVER_KERNEL = re.compile(r"/proc/driver/nvidia.*")
_DRIVER_FILE = re.compile(
    r"/usr/bin/nvidia-[a-z-]+|/(usr/)?lib/firmware/nvidia/.*"
    r"|/usr/lib(64)?(/[a-z0-9_]+-linux-gnu)?/lib(cuda|cudadebugger|nv[a-z-]*|vdpau_nvidia)[^/]*"
)
# What Docker makes in each container: characters, with their numbers.
_OWN_DEVICES = {
    "/dev/full": [1, 7],
    "/dev/null": [1, 3],
    "/dev/ptmx": [5, 2],
    "/dev/random": [1, 8],
    "/dev/tty": [5, 0],
    "/dev/urandom": [1, 9],
    "/dev/zero": [1, 5],
}
Told = Mapping[str, Any]


@dataclass(frozen=True)
class Surroundings:
    """What is outside of a container: file systems that are mounted there, folders and networks.

    `devices` are the numbers of those file systems, as mountinfo has them; `files` are device and
    number of the planned folders of this machine, None where they could not be read. `hidden` are
    paths of the kernel's that Docker says to hide or to make read-only, as far as they exist,
    `networks` are those that Docker says the container is on.
    """

    devices: AbstractSet[str]
    files: Mapping[str, list[int] | None]
    hidden: AbstractSet[str] = frozenset()
    networks: Mapping[str, Told] = field(default_factory=dict)


def strange_mounts(
    part: Part, identity: str, mounts: Sequence[Told], around: Surroundings
) -> Iterator[tuple[str, str]]:
    """Yield each mount that is not as planned, by its point and what is wrong with it."""
    if not mounts:
        yield "/", "no mounts could be read"
    points = [mount["point"] for mount in mounts]
    for point in sorted({point for point in points if points.count(point) > 1}):
        yield point, "there are two mounts, one over the other"
    devices = {mount["point"]: mount["device"] for mount in mounts}
    for mount in mounts:
        wrong = _judge(part, identity, mount, devices, around)
        if wrong:
            yield mount["point"], wrong
    planned = {*(str(mount.target) for mount in part.mounts), *part.tmpfs, *around.hidden}
    for point in sorted(planned - set(points)) if mounts else ():
        yield point, "it is not mounted"


def strange_devices(part: Part, nodes: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Yield each device of a container's /dev that neither Docker nor the planned GPU brings.

    The driver numbers its devices otherwise than Docker, which is given the GPU: a single one is
    the planned one.
    """
    gpus = list[str]()
    for path, kind, *numbers in nodes:
        if part.gpu is not None and kind == "c" and _is_driver_device(path, numbers):
            gpus += [path] if _GPU.fullmatch(path) else []
        elif kind != "c" or _OWN_DEVICES.get(path) != numbers:
            yield f"{path} {kind} {':'.join(map(str, numbers))}"
    if len(gpus) > 1:
        yield f"{len(gpus)} GPUs instead of one: {' '.join(gpus)}"


def _is_driver_device(path: str, numbers: Sequence[int]) -> bool:
    """Tell whether a character device of the driver's has the name that its number has."""
    major, minor = numbers
    if major == _DRIVER_MAJOR:
        return path in {f"/dev/nvidia{minor}", _CONTROLS.get(minor)}
    return bool(_DRIVER_DEVICE.fullmatch(path)) and not _GPU.fullmatch(path)


def _judge(
    part: Part, identity: str, mount: Told, devices: Mapping[str, str], around: Surroundings
) -> str:
    """Return what is wrong with a mount; nothing when it is as planned."""
    point = mount["point"]
    bound = {str(one.target): one.writable for one in part.mounts}
    if point in bound:
        return _judge_folder(mount, around.files.get(point), writable=bound[point])
    if point in part.tmpfs:
        wanted = {"noexec", "nosuid", "nodev"} & set(part.tmpfs[point].split(","))
        return _judge_own(mount, "tmpfs", around) or _lacks(mount, wanted)
    if point == "/":
        return _lacks(mount, {"ro"})
    # Below version 2 of control groups it is one of those itself.
    if point in _OWN_TYPES and mount["type"] != "cgroup2":
        wanted = {"ro"} if point == "/sys" else set()
        return _judge_own(mount, _OWN_TYPES[point], around) or _lacks(mount, wanted)
    return _judge_further(part, identity, mount, devices)


def _judge_further(part: Part, identity: str, mount: Told, devices: Mapping[str, str]) -> str:
    point, root = mount["point"], PurePosixPath(mount["root"])
    if point in _OWN_FILES and root.parts[-2:] == (identity, PurePosixPath(point).name):
        return ""
    if _INIT.fullmatch(point) and root.name in _INIT_PROGRAMS:
        return _lacks(mount, {"ro"})
    if point.startswith(("/proc/", "/sys/")) and _is_kernels(mount, devices):
        return ""
    if part.gpu is not None and _is_drivers(mount):
        return ""
    return _describe(mount)


def _judge_folder(mount: Told, planned: list[int] | None, *, writable: bool) -> str:
    if planned is None:
        return "what lies there on this machine cannot be read"
    if mount["file"] != planned:
        return f"another folder: {_describe(mount)}"
    return "" if writable else _lacks(mount, {"ro"})


def _judge_own(mount: Told, kind: str, around: Surroundings) -> str:
    """Return whether a file system is not of the right kind, or not the container's alone."""
    if mount["type"] != kind or mount["root"] != "/" or mount["device"] in around.devices:
        return _describe(mount)
    return ""


def _is_kernels(mount: Told, devices: Mapping[str, str]) -> bool:
    """Tell whether a mount below /proc or /sys is the engine's, by which something is hidden."""
    point, is_read_only = mount["point"], "ro" in mount["options"].split(",")
    if mount["type"] in {"cgroup", "cgroup2"}:
        return is_read_only and point.startswith("/sys/fs/cgroup")
    if mount["type"] == "proc":
        of_own = mount["device"] == devices.get("/proc") and f"/proc{mount['root']}" == point
        return is_read_only and of_own
    if mount["character"] == _NULL:
        return True
    return mount["type"] == "tmpfs" and mount["root"] == "/" and "ro" in mount["super"].split(",")


def _is_drivers(mount: Told) -> bool:
    point = mount["point"]
    if _DRIVER_DEVICE.fullmatch(point):
        return mount["character"] is not None and _is_driver_device(point, mount["character"])
    if _DRIVER_KERNEL.fullmatch(point):
        return mount["type"] in {"proc", "tmpfs"}
    return bool(_DRIVER_FILE.fullmatch(point)) and not _lacks(mount, {"ro"})


def _lacks(mount: Told, wanted: AbstractSet[str]) -> str:
    lacking = sorted(set(wanted) - set(mount["options"].split(",")))
    return f"without {', '.join(lacking)}: {mount['options']}" if lacking else ""


def _describe(mount: Told) -> str:
    return f"{mount['type']} {mount['root']} of {mount['source']} ({mount['options']})"
