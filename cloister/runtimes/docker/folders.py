"""The folders in which containers listen: made, emptied, and removed with all that is in them."""

import contextlib
from pathlib import Path

from docker.models.containers import Container

from cloister import containers, nginx, sockets, statefolder
from cloister.config import DockerSettings
from cloister.errors import DeploymentError
from cloister.layout import Layout
from cloister.runtimes.docker import preflight
from cloister.runtimes.docker.addresses import OWN
from cloister.runtimes.program import SOCKET, Program, socket_folder

# A folder of another user's, and in it one with the sticky bit.
_RIGHTS = ["DAC_OVERRIDE", "FOWNER"]
_EMPTYING_S = 600  # a million files


def make(layout: Layout, programs: tuple[Program, ...]) -> None:
    """Make the sockets' folders: any user's container may write its own, nobody reaches them.

    A container's user is nobody here, so the folder that keeps everybody out is above them.
    """
    with statefolder.closing():
        sockets.keep_out(layout.run)
        for program in programs:
            sockets.let_in(layout.sockets / socket_folder(program.name))
        sockets.let_in(layout.spool)


def find(layout: Layout, container: Container) -> Path | None:
    """Return the folder of a stopped container's socket, None where it has none of ours.

    By what the container mounts: a service of the user's own file may have any name, and may mount
    the folder of an engine, whose socket is served then.
    """
    sources = {
        Path(mount["Source"])
        for mount in container.attrs["Mounts"]
        if mount["Destination"] == str(OWN)
    }
    return next(
        (one for one in sources if one.parent == layout.sockets and not _is_served(one)), None
    )


def _is_served(folder: Path) -> bool:
    try:
        return sockets.is_served(folder / SOCKET)
    except OSError:
        return False  # it may not be connected to, or no socket lies there


def remove(folder: Path, settings: DockerSettings) -> None:
    """Remove a folder with what containers left in it; raises DeploymentError."""
    if not folder.exists():
        return
    empty(folder, settings)
    try:
        folder.rmdir()
    except OSError as error:
        raise _failure(folder, str(error.strerror)) from error


def forget_process(layout: Layout, settings: DockerSettings) -> None:
    """Remove what a gateway left that ran as a process: no container's user can write its spool."""
    nginx.remove_leftovers(layout.gateway)
    empty(layout.spool, settings)


def empty(folder: Path, settings: DockerSettings) -> None:
    """Remove what containers left in a folder, which may be text of pages.

    The user of an engine makes folders that only it may change. Where this user is not root, a
    container of ours removes them. Raises DeploymentError.
    """
    try:
        sockets.remove_all(folder)
    except PermissionError:
        _empty_as_root(folder, settings)
    except OSError as error:
        raise _failure(folder, str(error.strerror)) from error


def _empty_as_root(folder: Path, settings: DockerSettings) -> None:
    with containers.explained(), contextlib.ExitStack() as cleanup:
        container = containers.connect().containers.create(
            preflight.reference("exporter", settings),
            [str(OWN)],
            entrypoint=["python3", "-m", "cloister.inside.empty"],
            user="0:0",
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            cap_add=_RIGHTS,
            security_opt=["no-new-privileges"],
            volumes={str(folder): {"bind": str(OWN), "mode": "rw"}},
        )
        cleanup.callback(container.remove, force=True)
        container.start()
        code = container.wait(timeout=_EMPTYING_S)["StatusCode"]
        said = container.logs().decode(errors="replace").strip()
    if code != 0:
        raise _failure(folder, said[-200:])


def _failure(folder: Path, reason: str) -> DeploymentError:
    return DeploymentError(
        f"`{folder}` cannot be emptied: {reason}", hint=f"sudo rm -rf {folder}, then try again"
    )
