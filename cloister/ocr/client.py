"""The Python API: documents in, pages out, with all that `invoke ocr` does for them."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Self

from cloister import config
from cloister.config import Settings
from cloister.errors import OcrError
from cloister.ocr import documents, folder, run, service
from cloister.ocr.events import DocumentDone, Event
from cloister.ocr.folder import Writer
from cloister.ocr.ledger import Ledger
from cloister.ocr.results import DocumentResult, PageResult, Summary
from cloister.output import Style

_PathLike = str | os.PathLike[str]


class Client:
    """Reads documents at one service.

    Without a `url` that is the service which is up on this machine. `api_key` defaults to what
    CLOISTER_API_KEY holds. `settings` are those of cloister.yaml and the environment, unless
    given: `config.load(flags=["ocr.dpi=300"]).settings` changes one of them.

    Raises ConfigError for wrong settings, DeploymentError or OcrError when no service answers.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        self._settings = settings or config.load().settings
        self._service = service.reach(self._settings, url, api_key)

    def pages(self, *paths: _PathLike) -> Generator[PageResult, None, None]:
        """Yield every page of files, folders and patterns, in their order.

        A page that was not read is yielded too: its `error` says why. Raises OcrError for a path
        that names nothing, and when the service is gone.
        """
        for document in self.documents(*paths):
            yield from document.pages

    def documents(self, *paths: _PathLike) -> Iterator[DocumentResult]:
        """Yield every document of files, folders and patterns, in their order; see `pages`."""
        with closing(Ledger(None)) as ledger:
            ledger.begin()
            ledger.register(documents.walk([os.fspath(path) for path in paths]))
            yield from in_order(ledger, self._read(ledger))

    def read(self, path: _PathLike) -> DocumentResult:
        """Return one document; raises OcrError for a path that names several."""
        found = self.documents(path)
        document = next(found)
        if next(found, None) is not None:
            raise OcrError(f"`{path}` is more than one document", hint="Client.documents")
        return document

    def convert(
        self,
        *paths: _PathLike,
        out: _PathLike,
        style: Style | None = None,
        retry_failed: bool = False,
    ) -> Summary:
        """Read into a run folder, from where it was left; return what it holds of these documents.

        Raises OcrError when another command writes into the folder.
        """
        with folder.opened(Path(out)) as (place, ledger):
            ledger.begin()
            ledger.register(documents.walk([os.fspath(path) for path in paths], beside=Path(out)))
            if retry_failed:
                ledger.retry_failed()
            writer = Writer.of(place, ledger, style or Style(), self._service)
            for event in self._read(ledger):
                writer.heard(event)
            writer.require_all_written()
            return ledger.summary()

    def _read(self, ledger: Ledger) -> Iterator[Event]:
        number, _ = ledger.recipe(run.recipe(self._settings.ocr, self._service))
        return run.read(ledger, self._service, self._settings.ocr, number)


class AsyncClient:
    """`Client` for programs that wait in one thread for many things; the work is the same."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @classmethod
    async def at(cls, url: str | None = None, *, api_key: str | None = None) -> Self:
        """Return a client of a service, without blocking; see `Client`."""
        return cls(await asyncio.to_thread(Client, url, api_key=api_key))

    async def pages(self, *paths: _PathLike) -> AsyncIterator[PageResult]:
        """Yield every page of files, folders and patterns, in their order; see `Client.pages`."""
        # In one thread from begin to end, which is how SQLite wants it. Who is cancelled does not
        # wait for the page that is under way: it ends the reading after that.
        thread = ThreadPoolExecutor(1, thread_name_prefix="ocr-reader")
        loop = asyncio.get_running_loop()
        found = self._client.pages(*paths)
        try:
            while (page := await loop.run_in_executor(thread, next, found, None)) is not None:
                yield page
        finally:
            thread.submit(found.close)
            thread.shutdown(wait=False)

    async def read(self, path: _PathLike) -> DocumentResult:
        """Return one document."""
        return await asyncio.to_thread(self._client.read, path)


def in_order(ledger: Ledger, events: Iterator[Event]) -> Iterator[DocumentResult]:
    """Yield documents in the order in which they were named, each as soon as that can be."""
    waiting = deque(entry.document.path for entry in ledger.entries(limit=-1))
    done = {}
    for event in events:
        if isinstance(event, DocumentDone):
            done[event.entry.document.path] = event.entry
        while waiting and waiting[0] in done:
            entry = done.pop(waiting.popleft())
            yield DocumentResult(entry.document.shown, ledger.pages(entry))
