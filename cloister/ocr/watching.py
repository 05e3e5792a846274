"""A folder into which documents arrive: those that have arrived wholly."""

import time
from pathlib import Path

from cloister.errors import OcrError
from cloister.ocr import documents
from cloister.ocr.documents import Document
from cloister.ocr.ledger import Ledger

_LOOK_S = 1.0


class Watch:
    """Registers a folder's files once they have stayed as they are from one look to the next."""

    def __init__(self, folder: Path, out: Path, ledger: Ledger, only: str | None) -> None:
        if not folder.is_dir():
            raise OcrError(f"`{folder}` is no folder to watch")
        self._folder, self._out, self._ledger = folder, out.resolve(), ledger
        self._only = only
        self._sizes: dict[Path, tuple[int, int]] = {}
        self._looked_s = float("-inf")

    def look(self) -> bool:
        """Register what has arrived; there may always be more."""
        if time.monotonic() - self._looked_s >= _LOOK_S:
            self._looked_s = time.monotonic()
            self._ledger.register(self._arrived())
        return True

    def _arrived(self) -> list[Document]:
        found, sizes = [], {}
        for document in documents.below(self._folder, self._out):
            try:
                status = document.path.stat()
            except OSError:
                continue  # moved away between two looks
            sizes[document.path] = status.st_size, status.st_mtime_ns
            arrived = self._sizes.get(document.path) == sizes[document.path]
            if arrived and document.fits(self._only):
                found.append(document)
        self._sizes = sizes
        return found
