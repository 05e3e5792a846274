"""Documents to the numbers of the pages that are to be read: opened ahead, in their order."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from cloister.ocr import opening
from cloister.ocr.documents import Entry
from cloister.ocr.events import DocumentDone, DocumentGone, DocumentOpened, Event, PageDone
from cloister.ocr.ledger import Ledger
from cloister.ocr.opening import Opened
from cloister.ocr.results import PageResult
from cloister.rendering import Renderers

_AHEAD, _THREADS = 4, 2


class Intake:
    """Gives the open pages of a ledger's run one after the other.

    A document that has been looked at is told by `told`, where the reader listens, and what came
    of it goes to `events`.
    """

    def __init__(
        self,
        ledger: Ledger,
        renderers: Renderers,
        told: "SimpleQueue[Callable[[], None]]",
        events: deque[Event],
        recipe: int,
    ) -> None:
        self._ledger, self._renderers, self._told = ledger, renderers, told
        self._events, self._recipe = events, recipe
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="ocr-opener")
        self._entries: deque[Entry] = deque()
        self._opening: deque[tuple[Entry, Future[Opened]]] = deque()
        self._numbers: deque[tuple[Entry, int]] = deque()
        self._last = 0

    @property
    def busy(self) -> bool:
        """Whether pages are there, or documents are being looked at."""
        return bool(self._numbers or self._opening)

    def next(self) -> tuple[Entry, int] | None:
        """Return a page, None when there is none now."""
        self._open_ahead()
        while self._opening and not self._numbers and self._opening[0][1].done():
            entry, future = self._opening.popleft()
            self._take(entry, future.result())
            self._open_ahead()
        return self._numbers.popleft() if self._numbers else None

    def stop(self) -> None:
        """Look at no further documents."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _open_ahead(self) -> None:
        while len(self._opening) < _AHEAD:
            if not self._entries:
                self._entries.extend(self._ledger.entries(after=self._last))
            if not self._entries:
                return
            entry = self._entries.popleft()
            self._last = entry.id
            future = self._threads.submit(opening.look, entry, self._renderers)
            self._opening.append((entry, future))
            # The reader calls `next` after whatever it hears.
            future.add_done_callback(lambda _: self._told.put(lambda: None))

    def _take(self, entry: Entry, found: Opened) -> None:
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
            result = PageResult(entry.document.shown, 0, None, found.error)
            self._ledger.finish(entry.id, result, self._recipe)
            self._events.append(DocumentOpened(entry, 1, 1, first, changed))
            self._events.append(PageDone(entry, result, None))
            self._events.append(DocumentDone(self._ledger.entry(entry.id)))
            return
        numbers = self._ledger.open_pages(entry.id)
        self._events.append(DocumentOpened(entry, found.pages or 1, len(numbers), first, changed))
        self._numbers.extend((entry, number) for number in numbers)
        if not numbers:
            self._events.append(DocumentDone(entry))
