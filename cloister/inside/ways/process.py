"""What the kernel says about the processes of containers, and about whoever shares with them.

To be asked by root in the machine's PID namespace, where every process is seen.
"""

import contextlib
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from cloister.inside.ways.descriptors import list_sockets, list_tasks, read_descriptors
from cloister.inside.ways.interfaces import read_links, read_network
from cloister.inside.ways.mounts import list_views, read_mounts
from cloister.inside.ways.results import Result, report_reached, show

_PROC = Path("/proc")
_STATUS = (
    *("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"),
    *("NoNewPrivs", "Seccomp", "Seccomp_filters", "Uid", "Gid", "Groups", "TracerPid"),
)
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
_PATIENCE_S = 40.0
_ENDED = ("Z", "X")  # the states of a thread that is only waited for
# A program may write anything where its environment was: only what looks like a name is taken.
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)=")
_CORE_LIMIT = re.compile(r"^Max core file size\s+(\S+)\s+(\S+)", re.MULTILINE)
_CONTAINER = re.compile(r"[0-9a-f]{64}")


class TooManyError(OSError):
    """There are more processes, or more that they hold open, than can be looked at in time."""

    def __init__(self, containers: Sequence[str]) -> None:
        ((identity, count),) = Counter(containers).most_common(1)
        super().__init__(f"not within {_PATIENCE_S:g} s: {identity[:12]} has {count} processes")


def inspect_processes(*, containers: Mapping[str, int], others: Mapping[str, int]) -> Result:
    """Return what the kernel says about containers, and about all processes that share with them.

    `containers` are their first processes by the identities of the containers, `others` those of
    containers whose mounts and interfaces alone are asked for. What may not be read is None.
    Raises OSError when one of `containers` has ended.
    """
    firsts = {identity: _inspect_container(pid) for identity, pid in containers.items()}
    opened = {identity: list_sockets(_PROC / str(pid)) for identity, pid in containers.items()}
    namespaces = [_read_namespaces(_PROC / str(pid)) for pid in containers.values()]
    shared = {entry for one in namespaces for entry in one.items()}
    everybody = list(_locate_all())
    inside, apart = list[dict[str, Any]](), list[dict[str, Any]]()
    for one in everybody:
        is_inside = one["container"] in containers or _shares(one, shared)
        (inside if is_inside else apart).append(one)
    processes, holders = list[dict[str, object]](), set[int]()
    deadline = time.monotonic() + _PATIENCE_S
    for one in inside:
        if time.monotonic() > deadline:
            raise TooManyError([str(each["container"]) for each in inside])
        deleted, held = read_descriptors(_PROC / str(one["pid"]))
        processes += _inspect_threads(one, deleted)
        holders |= held if one["container"] in containers else set()
    for identity, pid in containers.items():
        # Only what was open before and is still: others may have been opened or closed meanwhile.
        still = opened[identity].items() & list_sockets(_PROC / str(pid)).items()
        left = sorted(show(address) for number, address in still if number not in holders)
        firsts[identity]["sockets"] = left
    strange = [one for one in everybody if one["container"] not in containers]
    return report_reached(
        "",
        containers=firsts,
        others={identity: _inspect_other(pid) for identity, pid in others.items()},
        views=list_views(strange, known=(*containers.values(), *others.values())),
        processes=processes,
        devices=_list_devices(apart),
        count=len(everybody),
        unknown=[one["comm"] for one in everybody if "network" not in one["namespaces"]],
    )


def _shares(process: Mapping[str, Any], shared: AbstractSet[tuple[str, object]]) -> bool:
    """Tell whether a thread of a process is in one of these namespaces: each has its own."""
    tasks = list_tasks(_PROC / str(process["pid"]))
    return any(shared & _read_namespaces(task).items() for task in tasks)


def _inspect_container(pid: int) -> dict[str, object]:
    """Return what only the first process of a container is asked; raises OSError without one."""
    folder = _PROC / str(pid)
    _read_status(folder)
    mounts = read_mounts(folder)
    return {
        "pid": pid,
        "environment": _read_names(folder / "environ"),
        "mounts": mounts and [{**one, **_identify(folder, one["point"])} for one in mounts],
        "links": _read_links(folder),
        "network": _read_network(folder),
        "nodes": list(_find_nodes(Path(f"{folder}/root/dev"), "/dev")),
    }


def _find_nodes(folder: Path, shown: str) -> Iterator[list[object]]:
    """Yield the devices of a file system by what leads there, with their kinds and numbers."""
    for entry in _list(folder):
        try:
            told = entry.lstat()
        except OSError:
            continue  # it has been removed
        path, numbers = f"{shown}/{entry.name}", (os.major(told.st_rdev), os.minor(told.st_rdev))
        if stat.S_ISCHR(told.st_mode) or stat.S_ISBLK(told.st_mode):
            yield [show(path), "c" if stat.S_ISCHR(told.st_mode) else "b", *numbers]
        elif stat.S_ISDIR(told.st_mode) and not entry.is_mount():
            yield from _find_nodes(entry, path)


