"""Documents to the numbers of the pages that are to be read: opened ahead, in their order."""

import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from cloister.ocr import descriptors
from cloister.ocr.documents import Entry
from cloister.ocr.events import DocumentDone, DocumentGone, DocumentOpened, Event, PageDone
from cloister.ocr.ledger import Ledger
from cloister.ocr.openers import Inspected, Openers, RefusedError
from cloister.ocr.results import PageResult
from cloister.rendering import Renderers, UnreadableError

_OPEN_FILES = Path("/proc/self/fd")
_AHEAD = 4
# A document that takes longer waits aside, and the next ones are opened: one hundred files of a
# mount that hangs are that many processes, and no more.
_SLOW_S, _MOST_ASIDE = 1.0, 32
_PART = 4  # of the descriptors that a process may have: a document needs two while it is opened


@dataclass
class _Opening:
    """A document that is opened: its file's inspection, and then the count of its pages."""

    entry: Entry
    inspection: "Future[Inspected]"
    count: "Future[int] | None" = None
    begun_s: float = field(default_factory=time.monotonic)

    @property
    def is_slow(self) -> bool:
        """Whether it waits for its file, and not for a renderer that has other work."""
        waits = not self.inspection.done() if self.count is None else self.count.running()
        return waits and time.monotonic() >= self.begun_s + _SLOW_S


@dataclass(frozen=True)
class _Opened:
    """What a document is; with `error`, which is of now, it has no pages."""

    signature: str
    sha256: str
    pages: int
    error: str | None = None


