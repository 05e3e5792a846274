"""Documents as open files, so that whoever draws them needs no path."""

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

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
    """A document that is opened; `file` gives the descriptor, or raises UnreadableError."""

    def __init__(self, path: Path, thread: "_Thread") -> None:
        self.file: Future[int] = Future()
        self.is_begun = False
        self._path, self._thread = path, thread

    def is_done(self, timeout_s: float) -> bool:
        """Wait for that long at most; return whether it was opened, or could not be."""
        with suppress(TimeoutError):
            self.file.exception(timeout_s)
            return True
        return False

    def release(self) -> None:
        """Have the file closed, which may not even be open yet."""
        self._thread.post(self._close)

    def open(self) -> None:
        """Open it, in a thread that may hang."""
        self.is_begun = True
        try:
            self.file.set_result(open_document(self._path))
        except Exception as error:  # noqa: BLE001  # raised again by whoever needs the file
            self.file.set_exception(error)

    def _close(self) -> None:
        if self.file.exception() is None:
            os.close(self.file.result())


class Opener:
    """Opens documents one after the other in a thread, which is left behind where it hangs.

    On a mount whose server is gone neither `open` nor `close` returns, and no signal wakes who
    called them.
    """

    def __init__(self) -> None:
        self._thread = _Thread()

    def begin(self, path: Path, quick_s: float) -> Opening:
        """Return a document that is open, or after some seconds one that is still being opened."""
        opening = self._begin(path, quick_s)
        if opening.is_begun:
            return opening
        opening.release()  # the document before hangs when it is closed
        return self._begin(path, quick_s)

    def end(self) -> None:
        """End the thread."""
        self._thread.leave()

    def _begin(self, path: Path, quick_s: float) -> Opening:
        opening = Opening(path, self._thread)
        self._thread.post(opening.open)
        if not opening.is_done(quick_s):
            self._thread.is_left = True
            self._thread = _Thread()
        return opening


class _Thread:
    """Does what is posted; one `is_left` ends after the document that it holds is closed."""

    def __init__(self) -> None:
        self.is_left = False
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._run, daemon=True, name="documents").start()

    def post(self, work: Callable[[], None]) -> None:
        self._work.put(work)
        if self.is_left:
            self.leave()

    def leave(self) -> None:
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