def _inspect_other(pid: int) -> dict[str, object]:
    folder = _PROC / str(pid)
    return {"mounts": read_mounts(folder), "links": _read_links(folder)}


def _locate_all() -> Iterator[dict[str, Any]]:
    """Yield every process of the machine, with the container and the namespaces that it is in."""
    for number in sorted(int(path.name) for path in _PROC.iterdir() if path.name.isdigit()):
        folder = _PROC / str(number)
        try:
            status = _read_status(folder)
            # The first thread may end before the others: it has nothing of a process any more.
            if status["State"].startswith(_ENDED) and int(status["Threads"]) > 1:
                folder, status = next(_list_living(folder), (folder, status))
            cgroup = (folder / "cgroup").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it has ended
        if not status["State"].startswith(_ENDED) or int(status["Threads"]) > 1:
            yield {
                "pid": number,
                "comm": show(status["Name"]),
                "container": (_CONTAINER.findall(cgroup) or [None])[-1],
                "cgroup": show(cgroup.strip().rpartition(":")[2]),
                "namespaces": _read_namespaces(folder),
            }


def _list_living(folder: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield the threads of a process that have not ended, with their states."""
    for task in list_tasks(folder):
        try:
            status = _read_status(task)
        except OSError:
            continue  # it has ended
        if not status["State"].startswith(_ENDED):
            yield task, status


def _inspect_threads(
    process: Mapping[str, Any], deleted: Sequence[Mapping[str, object]]
) -> Iterator[dict[str, object]]:
    """Yield a process once for each way in which its threads differ: each has its own rights."""
    folder = _PROC / str(process["pid"])
    shown = [{**one, "path": show(str(one["path"]))} for one in deleted]
    common = {**process, "core": _read_core_limit(folder), "deleted": shown}
    entries = list[dict[str, object]]()
    for task, status in _list_living(folder):
        entry = {**common, **{name: status.get(name) for name in _STATUS}}
        entry |= {"root": _read_place(task / "root"), "folder": _read_place(task / "cwd")}
        entry["namespaces"] = _read_namespaces(task)
        if entry not in entries:
            entries.append(entry)
            yield entry


def _read_namespaces(folder: Path) -> dict[str, object]:
    """Return the namespaces of a process by kind, without those that may not be read.

    `network` tells network namespaces apart even then: each has files of its own in /proc.
    """
    found: dict[str, object] = {}
    for kind in _NAMESPACES:
        with contextlib.suppress(OSError):  # it may not be read, or it has ended
            found[kind] = str((folder / "ns" / kind).readlink())
    with contextlib.suppress(OSError):
        found["network"] = (folder / "net" / "dev").stat().st_ino
    return found


def _read_place(link: Path) -> list[int] | None:
    """Return device and number of the folder that a process has for its root, or is in."""
    try:
        told = link.stat()
    except OSError:
        return None  # it may not be read, or it has ended
    return [told.st_dev, told.st_ino]


def _identify(folder: Path, point: str) -> dict[str, object]:
    """Return which file lies at a mount point, and the numbers of a character device there."""
    try:
        told = os.lstat(f"{folder}/root{point}")
    except OSError:
        return {"file": None, "character": None}
    numbers = [os.major(told.st_rdev), os.minor(told.st_rdev)]
    return {
        "file": [told.st_dev, told.st_ino],
        "character": numbers if stat.S_ISCHR(told.st_mode) else None,
    }


def _read_links(folder: Path) -> dict[str, list[int]] | None:
    try:
        return read_links(folder / "root/sys/class/net")
    except OSError:
        return None


def _read_network(folder: Path) -> dict[str, object] | None:
    try:
        return read_network(folder / "net", folder / "root/sys/class/net")
    except OSError:
        return None


def _list_devices(processes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the numbers of the file systems that are mounted where these processes are."""
    by_namespace = {one["namespaces"].get("mnt", one["pid"]): one["pid"] for one in processes}
    mounts = (read_mounts(_PROC / str(pid)) or [] for pid in by_namespace.values())
    return sorted({mount["device"] for some in mounts for mount in some})


def _list(folder: Path) -> list[Path]:
    """Return what lies in a folder; nothing of a process that has ended."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _read_status(folder: Path) -> dict[str, str]:
    lines = (folder / "status").read_text(encoding="utf-8", errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _read(path: Path) -> str | None:
    """Return a file's text, None when it may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _read_core_limit(folder: Path) -> list[str] | None:
    """Return the soft and the hard limit of core files."""
    match = _CORE_LIMIT.search(_read(folder / "limits") or "")
    return None if match is None else [match[1], match[2]]


def _read_names(path: Path) -> list[str] | None:
    """Return the names of environment variables, never a value; None when unreadable."""
    text = _read(path)
    if text is None:
        return None
    matches = (_NAME.match(entry) for entry in text.split("\0"))
    return [match[1] for match in matches if match]
