"""Documents as open files, so that whoever draws them needs no path."""

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from pathlib import Path

from cloister.errors import OcrError
from cloister.rendering.drawing import UnreadableError

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})


def require_descriptors(code: int | None) -> None:
    """Raise OcrError where an error's number says that no further file can be opened."""
    if code is not None and code in _EXHAUSTED:
        raise no_descriptor(code)


def no_descriptor(code: int = errno.EMFILE) -> OcrError:
    """Return the error for a file that cannot be opened for want of a descriptor.

    The file is not why: the next one would have the same.
    """
    return OcrError(
        f"no further file can be opened ({os.strerror(code)}): nothing was recorded of it",
        hint="raise `ulimit -n` (as root also `-Hn`), or take --concurrency 1",
    )


@contextlib.contextmanager
def descriptors_required() -> Iterator[None]:
    """Turn an OSError within the block into OcrError where no further file can be opened."""
    try:
        yield
    except OSError as error:
        require_descriptors(error.errno)
        raise


def open_document(path: Path) -> int:
    """Return a descriptor of a regular file.

    Raises UnreadableError for anything else, and OcrError when there are too many open files.
    """
    try:
        # A pipe would wait for somebody to write into it, a terminal become this process's own.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        require_descriptors(error.errno)
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
