"""A run folder: the documents' outputs, the ledger, and what was not read."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from cloister import output
from cloister.config.profiles import profiles
from cloister.errors import DeploymentError, OcrError
from cloister.files import exclusive, write_atomically
from cloister.ocr.documents import Entry
from cloister.ocr.events import DocumentDone, DocumentOpened, Event, PageDone
from cloister.ocr.ledger import Ledger
from cloister.ocr.results import PageResult
from cloister.ocr.service import Service
from cloister.ocr.targets import LEDGER, LOCK, QUARANTINE, STAGING
from cloister.output import SUFFIX, Format, Source, Style

_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg"}
_OURS = frozenset({".png", ".jpg", ".image", ".json"})


@contextmanager
def opened(folder: Path) -> Iterator[Ledger]:
    """Open a run folder's ledger, and make both where there is none.

    Raises OcrError when another command reads into the folder, or when it cannot be written.
    """
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(exclusive(folder / LOCK, wait_s=0))
            _clear(folder / STAGING)
            (folder / STAGING).mkdir()
        except (OSError, DeploymentError) as error:
            raise _refused(folder, error) from error
        yield held.enter_context(closing(Ledger(folder / LEDGER)))
        (folder / STAGING).rmdir()


def _clear(staging: Path) -> None:
    """Remove what a killed run left."""
    if staging.is_symlink():
        staging.unlink()
    elif staging.exists():
        shutil.rmtree(staging)


def _refused(folder: Path, error: Exception) -> OcrError:
    if isinstance(error.__cause__, BlockingIOError):
        busy = f"another `invoke ocr` writes into `{folder}`"
        return OcrError(busy, hint="another --out, or wait for it")
    cause = error if isinstance(error, OSError) else error.__cause__
    reason = cause.strerror if isinstance(cause, OSError) else error
    return OcrError(f"`{folder}` cannot be written: {reason}", hint="another --out")


def existing(folder: Path) -> Ledger:
    """Return the ledger of a folder to look into; raises OcrError when there is none."""
    path = folder / LEDGER
    if not path.exists():
        raise OcrError(f"`{folder}` has no {LEDGER}", hint="invoke ocr PATH... --out FOLDER")
    return Ledger(path)


@dataclass(frozen=True)
class Writer:
    """Writes what was read into a run folder; `model` and `profile` go into the front matter.

    `failures` are why documents could not be written: the others go on.
    """

    folder: Path
    ledger: Ledger
    style: Style
    model: str | None
    profile: str | None
    failures: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path, ledger: Ledger, style: Style, service: Service) -> Self:
        """Return one that names the model, and its profile, where the service has them."""
        model = service.model if service.serves_model else None
        found = profiles().get(model or "")
        return cls(folder, ledger, style, model, found[0].stem if found else None)

    def heard(self, event: Event) -> Path | None:
        """Write what is finished by an event; return the document's output, if that was written."""
        if isinstance(event, DocumentOpened) and event.changed:
            shutil.rmtree(self._place(event.entry), ignore_errors=True)  # of the old content
        try:
            if isinstance(event, PageDone):
                self.set_apart(event)
            return self.write(event.entry) if isinstance(event, DocumentDone) else None
        except DeploymentError as error:
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
        """Return where a document's file of a format is."""
        return self.folder / entry.target.with_name(f"{entry.target.name}{SUFFIX[kind]}")

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
        return self.path(entry, self.style.format)

    def _is_there(self, entry: Entry, style: Style, written: Mapping[str, str]) -> bool:
        there = self.path(entry, style.format).exists()
        return there and written.get(style.format) == str(style)

    def _complete(self, entry: Entry, page: PageResult) -> None:
        """Put a page into the quarantine of which a killed run told the ledger alone."""
        if not page.read and not (self._place(entry) / f"{_name(page)}.json").exists():
            self.set_apart(PageDone(entry, page, None))

    def _place(self, entry: Entry) -> Path:
        return self.folder / QUARANTINE / entry.target

    def _composed(self, entry: Entry, pages: Sequence[PageResult], style: Style) -> str:
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

    def _take_out(self, place: Path, name: str) -> None:
        found = [old for old in place.glob(f"{name}.*") if old.suffix in _OURS]
        for old in found:
            old.unlink()
        if found:
            with contextlib.suppress(OSError):  # others are still in it
                place.rmdir()

    def _put(self, path: Path, content: str | bytes) -> None:
        write_atomically(path, content, staging=self.folder / STAGING)


def _name(page: PageResult) -> str:
    return f"page-{page.page:04}" if page.page else "document"
