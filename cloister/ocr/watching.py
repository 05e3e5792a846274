"""A folder into which documents arrive: those that have arrived wholly."""

import time
from pathlib import Path

from cloister.errors import OcrError
from cloister.ocr import documents
from cloister.ocr.documents import Document
from cloister.ocr.ledger import Ledger

_LOOK_S = 1.0
_SETTLED_S = 3.0  # a copy that pauses for longer is read, and read again when it went on


class Watch:
    """Registers a folder's files once they have been left alone, and again when they change."""

    def __init__(self, folder: Path, out: Path, ledger: Ledger, only: str | None) -> None:
        if not folder.is_dir():
            raise OcrError(f"`{folder}` is no folder to watch")
        self._folder, self._out, self._ledger = folder, out.resolve(), ledger
        self._only = only
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}
        self._registered: dict[Path, tuple[int, int]] = {}
        self._looked_s = float("-inf")

    def look(self) -> bool:
        """Register what has arrived; there may always be more."""
        if time.monotonic() - self._looked_s >= _LOOK_S:
            self._looked_s = time.monotonic()
            for document in documents.below(self._folder, self._out):
                if document.fits(self._only):
                    self._look_at(document)
        return True

    def _look_at(self, document: Document) -> None:
        try:
            status = document.path.stat()
        except OSError:
            return  # moved away between two looks
        path, state = document.path, (status.st_size, status.st_mtime_ns)
        known, since_s = self._seen.get(path, (None, 0.0))
        if known != state:
            self._seen[path] = state, self._looked_s
        elif self._looked_s - since_s >= _SETTLED_S and self._registered.get(path) != state:
            # One that is being read is looked at again when that is over.
            if path not in self._registered:
                self._ledger.register([document])
                self._registered[path] = state
            elif self._ledger.again(document):
                self._registered[path] = state
