"""One file's bytes: they go on where they stopped, and are hashed on their way to the disk."""

import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import httpx2
from huggingface_hub.utils import get_session, hf_raise_for_status  # type: ignore[attr-defined]

from cloister.downloader import session
from cloister.downloader.asking import Patience, asked_s, explained, passes
from cloister.downloader.hub import Hub, Remote
from cloister.errors import ModelStoreError
from cloister.modelstore.pins import File

PART = ".part"
_READ_BYTES = 1 << 20
_CONNECT_S = 10.0
_SLOWEST_BYTES_S = 1024
# An attempt that brought this much, or this share, is no failure: the next one starts afresh.
_PROGRESS_BYTES, _PROGRESS_SHARE = 8 << 20, 0.02
_WRONG_TRIES = 2


class _CutError(httpx2.TransportError):
    """The answer ended before the file did."""


class _DripError(_CutError):
    """What comes is too little to wait for."""


class _WrongError(Exception):
    """The file is whole, and is not what the hub says of it."""


@dataclass(frozen=True)
class Source:
    """Where files come from: one commit at one hub.

    Once `stopped` is set, every stream gives up.
    """

    hub: Hub
    model: str
    commit: str
    patience: Patience
    stopped: threading.Event = field(default_factory=threading.Event)

    def left_s(self) -> float:
        """Return the seconds left; raises ModelStoreError when there are none."""
        if self.stopped.is_set():
            raise ModelStoreError("another file failed")
        return self.hub.left_s()


def fetch(source: Source, file: Remote, folder: Path, advance: Callable[[int], object]) -> File:
    """Bring one file into a folder, and return its size and SHA-256.

    `advance` is told the bytes that came, or were there already, or turned out to be wrong (less
    than zero). Raises ModelStoreError when they do not come, or are not the hub's.
    """
    target = folder / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + PART)
    if target.exists():
        target.rename(part)  # finished by an earlier run: its bytes are counted on anew
    for attempt in range(1, _WRONG_TRIES + 1):
        try:
            got = _whole(source, file, part, advance)
        except _WrongError:
            part.unlink()
            advance(-file.size)
            if attempt == _WRONG_TRIES:
                raise ModelStoreError(
                    f"`{file.name}` is not what the hub says it is: its hash is another one",
                    hint="the hub or something on the way changes bytes; nothing was kept",
                ) from None
        else:
            part.rename(target)
            return got
    raise AssertionError


def _whole(source: Source, file: Remote, part: Path, advance: Callable[[int], object]) -> File:
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "r+b", buffering=0) as opened:
        digest = _Digest(file)
        for chunk in _chunks(opened, file.size):
            digest.update(chunk)
            advance(len(chunk))
        failures = 0
        while digest.size < file.size:
            before = digest.size
            try:
                digest = _more(source, file, opened, digest, advance)
            except httpx2.HTTPError as error:
                brought = digest.size - before
                enough = min(_PROGRESS_BYTES, int(file.size * _PROGRESS_SHARE))
                came = brought > enough and not isinstance(error, _DripError)
                failures = 1 if came else failures + 1
                if not passes(error) or failures >= source.patience.tries:
                    raise _given_up(error, source, file) from error
                _wait(source, error, failures)
        os.fsync(opened.fileno())
    if not digest.right():
        raise _WrongError
    return File(file.size, digest.sha256.hexdigest())


def _more(
    source: Source,
    file: Remote,
    opened: BinaryIO,
    digest: "_Digest",
    advance: Callable[[int], object],
) -> "_Digest":
    """Take what the hub sends from where the file ends; raises httpx2.HTTPError when it stops."""
    headers = {**source.hub.headers(), "Accept-Encoding": "identity"}
    if digest.size:
        headers["Range"] = f"bytes={digest.size}-"
    url = source.hub.url(source.model, source.commit, file.name)
    wait_s = min(source.patience.stall_s, source.left_s())
    timeout = httpx2.Timeout(wait_s, connect=min(_CONNECT_S, wait_s))
    with get_session().stream(
        "GET", url, headers=headers, timeout=timeout, extensions=session.FILE
    ) as response:
        hf_raise_for_status(response)
        if digest.size and response.status_code != httpx2.codes.PARTIAL_CONTENT:
            # This hub has no ranges: all comes once more.
            advance(-digest.size)
            opened.seek(0)
            opened.truncate()
            digest.restart()
        pace = _Pace(source.patience.stall_s)
        for chunk in response.iter_raw():  # as it comes: a kill loses next to nothing
            if digest.size + len(chunk) > file.size:
                raise ModelStoreError(f"the hub sends more of `{file.name}` than it says it has")
            source.left_s()
            _write(opened, chunk, file, source)
            digest.update(chunk)
            advance(len(chunk))
            pace.check(len(chunk))
    if digest.size < file.size:
        raise _CutError(f"the answer ended {file.size - digest.size} bytes early")
    return digest


class _Digest:
    """What is known of the bytes so far."""

    def __init__(self, file: Remote) -> None:
        self._file = file
        self.restart()

    def restart(self) -> None:
        self.size = 0
        self.sha256 = hashlib.sha256()
        self._blob = hashlib.sha1(b"blob %d\0" % self._file.size)  # noqa: S324  # git's own

    def update(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.sha256.update(chunk)
        if self._file.sha256 is None:
            self._blob.update(chunk)

    def right(self) -> bool:
        if self._file.sha256 is None:
            return self._blob.hexdigest() == self._file.blob
        return self.sha256.hexdigest() == self._file.sha256


class _Pace:
    """Notices a connection that only drips."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._since, self._bytes = time.monotonic(), 0

    def check(self, count: int) -> None:
        self._bytes += count
        passed = time.monotonic() - self._since
        if passed >= self._stall_s:
            if self._bytes < _SLOWEST_BYTES_S * passed:
                raise _DripError(f"only {self._bytes} bytes came in {passed:.0f} s")
            self._since, self._bytes = time.monotonic(), 0


def _chunks(opened: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield what an earlier run brought; what is beyond `size` is cut off."""
    if os.fstat(opened.fileno()).st_size > size:
        opened.truncate(0)
    while chunk := opened.read(_READ_BYTES):
        yield chunk


def _write(opened: BinaryIO, chunk: bytes, file: Remote, source: Source) -> None:
    view = memoryview(chunk)
    try:
        while view:
            view = view[opened.write(view) :]
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        free = _free(opened)
        raise ModelStoreError(
            f"the disk is full: {free} bytes are free, and `{file.name}` is not whole",
            hint=f"make room and run it again: {source.model} goes on where it stopped",
        ) from error


def _free(opened: BinaryIO) -> int:
    system = os.fstatvfs(opened.fileno())
    return system.f_bavail * system.f_frsize


def _wait(source: Source, error: Exception, failures: int) -> None:
    patience = source.patience
    growing = patience.first_wait_s * 2.0 ** (failures - 1)
    wait_s = asked_s(error) or min(patience.longest_wait_s, growing)
    if wait_s >= source.left_s():
        raise ModelStoreError(
            f"the hub asks to wait {wait_s:g} s, longer than is left",
            hint="run it again later: it goes on where it stopped; --deadline-s gives it longer",
        )
    source.stopped.wait(wait_s)


def _given_up(error: Exception, source: Source, file: Remote) -> ModelStoreError:
    reason = explained(error, source.hub.endpoint)
    return ModelStoreError(
        f"`{file.name}` did not come: {reason.message}",
        hint=reason.hint or "run it again: it goes on where it stopped",
    )
