"""What is mounted where a process is, and which processes have a root of their own."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cloister.inside.ways.descriptors import list_tasks
from cloister.inside.ways.results import show

_PROC = Path("/proc")
_ESCAPE = re.compile(r"\\([0-7]{3})")
# Control groups of containers without the 64 digits that most engines give them.
_CONTAINERS = re.compile(r"/(lxc|machine|kubepods)[./]")
_SNAP = "/snap."


def read_mounts(folder: Path) -> list[dict[str, Any]] | None:
    """Return the mounts that a process sees, None when they may not be read."""
    try:
        text = (folder / "mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return [parse_mount(line) for line in text.splitlines()]


def parse_mount(line: str) -> dict[str, Any]:
    """Return a line of mountinfo; `super` is the options of the file system itself."""
    first, _, last = line.partition(" - ")
    device, root, point, options = first.split(" ")[2:6]
    kind, source, super_options = last.split(" ", 2)
    return {
        "device": device,
        "root": _unescape(root),
        "point": _unescape(point),
        "type": kind,
        "source": _unescape(source),
        "options": options,
        "super": super_options,
    }


def list_views(
    processes: Sequence[Mapping[str, Any]], known: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the mounts of containers, of whatever engine, with one process of each.

    A container has another root than this machine. A service of this machine's may have a mount
    namespace too, in which the machine's files lie where they always do. So may a snap and the
    sandbox of a user, with another root: they show files of this machine to a user of this machine,
    who may read them or may not. What `known` processes see is left out; another process of the
    same mount namespace sees something else where its root is another one.
    """
    left_out = {_identify_view(_PROC / str(pid)) for pid in known}
    machine = _find_root(read_mounts(_PROC / "1"))
    seen, views = set[tuple[object, object]](), list[dict[str, Any]]()
    for process in processes:
        for task in list_tasks(_PROC / str(process["pid"])):
            view = _identify_view(task)
            if view in seen or view in left_out:
                continue
            mounts = read_mounts(task) or []
            is_machine = _find_root(mounts) == machine
            if is_machine or not _is_sandbox(process, task):
                seen.add(view)
            if mounts and not is_machine and view in seen:
                shown = [{**mount, "point": show(mount["point"])} for mount in mounts]
                views.append({**process, "mounts": shown})
    return views


def _identify_view(folder: Path) -> tuple[object, object]:
    """Return what decides which mounts a process sees: its mount namespace, and its root."""
    return _read_space(folder), _read_root(folder)


def _read_space(folder: Path) -> object:
    """Return the mount namespace of a process, or the process itself where it may not be read."""
    try:
        return str((folder / "ns" / "mnt").readlink())
    except OSError:
        return folder


def _read_root(folder: Path) -> object:
    """Return the folder that a process has for its root: it sees the mounts below that alone."""
    try:
        told = (folder / "root").stat()
    except OSError:
        return folder
    return told.st_dev, told.st_ino


def _find_root(mounts: Sequence[Mapping[str, Any]] | None) -> tuple[str, str] | None:
    """Return what is mounted as the root, as device and folder; None where nothing is."""
    roots = [(one["device"], one["root"]) for one in mounts or () if one["point"] == "/"]
    return roots[-1] if roots else None


def _is_sandbox(process: Mapping[str, Any], task: Path) -> bool:
    """Tell whether a process is of no container, but a snap's or in a user namespace."""
    if process["container"] or _CONTAINERS.search(process["cgroup"]):
        return False
    return _SNAP in process["cgroup"] or _read_users(task) != _read_users(_PROC / "self")


def _read_users(folder: Path) -> list[str]:
    """Return the users of a process's user namespace; none of a process that has ended."""
    try:
        return (folder / "uid_map").read_text(encoding="utf-8").split()
    except OSError:
        return []


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
