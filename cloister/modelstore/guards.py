"""A lock file of a store that may have come from somebody else: a file, waited for a while."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from cloister.errors import ModelStoreError

# Without O_NONBLOCK a pipe waits for a reader; nothing is written, so nothing is cut either.
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_POLL_S = 0.05


@contextlib.contextmanager
def locked(path: Path, *, wait_s: float, busy: str) -> Iterator[None]:
    """Hold a lock file, which is made; its folder is there.

    Raises ModelStoreError for anything but a regular file, and, with the text `busy`, when another
    command holds it for longer than `wait_s` seconds.
    """
    number = _opened(path)
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(BlockingIOError),
            stop=stop_after_delay(wait_s),
            wait=wait_fixed(_POLL_S),
            reraise=True,
        ):
            with attempt:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(number)
        raise ModelStoreError(busy, hint="wait for that one") from error
    try:
        yield
    finally:
        os.close(number)


def _opened(path: Path) -> int:
    try:
        # Before it is opened, too: a device may do something then.
        if os.path.lexists(path):
            _require_file(path, path.lstat())
        number = os.open(path, _FLAGS, 0o666)
    except OSError as error:
        raise ModelStoreError(
            f"`{path}` cannot be written: {error.strerror}",
            hint=f"let user {os.getuid()} write to `{path.parent}`, or set `model.store`",
        ) from error
    try:
        _require_file(path, os.fstat(number))
    except ModelStoreError:
        os.close(number)
        raise
    return number


def _require_file(path: Path, about: os.stat_result) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise ModelStoreError(
            f"`{path}` is not a file; a model store has only folders and files",
            hint=f"remove `{path}`",
        )
