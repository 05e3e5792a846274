"""Files written whole or not at all, files that grow, and a lock between commands."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from cloister.errors import DeploymentError

_POLL_S = 0.05


def write_atomically(
    path: Path, content: str | bytes, *, mode: int = 0o644, staging: Path | None = None
) -> None:
    """Write beside the target, sync, and rename: a reader sees the old file or the new one.

    `staging` is a folder on the same file system to write in, so that what a killed program leaves
    is not among the targets. Raises DeploymentError when the disk is full or the folder may not be
    written.
    """
    binary = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=staging or path.parent, delete=False) as file:
            try:
                file.write(binary)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        raise DeploymentError(f"`{path}` cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def exclusive(path: Path, *, wait_s: float = 5.0) -> Iterator[None]:
    """Hold a lock file; raises DeploymentError when another command holds it for longer.

    By default a command waits for what the watchdog does in a moment, and not for another command.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A link here would be somebody's way to a file of his choice.
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "w")
    except OSError as error:
        raise DeploymentError(
            f"`{path}` cannot be written: {error.strerror}", hint="set `state_dir`"
        ) from error
    with file:
        try:
            for attempt in Retrying(
                retry=retry_if_exception_type(BlockingIOError),
                stop=stop_after_delay(wait_s),
                wait=wait_fixed(_POLL_S),
                reraise=True,
            ):
                with attempt:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DeploymentError(
                "another Cloister command is changing this deployment", hint="try again after it"
            ) from error
        yield


class NewLines:
    """The lines that are added to a file, each once and whole, while another program writes it."""

    def __init__(self, path: Path, *, begin: int = 0) -> None:
        self._path = path
        self._read = begin

    def read(self) -> list[bytes]:
        """Return those since the last call; a file that became shorter begins anew."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            if self._read > os.fstat(file.fileno()).st_size:
                self._read = 0
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        return whole.splitlines()
