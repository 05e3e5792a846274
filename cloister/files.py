"""Files written whole or not at all, files that grow, and a lock between commands."""

import contextlib
import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from cloister.errors import DeploymentError

_POLL_S = 0.05
_LOCK = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE, _PRIVATE_FOLDER, _FOLDER, _OTHERS = 0o600, 0o700, 0o755, 0o077


class BusyError(DeploymentError):
    """Another command has what this one needs, or had it meanwhile."""


def write_atomically(
    path: Path, content: str | bytes, *, mode: int | None = None, staging: Path | None = None
) -> None:
    """Write beside the target, sync, and rename: a reader sees the old file or the new one.

    Without a `mode` the file is the user's, and has that of his umask; with one, the folders that
    are made for it are nobody else's to write into. `staging` is a folder on the same file system
    to write in, so that what a killed program leaves is not among the targets. Raises
    DeploymentError when the disk is full or the folder may not be written.
    """
    binary = content.encode() if isinstance(content, str) else content
    try:
        if mode is None:
            path.parent.mkdir(parents=True, exist_ok=True)
        else:
            make_folder(path.parent, _FOLDER)
        with tempfile.NamedTemporaryFile(dir=staging or path.parent, delete=False) as file:
            try:
                file.write(binary)
                file.flush()
                os.fchmod(file.fileno(), 0o666 & ~_umask() if mode is None else mode)
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                # Ctrl-C may come right after the rename, and must not become an OSError.
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise DeploymentError(f"`{path}` cannot be written: {error.strerror}") from error


def _umask() -> int:
    """Return the umask; `os.umask` would change it meanwhile, for all threads."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("\nUmask:")[2].split()[0], 8)


def make_folder(folder: Path, mode: int) -> None:
    """Make a folder of a mode that the umask may narrow; those above it only their owner changes.

    Raises OSError.
    """
    for above in reversed(folder.parents):
        above.mkdir(mode=_FOLDER, exist_ok=True)
    folder.mkdir(mode=mode, exist_ok=True)


class NewLines:
    """The lines that are added to a file, each once and whole, while another program writes it."""

    def __init__(self, path: Path, *, begin: int = 0) -> None:
        self._path = path
        self._read = begin

    def read(self) -> list[bytes]:
        """Return those since the last call. A file that became shorter is read from its start."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            if self._read > os.fstat(file.fileno()).st_size:
                self._read = 0
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        return whole.splitlines()


@contextlib.contextmanager
def exclusive(
    path: Path,
    *,
    wait_s: float = 5.0,
    busy: str = "another Cloister command is changing this deployment",
) -> Iterator[None]:
    """Hold a lock file; raises BusyError when another command holds it for longer.

    By default a command waits for what the watchdog does in a moment, and not for another command.
    Raises DeploymentError when the file cannot be written.
    """
    try:
        make_folder(path.parent, _PRIVATE_FOLDER)
        for attempt in Retrying(
            retry=retry_if_exception_type(BlockingIOError),
            stop=stop_after_delay(wait_s),
            wait=wait_fixed(_POLL_S),
            reraise=True,
        ):
            with attempt:
                held = _lock(path)
    except BlockingIOError as error:
        raise BusyError(busy, hint="try again after it") from error
    except OSError as error:
        raise DeploymentError(
            f"`{path}` cannot be written: {error.strerror}", hint="set `state_dir`"
        ) from error
    with held:
        yield


def is_locked(path: Path) -> bool:
    """Return whether a command holds a lock file now.

    A shared lock, which several may have, is tried for a moment: a command that waits for its own
    just then tries again soon after. Raises DeploymentError when the file cannot be read.
    """
    try:
        with os.fdopen(os.open(path, _READ), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        raise DeploymentError(f"`{path}` cannot be read: {error.strerror}") from error
    return False


def _lock(path: Path) -> IO[bytes]:
    """Return a lock file that is locked; raises BlockingIOError while another command has it.

    Whoever may read a file may lock it. One that others may read, as those of earlier versions,
    becomes a file that they have not opened.
    """
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(_open(path))
        about = os.fstat(file.fileno())
        # One that is not this user's is not his to replace.
        is_open = about.st_uid == os.geteuid() and bool(about.st_mode & _OTHERS)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not is_open or _is_locked_by_us(about):
                raise
        _require_at(path, about)
        if is_open:
            return _replace(path, about)
        opened.pop_all()
    return file


def _open(path: Path) -> IO[bytes]:
    # A link here would be somebody's way to a file of his choice.
    return os.fdopen(os.open(path, _LOCK | os.O_CREAT, _PRIVATE), "r+b")


def _require_at(path: Path, about: os.stat_result) -> None:
    """Raise BlockingIOError where another command has put its own lock file in a file's place."""
    try:
        now = path.lstat()
    except FileNotFoundError:
        now = None
    if now is None or not os.path.samestat(about, now):
        raise BlockingIOError(errno.EAGAIN, "another command replaced it")


def _replace(path: Path, old: os.stat_result) -> IO[bytes]:
    """Put a new lock file that is locked in an old one's place; raises BlockingIOError.

    Several commands may come here at once while another user holds the old lock. The new file has
    one name for all of them, and who has locked it there is the only one to move it.
    """
    new = path.with_name(f".{path.name}.new")
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(_open(new))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _require_at(new, os.fstat(file.fileno()))
        try:
            _require_at(path, old)
        except BlockingIOError:
            new.unlink()
            raise
        new.replace(path)
        opened.pop_all()
    return file


def _is_locked_by_us(about: os.stat_result) -> bool:
    """Return whether a process of this user holds the lock of a file."""
    for process in Path("/proc").glob("[0-9]*"):
        # What is gone by now holds nothing, and what may not be looked at is not this user's.
        with contextlib.suppress(OSError):
            if process.stat().st_uid != os.geteuid():
                continue
            for place in (process / "fd").iterdir():
                is_same = place.exists() and os.path.samestat(place.stat(), about)
                if is_same and "FLOCK" in (process / "fdinfo" / place.name).read_text():
                    return True
    return False
