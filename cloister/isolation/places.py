"""What lies in the folders in which the containers listen: a socket each, and nothing else."""

import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cloister import sockets
from cloister.isolation.finding import Finding
from cloister.runtimes import SOCKET


def contents(folders: Mapping[str, Path], spool: Path) -> Iterator[Finding]:
    """Yield whether each container's folder holds its socket alone.

    An engine owns its folder, and might leave text there, or another file in the socket's place.
    `folders` are by service, `spool` is the file of the access log's lines.
    """
    for service, folder in folders.items():
        yield _judge(service, folder / SOCKET, stat.S_ISSOCK, f"invoke restart --name {service}")
    yield _judge("spool", spool, stat.S_ISREG, "invoke down, then invoke up")


def _judge(subject: str, expected: Path, is_kind: Callable[[int], bool], fix: str) -> Finding:
    folder = expected.parent
    try:
        strays = sockets.find_strays(folder, name=expected.name, is_kind=is_kind)
    except OSError as error:
        seen = f"`{folder}` cannot be read: {error.strerror}"
        return Finding(subject, "its folder", "unproven", seen, fix)
    if strays:
        return Finding(subject, "its folder", "open", f"{strays} in `{folder}`", fix)
    return Finding(subject, "its folder", "sealed", f"nothing but {expected.name}")
