"""What a file is: its hash, and how many pages it has."""

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path

from cloister.ocr.documents import Entry
from cloister.rendering import Renderers, UnreadableError


@dataclass(frozen=True)
class Opened:
    """A file that was looked at; with `error`, which is of now, it has no pages.

    `signature` is what changes with each change of a file: size, times and inode, as Git compares
    them.
    """

    signature: str
    sha256: str
    pages: int
    error: str | None = None


def look(entry: Entry, renderers: Renderers) -> Opened:
    """Look at a document's file; one that did not change since the last time is not read again."""
    try:
        signature = _signature(entry.document.path)
        if entry.pages is not None and signature == entry.signature:
            return Opened(signature, entry.sha256 or "", entry.pages)
        with entry.document.path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return Opened("", "", 0, error=error.strerror or str(error))
    if entry.pages is not None and sha256 == entry.sha256:
        return Opened(signature, sha256, entry.pages)
    try:
        pages = renderers.count(entry.document.path).result()
    except UnreadableError as error:
        return Opened(signature, sha256, 0, error=error.message)
    return Opened(signature, sha256, pages)


def is_same(entry: Entry) -> bool:
    """Tell whether a document's file is still what it was when it was looked at.

    One that is gone is not another one.
    """
    try:
        return _signature(entry.document.path) == entry.signature
    except OSError:
        return True


def _signature(path: Path) -> str:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(0, "not a file")
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"
