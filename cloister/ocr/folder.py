"""A run folder: the documents' outputs, the ledger, and what was not read."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from cloister import output
from cloister.config.profiles import profiles
from cloister.errors import DeploymentError, OcrError
from cloister.files import exclusive, write_atomically
from cloister.ocr.documents import LEDGER, QUARANTINE, Entry
from cloister.ocr.events import DocumentDone, Event, PageDone
from cloister.ocr.ledger import Ledger
from cloister.ocr.service import Service
from cloister.output import SUFFIX, Format, Source, Style

_STAGING = ".partial"
_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg"}


@contextmanager
def opened(folder: Path) -> Iterator[Ledger]:
    """Open a run folder's ledger, and make both where there is none.

    Raises OcrError when another command reads into the folder, or when it is something else.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OcrError(
            f"`{folder}` cannot be made: {error.strerror}", hint="another --out"
        ) from error
    with _alone(folder), closing(Ledger(folder / LEDGER)) as ledger:
        shutil.rmtree(folder / _STAGING, ignore_errors=True)  # what a killed run left
        (folder / _STAGING).mkdir()
        yield ledger
        (folder / _STAGING).rmdir()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = exclusive(folder / ".lock", wait_s=0)
    try:
        lock.__enter__()
    except DeploymentError as error:
        if isinstance(error.__cause__, BlockingIOError):
            raise OcrError(
                f"another `invoke ocr` writes into `{folder}`", hint="another --out, or wait for it"
            ) from error
        raise
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def existing(folder: Path) -> Ledger:
    """Return the ledger of a folder to look into; raises OcrError when there is none."""
    path = folder / LEDGER
    if not path.exists():
        raise OcrError(f"`{folder}` has no {LEDGER}", hint="invoke ocr PATH... --out FOLDER")
    return Ledger(path)


@dataclass(frozen=True)
class Writer:
    """Writes what was read into a run folder; `model` and `profile` go into the front matter."""

    folder: Path
    ledger: Ledger
    style: Style
    model: str | None
    profile: str | None

    @classmethod
    def of(cls, folder: Path, ledger: Ledger, style: Style, service: Service) -> Self:
        """Return one that names the model, and its profile, where the service has them."""
        model = service.model if service.serves_model else None
        found = profiles().get(model or "")
        return cls(folder, ledger, style, model, found[0].stem if found else None)

    def heard(self, event: Event) -> Path | None:
        """Write what is finished by an event; return the document's output, if that was written."""
        if isinstance(event, PageDone):
            self.set_apart(event)
        return self.write(event.entry) if isinstance(event, DocumentDone) else None

    def path(self, entry: Entry, kind: Format) -> Path:
        """Return where a document's file of a format is."""
        return self.folder / entry.target.with_name(f"{entry.target.name}{SUFFIX[kind]}")

    def write(self, entry: Entry) -> Path | None:
        """Write a finished document, unless it is there; return where it was written.

        Files of other formats that are there are brought to the same state.
        """
        if self._is_there(entry, self.style):
            return None
        for kind in SUFFIX:
            style = replace(self.style, format=kind)
            wanted = kind == self.style.format or self.path(entry, kind).exists()
            if wanted and not self._is_there(entry, style):
                self._put(self.path(entry, kind), self._composed(entry, style))
                self.ledger.wrote(entry.id, kind, str(style))
        return self.path(entry, self.style.format)

    def _is_there(self, entry: Entry, style: Style) -> bool:
        written = self.ledger.is_written(entry.id, style.format, str(style))
        return written and self.path(entry, style.format).exists()

    def _composed(self, entry: Entry, style: Style) -> str:
        pages = self.ledger.pages(entry)
        source = Source(
            name=str(entry.document.name),
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
        name = f"page-{done.result.page:04}" if done.result.page else "document"
        place = self.folder / QUARANTINE / done.entry.target
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

    def _take_out(self, place: Path, name: str) -> None:
        found = list(place.glob(f"{name}.*"))
        for old in found:
            old.unlink()
        if found:
            with contextlib.suppress(OSError):  # others are still in it
                place.rmdir()

    def _put(self, path: Path, content: str | bytes) -> None:
        write_atomically(path, content, staging=self.folder / _STAGING)
