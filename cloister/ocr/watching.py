"""A folder into which documents arrive: those that have arrived wholly."""

import os
import time
from concurrent.futures import Future
from pathlib import Path

from cloister import console
from cloister.errors import OcrError
from cloister.ocr import background, documents
from cloister.ocr.documents import Document
from cloister.ocr.ledger import Ledger

_LOOK_S = 1.0
_SILENT_S = 5.0  # that a folder or a file may take to say what it is; one that does later is read
_SETTLED_S = 3.0  # a copy that pauses for longer is read, and read again when it went on

_Looked = tuple[list[tuple[Document, os.stat_result]], set[Document]]


class Watch:
    """Registers a folder's files once they have been left alone, and again when they change."""

    def __init__(self, folder: Path, out: Path, ledger: Ledger, only: str | None) -> None:
        _require_folder(folder)
        self._folder, self._out, self._ledger = folder, out.resolve(), ledger
        self._only = only
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}
        self._registered: dict[Path, tuple[int, int]] = {}
        self._looked_s = float("-inf")
        self._looking: Future[_Looked] | None = None
        self._told: set[Document] = set()

    def look(self) -> bool:
        """Register what has arrived; there may always be more.

        The folder is looked at meanwhile: what hangs in it keeps nobody from being read.
        """
        if self._looking is None and time.monotonic() - self._looked_s >= _LOOK_S:
            self._looked_s = time.monotonic()
            self._looking = background.begin(self._states)
        if self._looking is not None and self._looking.done():
            (found, silent), self._looking = self._looking.result(), None
            for document in silent - self._told:
                console.say(f"{document.shown} does not answer: it is read once it does")
            self._told = silent
            for document, status in found:
                self._look_at(document, status)
        return True

    def _states(self) -> _Looked:
        """Return what is there; what hangs is asked once, and not waited for a second time."""
        known = documents.below(self._folder, self._out, _SILENT_S)
        there = {one.path: one for one in known if one.fits(self._only)}
        found, silent = list[tuple[Document, os.stat_result]](), set[Document]()
        for path, status in background.each(os.stat, there, _SILENT_S):
            if isinstance(status, TimeoutError):
                silent.add(there[path])
            elif not isinstance(status, OSError):  # moved away between two looks
                found.append((there[path], status))
        return found, silent

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


def _require_folder(path: Path) -> None:
    try:
        is_folder = background.ask(Path.is_dir, path, _SILENT_S)
    except TimeoutError as error:
        raise OcrError(
            f"`{path}` does not answer", hint="the same command once its server is back"
        ) from error
    if not is_folder:
        raise OcrError(f"`{path}` is no folder to watch", hint="invoke ocr --watch FOLDER")
