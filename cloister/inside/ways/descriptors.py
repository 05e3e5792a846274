"""What processes hold open: deleted files, and sockets beside those of a network namespace."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

# Where each list of sockets in /proc/PID/net has its column for the number of the socket.
_LISTS = {
    **dict.fromkeys(("tcp", "tcp6", "udp", "udp6", "udplite", "udplite6"), 9),
    **dict.fromkeys(("raw", "raw6", "icmp", "icmp6"), 9),
    "packet": 8,
    "unix": 6,
    "sctp/eps": 7,
}
_ADDRESS = {"unix": 7, "sctp/eps": 5, "packet": 3}  # everywhere else the second column
_DELETED = " (deleted)"
# Docker answers names in a container's own namespace.
_RESOLVER = "0B00007F:"


def read_descriptors(folder: Path) -> tuple[list[dict[str, object]], set[int]]:
    """Return the files that a process holds open and that no folder lists, and its sockets.

    Each thread may have a table of descriptors of its own.
    """
    deleted, sockets = dict[tuple[int, int], dict[str, object]](), set[int]()
    tasks = list_tasks(folder)
    for entry in (entry for task in tasks for entry in _list_descriptors(task)):
        try:
            told = entry.stat()
            if stat.S_ISSOCK(told.st_mode):
                sockets.add(told.st_ino)
            elif stat.S_ISREG(told.st_mode) and told.st_nlink == 0:
                path = str(Path(entry.path).readlink())
                file = {"path": path, "device": told.st_dev, "bytes": told.st_size}
                deleted[told.st_dev, told.st_ino] = file
        except OSError:
            continue  # it has been closed
    return [*deleted.values(), *_list_mapped(tasks)], sockets


def _list_mapped(tasks: Sequence[Path]) -> list[dict[str, object]]:
    """Return the files that no folder lists and that are in a process's memory alone.

    All threads have one memory, of which those that have ended show nothing.
    """
    sizes = dict[tuple[str, int], int]()
    tables = (_read_table(task / "maps", skipped=0) for task in tasks)
    for words in next((table for table in tables if any(table)), []):
        path = " ".join(words[5:])
        if path.endswith(_DELETED):
            first, last = (int(end, 16) for end in words[0].split("-"))
            major, minor = (int(number, 16) for number in words[3].split(":"))
            place = path, os.makedev(major, minor)
            sizes[place] = sizes.get(place, 0) + last - first
    return [{"path": path, "device": at, "bytes": size} for (path, at), size in sizes.items()]


def list_sockets(folder: Path) -> dict[int, str]:
    """Return the sockets of a process's network namespace that somebody holds, by their numbers.

    One that nobody holds any more, or that nobody has accepted yet, has no number.
    """
    found = dict[int, str]()
    for kind, column in _LISTS.items():
        for words in _read_table(folder / "net" / kind):
            # A name may have a line break, and what follows is no line of the kernel's.
            is_whole = len(words) > column and words[column].isdecimal()
            number = int(words[column]) if is_whole else 0
            address = " ".join(words[_ADDRESS.get(kind, 1) :][:1])
            if number and not address.startswith(_RESOLVER):
                found[number] = f"{kind} {address}".rstrip()
    return found


def list_tasks(folder: Path) -> list[Path]:
    """Return the threads of a process; none of one that has ended."""
    try:
        return sorted((folder / "task").iterdir(), key=lambda task: int(task.name))
    except OSError:
        return []


def _list_descriptors(folder: Path) -> list[os.DirEntry[str]]:
    """Return what a thread holds open; nothing of one that has ended."""
    try:
        with os.scandir(folder / "fd") as entries:
            return sorted(entries, key=lambda entry: int(entry.name))
    except OSError:
        return []


def _read_table(path: Path, *, skipped: int = 1) -> list[list[str]]:
    """Return the lines of a list of the kernel's; none where this kernel has no such list."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line.split() for line in text.split("\n")[skipped:]]
