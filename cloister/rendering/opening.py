"""Documents as open files, so that whoever draws them needs no path."""

import errno
import os
import stat
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
