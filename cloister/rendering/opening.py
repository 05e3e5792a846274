"""Documents as open files, so that whoever draws them needs no path."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
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


def open_with_pipe(path: Path) -> tuple[int, int, int]:
    """Return a descriptor as `open_document`, and a pipe's: to read answers, and to write them."""
    document = open_document(path)
    try:
        with descriptors_required():
            return document, *os.pipe()
    except BaseException:
        os.close(document)
        raise
