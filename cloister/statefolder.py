"""Whose the state folder is: what is in it is run, obeyed and sent pages, whoever wrote it."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from cloister.config import project_root
from cloister.errors import DeploymentError
from cloister.files import exclusive

_ROOT = 0
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_VANISHED = contextlib.suppress(FileNotFoundError)
_ANOTHER = "set `state_dir` to a folder of your own on a file system that keeps modes"
_MOST_LINKS = 40  # as the kernel follows
# Of a user namespace, in which the machine's own users are all one that has no name there.
_OVERFLOW, _MAP = Path("/proc/sys/kernel/overflowuid"), Path("/proc/self/uid_map")
_WHOLE_MAP = ["0", "0", "4294967295"]


@contextlib.contextmanager
def locked(lock: Path, *, wait_s: float = 5.0, busy: str | None = None) -> Iterator[None]:
    """Hold a lock file of a state folder that nobody else can change; raises as those two do."""
    require_own(lock.parent)
    with exclusive(lock, wait_s=wait_s, **({"busy": busy} if busy else {})):
        yield


def require_own(folder: Path) -> None:
    """Raise DeploymentError where another user could change a folder, or put his in its place.

    It need not be there yet. What this user left open for others to write into is closed to them.
    """
    trusted, end = _trusted(), Path(os.path.realpath(folder))
    for place, about in _places(folder):
        if about.st_uid not in trusted:
            raise _refused(folder, place, f"belongs to user {about.st_uid}")
        is_open = stat.S_ISDIR(about.st_mode) and about.st_mode & stat.S_IWOTH
        # In a sticky one, as /tmp, each user has only what is his.
        if is_open and (place == end) == bool(about.st_mode & stat.S_ISVTX):
            raise _refused(folder, place, "is everybody's to write into")
    try:
        if folder.is_dir():
            _close(folder, trusted)
            for inner in folder.iterdir():
                with _VANISHED:  # other commands write files beside, and rename them
                    if stat.S_ISDIR(inner.lstat().st_mode):
                        _close(inner, trusted)
    except OSError as error:
        raise DeploymentError(
            f"`{error.filename or folder}` cannot be read: {error.strerror}", hint=_ANOTHER
        ) from error


@contextlib.contextmanager
def closing() -> Iterator[None]:
    """Make or close folders of a state folder; raises DeploymentError for one that cannot be."""
    try:
        yield
    except PermissionError as error:
        raise _open(Path(error.filename), str(error.strerror)) from error
    except OSError as error:
        raise DeploymentError(
            f"`{error.filename}` cannot be made or closed: {error.strerror}", hint=_ANOTHER
        ) from error


def _trusted() -> set[int]:
    """Return this user, root, and whose program this is: he has a say in it anyway."""
    trusted = {os.geteuid(), _ROOT, project_root().lstat().st_uid}
    # A kernel without user namespaces has no map.
    if _MAP.exists() and _MAP.read_text().split() != _WHOLE_MAP:
        trusted.add(int(_OVERFLOW.read_text()))
    return trusted


def _places(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield what is there of a path, from the top; of its links where they lead to as well."""
    here, names, links = Path(path.root), [*reversed(path.parts[1:])], 0
    yield here, here.lstat()
    while names:
        here /= names.pop()
        if here.name == "..":
            here = here.parent.parent  # of the top, the top
        try:
            about = here.lstat()
        except OSError:
            return  # nothing is there, or nothing that this user could use
        yield here, about
        if stat.S_ISLNK(about.st_mode):
            links += 1
            if links > _MOST_LINKS:
                raise DeploymentError(f"`{path}` has links that lead to each other")
            to = here.readlink()
            names += reversed(to.parts[1:] if to.is_absolute() else to.parts)
            here = Path(to.root) if to.is_absolute() else here.parent


def _close(folder: Path, trusted: set[int]) -> None:
    """Close a folder that others write into; raises DeploymentError for what they put there."""
    mode = folder.stat().st_mode
    if not mode & _OTHERS_WRITE:
        return
    # It stays open while there is such a thing, so that every command finds it.
    _require_own_entries(folder, trusted)
    with closing():
        folder.chmod(stat.S_IMODE(mode) & ~_OTHERS_WRITE)
    if folder.stat().st_mode & _OTHERS_WRITE:
        raise _open(folder, "its file system keeps no modes")
    _require_own_entries(folder, trusted)


def _require_own_entries(folder: Path, trusted: set[int]) -> None:
    for path in folder.iterdir():
        try:
            owner = path.lstat().st_uid
        except FileNotFoundError:
            continue
        if owner not in trusted:
            raise DeploymentError(
                f"`{path}` belongs to user {owner}, who could write into the state folder",
                hint=f"look at it, then rm -r {path}",
            )


def _open(folder: Path, why: str) -> DeploymentError:
    return DeploymentError(
        f"`{folder}` cannot be closed to other users: {why}; expected a folder of this user",
        hint=f"remove it as its owner (ls -ld {folder}), or {_ANOTHER}",
    )


def _refused(folder: Path, place: Path, why: str) -> DeploymentError:
    where = f"`{folder}`" if place == folder else f"`{place}`, on the way to `{folder}`,"
    return DeploymentError(
        f"{where} {why}; expected a folder that only this user and root can change",
        hint=_ANOTHER,
    )
