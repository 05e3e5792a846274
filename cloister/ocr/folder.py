"""A run folder: the documents' outputs, the ledger, and what was not read."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Self

from cloister import output
from cloister.config.profiles import profiles
from cloister.errors import DeploymentError, OcrError
from cloister.files import exclusive
from cloister.folders import Folder
from cloister.ocr.documents import Entry, shown
from cloister.ocr.events import DocumentDone, DocumentOpened, Event, PageDone
from cloister.ocr.ledger import Ledger
from cloister.ocr.results import PageResult
from cloister.ocr.service import Service
from cloister.ocr.targets import LEDGER, LOCK, QUARANTINE, STAGING
from cloister.output import SUFFIX, Format, Source, Style

_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg"}
_OURS = (".png", ".jpg", ".image", ".json")


class OutputError(OcrError):
    """A document or a page cannot be written into a run folder; the others can."""


@contextmanager
def opened(path: Path) -> Iterator[tuple[Folder, Ledger]]:
    """Open a run folder and its ledger, and make both where there is none.

    Raises OcrError when another command reads into the folder, or when it cannot be written.
    """
    with contextlib.ExitStack() as held:
        folder = held.enter_context(Folder.open(path, OutputError, make=True))
        folder.has_own_file(LOCK)
        try:
            held.enter_context(exclusive(folder.address(LOCK), wait_s=0))
        except DeploymentError as error:
            raise _refused(path, error) from error
        folder.remove_tree(STAGING)  # what a killed run left
        held.enter_context(folder.sub(STAGING, make=True))
        ledger = held.enter_context(closing(Ledger(folder)))
        ledger.migrate()
        yield folder, ledger
        folder.remove_empty(STAGING)


def _refused(folder: Path, error: Exception) -> OcrError:
    if isinstance(error.__cause__, BlockingIOError):
        busy = f"another `invoke ocr` writes into `{folder}`"
        return OcrError(busy, hint="another --out, or wait for it")
    reason = error.__cause__.strerror if isinstance(error.__cause__, OSError) else error
    return OcrError(f"`{folder}` cannot be written: {reason}", hint="another --out")


@contextmanager
def existing(path: Path) -> Iterator[Ledger]:
    """Open the ledger of a folder to look into; raises OcrError when there is none."""
    if not os.path.lexists(path / LEDGER):
        raise OcrError(f"`{path}` has no {LEDGER}", hint="invoke ocr PATH... --out FOLDER")
    with Folder.open(path, OcrError) as folder, closing(Ledger(folder, look=True)) as ledger:
        yield ledger


@dataclass(frozen=True)
class Writer:
    """Writes what was read into a run folder; `model` and `profile` go into the front matter.

    `failures` are why documents could not be written: the others go on.
    """

    folder: Folder
    ledger: Ledger
    style: Style
    model: str | None
    profile: str | None
    failures: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Folder, ledger: Ledger, style: Style, service: Service) -> Self:
        """Return one that names the model, and its profile, where the service has them."""
        model = service.model if service.serves_model else None
        found = profiles().get(model or "")
        return cls(folder, ledger, style, model, found[0].stem if found else None)

    def heard(self, event: Event) -> Path | None:
        """Write what is finished by an event; return the document's output, if that was written."""
        try:
            if isinstance(event, DocumentOpened) and event.changed:
                self.folder.remove_tree(self._place(event.entry))  # of the old content
            if isinstance(event, PageDone):
                self.set_apart(event)
            return self.write(event.entry) if isinstance(event, DocumentDone) else None
        except OutputError as error:
            self.failures.append(error.message)
            return None

    def require_all_written(self) -> None:
        """Raise OcrError when a document could not be written."""
        if self.failures:
            count = len(self.failures)
            raise OcrError(
                f"{self.failures[0]} ({count:,} such errors): the same command tries again"
            )

    def path(self, entry: Entry, kind: Format) -> Path:
        """Return where a document's file of a format is in the folder."""
        return entry.target.with_name(f"{entry.target.name}{SUFFIX[kind]}")

    def write(self, entry: Entry) -> Path | None:
        """Write a finished document, unless it is there; return where it was written.

        Its files of other formats are brought to the same state.
        """
        written = self.ledger.written(entry.id)
        if self._is_there(entry, self.style, written):
            return None
        pages = self.ledger.pages(entry)
        for page in pages:
            self._complete(entry, page)
        for kind in SUFFIX:
            style = replace(self.style, format=kind)
            wanted = kind == self.style.format or kind in written
            if wanted and not self._is_there(entry, style, written):
                self._put(self.path(entry, kind), self._composed(entry, pages, style))
                self.ledger.wrote(entry.id, kind, str(style))
        return self.folder.path / self.path(entry, self.style.format)

    def _is_there(self, entry: Entry, style: Style, written: Mapping[str, str]) -> bool:
        is_there = self.folder.find(self.path(entry, style.format)) is not None
        return is_there and written.get(style.format) == str(style)

    def _complete(self, entry: Entry, page: PageResult) -> None:
        """Put a page into the quarantine of which a killed run told the ledger alone."""
        if not page.read and self.folder.find(self._place(entry) / f"{_name(page)}.json") is None:
            self.set_apart(PageDone(entry, page, None))

    def _place(self, entry: Entry) -> PurePath:
        return PurePath(QUARANTINE) / entry.target

    def _composed(self, entry: Entry, pages: Sequence[PageResult], style: Style) -> str:
        source = Source(
            name=shown(entry.document.name),
            sha256=entry.sha256 or None,
            pages=entry.pages or 0,
            model=self.model,
            profile=self.profile,
            engines=tuple(dict.fromkeys(page.engine for page in pages if page.engine)),
            date=datetime.fromtimestamp(entry.finished or 0, UTC).isoformat(timespec="seconds"),
        )
        return output.compose(source, [page.for_output() for page in pages], style)

    def set_apart(self, done: PageDone) -> None:
        """Put a page that was not read into the quarantine: its image, the reason, what was tried.

        One that was read after all is taken out of there.
        """
        name, place = _name(done.result), self._place(done.entry)
        if done.result.read:
            self._take_out(place, name)
            return
        told = {
            "document": done.result.document,
            "page": done.result.page,
            "reason": done.result.error,
            "requests": self.ledger.requests(done.entry.id, done.result.page),
        }
        if done.drawn is not None:
            suffix = _SUFFIXES.get(done.drawn.mime, ".image")
            self._put(place / f"{name}{suffix}", done.drawn.image)
        self._put(place / f"{name}.json", json.dumps(told, indent=2, ensure_ascii=False))

    def _take_out(self, place: PurePath, name: str) -> None:
        removed = [self.folder.remove(place / f"{name}{suffix}") for suffix in _OURS]
        if any(removed):
            self.folder.remove_empty(place)

    def _put(self, path: PurePath, content: str | bytes) -> None:
        with self.folder.sub(STAGING) as staging:
            self.folder.write(path, content, staging=staging)


def _name(page: PageResult) -> str:
    return f"page-{page.page:04}" if page.page else "document"
