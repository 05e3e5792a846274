"""Unix sockets in folders that several users share: no link is followed, no served one removed.

A folder's group may connect to what listens in it: the folder is setgid, and a server's umask
leaves its socket to owner and group. Standard library only: this runs inside the engines' images.
"""

import errno
import itertools
import os
import secrets
import socket
import stat
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from cloister.endpoint import LONGEST_PATH_BYTES, Endpoint, UnixSocket

# With the folder's setgid bit: owner and group may connect, whoever bound the socket.
UMASK = 0o007
_BACKLOG = 2048  # as uvicorn; the kernel's own limit is net.core.somaxconn
_ASKING_S = 1.0
_MOST_ENTRIES = 10_000  # of a folder that somebody else fills
_KINDS = {
    stat.S_IFREG: "files",
    stat.S_IFDIR: "folders",
    stat.S_IFLNK: "links",
    stat.S_IFSOCK: "sockets",
    stat.S_IFIFO: "pipes",
}
_BLOCK_BYTES = 512  # of stat(2), on any file system
_PRIVATE = 0o700
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def hold(path: Path) -> int:
    """Return a descriptor of the socket at `path`, to be closed by the caller.

    Raises OSError: ENOTSOCK where something else lies there, a link above all, which whoever owns
    the folder could point at any other server of this machine.
    """
    place = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    if not stat.S_ISSOCK(os.fstat(place).st_mode):
        os.close(place)
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK), str(path))
    return place


def address(place: int) -> str:
    """Return the address of a socket by its descriptor; pure.

    The name may be another file's by now, and may be too long.
    """
    return f"/proc/self/fd/{place}"


def connect(path: Path, timeout_s: float | None) -> socket.socket:
    """Return a connection to the server that listens at `path`; raises OSError as `hold`."""
    place = hold(path)
    try:
        made = socket.socket(socket.AF_UNIX)
        try:
            made.settimeout(timeout_s)
            made.connect(address(place))
        except BaseException:
            made.close()
            raise
    finally:
        os.close(place)
    return made


def is_served(path: Path) -> bool:
    """Return whether a server listens at `path`; one whose backlog is full does."""
    try:
        connect(path, _ASKING_S).close()
    except (BlockingIOError, TimeoutError):
        return True
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ECONNREFUSED, errno.ENOTSOCK}:
            return False
        raise
    return True


def make_way(path: Path) -> None:
    """Remove what an earlier run left at `path`.

    Raises OSError: EADDRINUSE while a server listens there, EISDIR for a folder.
    """
    if is_served(path):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), str(path))
    path.unlink(missing_ok=True)


def try_folder(folder: Path) -> None:
    """Make a socket in a folder, and remove it; raises OSError where its file system takes none."""
    with tempfile.TemporaryDirectory(prefix=".sockets-", dir=folder) as scratch:
        place = os.open(scratch, os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(f"/proc/self/fd/{place}/sock")  # the folder's own path may be too long
        finally:
            os.close(place)


def find_strays(folder: Path, *, name: str, is_kind: Callable[[int], bool]) -> str:
    """Return what lies in a folder besides one file of a kind, such as `stat.S_ISSOCK`.

    As kinds, counts and space, `` for nothing. Whoever owns the folder may make and remove files
    meanwhile, a million of them, and text of their names. No link is followed. Raises OSError.
    """
    kinds, blocks = Counter[str](), 0
    with os.scandir(folder) as entries:
        for entry in itertools.islice(entries, _MOST_ENTRIES):
            try:
                about = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                kinds["deleted entries"] += 1  # since the listing
                continue
            if entry.name != name or not is_kind(about.st_mode):
                kinds[_KINDS.get(stat.S_IFMT(about.st_mode), "others")] += 1
                blocks += about.st_blocks
    if not kinds:
        return ""
    listed = ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))
    more = " or more" if kinds.total() >= _MOST_ENTRIES - 1 else ""
    return f"{listed}{more} ({blocks * _BLOCK_BYTES >> 10} KiB)"


def remove_all(folder: Path) -> None:
    """Remove everything in a folder, however deep, and follow no link; raises OSError."""
    top = os.open(folder, _FOLDER)
    try:
        remove_below(top)
    finally:
        os.close(top)


def remove_below(top: int) -> None:
    """Remove everything in an open folder, as `remove_all`."""
    while folders := _remove_files(top):
        for name in folders:
            place = os.open(name, _FOLDER, dir_fd=top)
            try:
                # Up, so that no path becomes too long: there may be a million levels.
                for inner in _remove_files(place):
                    unique = f".{secrets.token_hex(8)}"
                    os.rename(inner, unique, src_dir_fd=place, dst_dir_fd=top)
            finally:
                os.close(place)
            os.rmdir(name, dir_fd=top)


def _remove_files(place: int) -> list[str]:
    """Remove what is no folder from an open one; return the names of the folders."""
    folders = []
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=place)
    return folders


def keep_out(folder: Path) -> None:
    """Make a folder that nobody enters but its owner."""
    folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    folder.chmod(_PRIVATE)


def let_in(folder: Path) -> None:
    """Make a folder in which any user may listen, and its group connect."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.parent.chmod(0o755)
    folder.chmod(0o2777)


def bound(endpoint: Endpoint) -> socket.socket:
    """Return a socket that listens at an endpoint; raises OSError."""
    if isinstance(endpoint, UnixSocket):
        return listen(endpoint.path)
    return socket.create_server((endpoint.host, endpoint.port), backlog=_BACKLOG)


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at `path`, for its owner and the group of its folder.

    Raises OSError as `make_way`, ENAMETOOLONG and what a file system without sockets says.
    """
    if len(os.fsencode(path)) > LONGEST_PATH_BYTES:  # Python's own error has no number
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
    make_way(path)
    made = socket.socket(socket.AF_UNIX)
    before = os.umask(UMASK)
    try:
        made.bind(os.fspath(path))
        made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    finally:
        os.umask(before)
    return made
