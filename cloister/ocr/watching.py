"""A folder into which documents arrive: those that have arrived wholly."""

import os
import time
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from cloister.errors import OcrError
from cloister.ocr import background, documents
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
        self._looking: Future[list[tuple[Document, os.stat_result]]] | None = None

    def look(self) -> bool:
        """Register what has arrived; there may always be more.

        The folder is looked at meanwhile: what hangs in it keeps nobody from being read.
        """
        if self._looking is None and time.monotonic() - self._looked_s >= _LOOK_S:
            self._looked_s = time.monotonic()
            self._looking = background.begin(self._states)
        if self._looking is not None and self._looking.done():
            found, self._looking = self._looking.result(), None
            for document, status in found:
                self._look_at(document, status)
        return True

    def _states(self) -> list[tuple[Document, os.stat_result]]:
        found = []
        for document in documents.below(self._folder, self._out):
            if document.fits(self._only):
                with suppress(OSError):  # moved away between two looks
                    found.append((document, document.path.stat()))
        return found

    def _look_at(self, document: Document, status: os.stat_result) -> None:
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
