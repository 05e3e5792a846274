"""The Python API: documents in, pages out, with all that `invoke ocr` does for them."""

import os
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Self

from anyio import to_thread

from cloister import config
from cloister.config import API_KEY_VARIABLE, Settings
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
        key = api_key or os.environ.get(API_KEY_VARIABLE)
        make = service.at(self._settings, url, key) if url else service.here(self._settings, key)
        self._service = make

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
        """Return one document."""
        (document,) = self.documents(path)
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
        place = Path(out)
        with folder.opened(place) as ledger:
            ledger.begin()
            ledger.register(documents.walk([os.fspath(path) for path in paths], beside=place))
            if retry_failed:
                ledger.retry_failed()
            writer = Writer.of(place, ledger, style or Style(), self._service)
            for event in self._read(ledger):
                writer.heard(event)
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
        return cls(await to_thread.run_sync(lambda: Client(url, api_key=api_key)))

    async def pages(self, *paths: _PathLike) -> AsyncIterator[PageResult]:
        """Yield every page of files, folders and patterns, in their order; see `Client.pages`."""
        found = self._client.pages(*paths)
        try:
            while (page := await to_thread.run_sync(next, found, None)) is not None:
                yield page
        finally:
            await to_thread.run_sync(found.close)

    async def read(self, path: _PathLike) -> DocumentResult:
        """Return one document."""
        return await to_thread.run_sync(self._client.read, path)


def in_order(ledger: Ledger, events: Iterator[Event]) -> Iterator[DocumentResult]:
    """Yield documents in the order in which they were named, each as soon as that can be."""
    waiting = {entry.id: entry for entry in ledger.entries(limit=-1)}
    done = set()
    for event in events:
        if isinstance(event, DocumentDone):
            done.add(event.entry.id)
        while waiting and (first := next(iter(waiting))) in done:
            entry = waiting.pop(first)
            yield DocumentResult(entry.document.shown, ledger.pages(entry))
