"""Documents as open files, so that whoever draws them needs no path."""

import errno
import os
import stat
import threading
from concurrent.futures import Future, wait
from pathlib import Path

from cloister.rendering.drawing import UnreadableError


def open_document(path: Path) -> int:
    """Return a descriptor of a regular file. Raises UnreadableError for anything else."""
    try:
        # A pipe would wait for somebody to write into it, a terminal become this process's own.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        reason = "not a regular file" if error.errno == errno.ENXIO else error.strerror
        raise UnreadableError(reason or str(error)) from error
    mode = os.fstat(file).st_mode
    if stat.S_ISREG(mode):
        return file
    os.close(file)
    raise UnreadableError(os.strerror(errno.EISDIR) if stat.S_ISDIR(mode) else "not a regular file")


class Opening:
    """A document that a thread of its own opens, and closes after `release`.

    On a mount whose server is gone these calls do not return, and no signal wakes who made them:
    the thread is left behind. `file` gives the descriptor, or raises UnreadableError.
    """

    def __init__(self, path: Path) -> None:
        self.file: Future[int] = Future()
        self._is_released = threading.Event()
        run = threading.Thread(target=self._run, args=(path,), daemon=True, name="document")
        run.start()

    def is_done(self, timeout_s: float) -> bool:
        """Wait for that long at most; return whether it was opened, or could not be."""
        return bool(wait([self.file], timeout_s).done)

    def release(self) -> None:
        """Let go of the file, which may not even be open yet."""
        self._is_released.set()

    def _run(self, path: Path) -> None:
        try:
            file = open_document(path)
        except Exception as error:  # noqa: BLE001  # raised again by whoever needs the file
            self.file.set_exception(error)
            return
        self.file.set_result(file)
        self._is_released.wait()
        os.close(file)