class Intake:
    """Gives the open pages of a ledger's run one after the other.

    What comes of a document is told by `told`, where the reader listens, and goes to `events`. Its
    file stays open until its last page is finished: what was hashed is what is drawn.
    """

    def __init__(  # its parts, each of which a test replaces
        self,
        ledger: Ledger,
        renderers: Renderers,
        openers: Openers,
        told: "SimpleQueue[Callable[[], None]]",
        events: deque[Event],
        recipe: int,
    ) -> None:
        self._ledger, self._renderers, self._told = ledger, renderers, told
        self._openers, self._events, self._recipe = openers, events, recipe
        self._entries: deque[Entry] = deque()
        self._opening: deque[_Opening] = deque()
        self._aside: list[_Opening] = []
        self._numbers: deque[tuple[Entry, int]] = deque()
        self._files: dict[int, int] = {}  # by the entry's id
        self._anew: set[int] = set()  # documents that are read for the second time
        self._last = self._ending = 0
        self._most_open = max(1, descriptors.most() // _PART)

    @property
    def busy(self) -> bool:
        """Whether pages are there, or documents are being looked at."""
        return bool(self._numbers or self._opening or self._aside or self._ending)

    @property
    def _under_way(self) -> int:
        return len({one.entry.id for one in (*self._opening, *self._aside)} | set(self._files))

    @property
    def due_s(self) -> list[float]:
        """When a document that is being opened becomes a slow one, on the monotonic clock."""
        now_s = time.monotonic()
        due_s = [opening.begun_s + _SLOW_S for opening in self._opening]
        return [one for one in due_s if one > now_s]

    def next(self) -> tuple[Entry, int] | None:
        """Return a page, None when there is none now."""
        self._open_ahead()
        while not self._numbers and self._take_next():
            self._open_ahead()
        return self._numbers.popleft() if self._numbers else None

    def path(self, entry: Entry) -> Path:
        """Return by which path a renderer gets at the file that was hashed."""
        if not _OPEN_FILES.is_dir():  # macOS: `is_same` notices another file at the end
            return entry.document.path
        return Path(f"/proc/{os.getpid()}/fd/{self._files[entry.id]}")

    def end(self, entry: Entry) -> None:
        """Tell that a document is finished, once its file is still what it was; or read it anew."""
        self._ending += 1
        same = self._openers.is_same(entry, self._files[entry.id])
        same.add_done_callback(lambda done: self._told.put(partial(self._ended, entry, done)))

    def stop(self) -> None:
        """Look at no further documents, and close the files."""
        self._openers.stop()
        for opening in (*self._opening, *self._aside):
            if opening.entry.id not in self._files:
                opening.inspection.add_done_callback(_close)
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def _open_ahead(self) -> None:
        while len(self._opening) < _AHEAD and self._under_way < self._most_open:
            if not self._entries:
                self._entries.extend(self._ledger.entries(after=self._last))
            if not self._entries:
                return
            entry = self._entries.popleft()
            self._last = entry.id
            opening = _Opening(entry, self._openers.inspect(entry))
            self._opening.append(opening)
            opening.inspection.add_done_callback(self._tell)

    def _tell(self, _: object) -> None:
        self._told.put(lambda: None)  # the reader calls `next` after whatever it hears

    def _take_next(self) -> bool:
        """Take a document that was opened; tell whether there was one."""
        opened = [(one, self._advanced(one)) for one in (*self._aside, *self._opening)]
        first = self._opening[0] if self._opening else None
        for opening, found in opened:
            if found is not None and opening in (*self._aside, first):
                (self._aside if opening in self._aside else self._opening).remove(opening)
                self._take(opening.entry, found)
                return True
        if first is None or not first.is_slow or len(self._aside) >= _MOST_ASIDE:
            return False
        self._aside.append(self._opening.popleft())
        return True

    def _advanced(self, opening: _Opening) -> _Opened | None:
        """Return what a document is, None while that is not known."""
        entry = opening.entry
        if not opening.inspection.done():
            return None
        try:
            found = opening.inspection.result()
        except RefusedError as error:
            return _Opened("", "", 0, error=str(error))
        self._files[entry.id] = found.file
        sha256 = found.sha256 or entry.sha256 or ""
        if entry.pages is not None and sha256 == entry.sha256:
            return _Opened(found.signature, sha256, entry.pages)
        if opening.count is None:
            opening.count = self._renderers.count(self.path(entry))
            opening.count.add_done_callback(self._tell)
        if not opening.count.done():
            return None
        try:
            return _Opened(found.signature, sha256, opening.count.result())
        except UnreadableError as error:
            return _Opened(found.signature, sha256, 0, error=error.message)

    def _take(self, entry: Entry, found: _Opened) -> None:
        if not found.signature and entry.pages:
            # What was read of it is not thrown away.
            whole = entry.finished is not None
            gone = DocumentGone(entry, found.error or "it is gone")
            self._events.append(DocumentDone(entry) if whole else gone)
            return
        first = entry.pages is None
        changed = self._ledger.opened(entry.id, found.signature, found.sha256, found.pages)
        entry = self._ledger.entry(entry.id)
        if found.error is not None:
            self._events.append(DocumentOpened(entry, 1, 1, first, changed))
            self._fail(entry, found.error)
            return
        numbers = self._ledger.open_pages(entry.id)
        self._events.append(DocumentOpened(entry, found.pages or 1, len(numbers), first, changed))
        self._numbers.extend((entry, number) for number in numbers)
        if not numbers:
            self._release(entry)
            self._events.append(DocumentDone(entry))

    def _fail(self, entry: Entry, reason: str) -> None:
        """Note that a document cannot be read."""
        self._release(entry)
        result = PageResult(entry.document.shown, 0, None, reason)
        self._ledger.finish(entry.id, result, self._recipe)
        self._events.append(PageDone(entry, result, None))
        self._events.append(DocumentDone(self._ledger.entry(entry.id)))

    def _ended(self, entry: Entry, future: "Future[bool]") -> None:
        self._ending -= 1
        same, reason = False, None
        try:
            same = future.result()
        except RefusedError as error:  # its pages may be of two files: nobody knows
            reason = str(error)
        if same:
            self._release(entry)
            self._events.append(DocumentDone(entry))
        elif entry.id in self._anew:
            self._ledger.opened(entry.id, "", "", 0)
            again = self._ledger.entry(entry.id)
            self._fail(again, reason or "it changed again while it was read")
        else:
            self._release(entry)
            self._anew.add(self._ledger.again(entry.document))
            if reason is not None:
                self._events.append(DocumentGone(entry, f"{reason}; it is read again"))

    def _release(self, entry: Entry) -> None:
        file = self._files.pop(entry.id, None)
        if file is not None:
            os.close(file)


def _close(inspection: "Future[Inspected]") -> None:
    if not inspection.cancelled() and inspection.exception() is None:
        os.close(inspection.result().file)
