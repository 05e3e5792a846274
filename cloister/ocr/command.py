"""`invoke ocr`: finds the service, reads the documents, writes what came back."""

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from cloister import console
from cloister.config import OcrSettings, Settings
from cloister.errors import CloisterError, ConfigError, OcrError
from cloister.folders import Folder, shown
from cloister.ocr import descriptors, documents, folder, origins, present, run, service, targets
from cloister.ocr.client import in_order
from cloister.ocr.documents import Document
from cloister.ocr.events import DocumentDone, DocumentGone, DocumentOpened, Event, PageDone
from cloister.ocr.folder import Writer
from cloister.ocr.ledger import Ledger
from cloister.ocr.opener import LEADS_OUT
from cloister.ocr.service import Service
from cloister.ocr.watching import Watch
from cloister.output import SUFFIX, Format, Style

_LOOKED_AT, _LONGEST_WORDS = 100, 200  # pages that were not read, and characters of paths
_REBUILT = "{} is damaged: it was read as far as it goes, and parts of it may be missing"


@dataclass(frozen=True)
class Wish:
    """What was typed: `url` of another service, `out` a run folder, `only` a pattern of names."""

    paths: Sequence[str] = ()
    url: str | None = None
    out: Path | None = None
    format: Format = "markdown"
    only: str | None = None
    retry_failed: bool = False
    watch: Path | None = None
    as_json: bool = False


def wish(  # noqa: PLR0913  # the command's flags
    paths: Sequence[str],
    url: str | None,
    out: str | None,
    kind: str,
    only: str | None,
    watch: str | None,
    *,
    retry_failed: bool,
    as_json: bool,
) -> Wish:
    """Return what was typed; raises ConfigError where it makes no sense."""
    if out == "":
        raise ConfigError("--out names no folder")
    if kind not in SUFFIX:
        raise ConfigError(f"--format is `{kind}`, expected one of {', '.join(SUFFIX)}")
    if out is None and (kind != "markdown" or retry_failed or watch):
        raise ConfigError(
            "--format, --retry-failed and --watch need a run folder", hint="--out FOLDER"
        )
    if url is not None and not url.startswith(("http://", "https://")):
        raise ConfigError(f"--url is `{url}`, expected one that begins with http:// or https://")
    return Wish(
        paths=paths,
        url=url,
        out=Path(out) if out else None,
        format=cast("Format", kind),
        only=only,
        retry_failed=retry_failed,
        watch=Path(watch) if watch else None,
        as_json=as_json,
    )


def style(settings: OcrSettings, kind: Format) -> Style:
    """Return how documents are written down."""
    return Style(kind, settings.tags, settings.headers, settings.tables)


def status(wish: Wish) -> None:
    """Print what a run folder holds; reads nothing, and may be asked while another command does."""
    if wish.out is None:
        raise ConfigError("--status tells what is in a run folder", hint="--out FOLDER")
    with folder.existing(wish.out) as ledger:
        found = ledger.summary(everything=True)
        failed = ledger.failed(limit=present.MOST_LISTED, everything=True)
    if wish.as_json:
        present.as_json(found, failed, wish.out)
        return
    present.summarise(found, 0, 0, console.show)
    present.complain(failed, found.failed, console.show)


def read(settings: Settings, wish: Wish) -> None:
    """Read documents to standard output, or into a run folder.

    Raises OcrError when the service is not there, and at the end when a page was not read.
    """
    known = wish.out is not None and (wish.out / targets.LEDGER).exists()
    if not (wish.paths or wish.watch or known):
        raise ConfigError("there is nothing to read", hint="invoke ocr PATH...")
    descriptors.raise_limit()
    if wish.out is None:
        _to_standard_output(settings, wish)
    else:
        _into_folder(settings, wish, wish.out)


def _into_folder(settings: Settings, wish: Wish, out: Path) -> None:
    with folder.opened(out) as (place, ledger):
        ledger.begin()
        more = _gathered(settings.state_dir, place, ledger, wish)
        asked = _reached(settings, wish)
        recipe = _recipe(ledger, settings, asked)
        writer = Writer.of(place, ledger, style(settings.ocr, wish.format), asked)
        if wish.retry_failed:
            console.say(f"{ledger.retry_failed():,} pages are tried again")
        begun_s, pages = time.monotonic(), 0
        events = run.read(ledger, asked, settings.ocr, recipe, more=more)
        with _interruptible(ledger):
            for event in _watched(events, ledger):
                pages += isinstance(event, PageDone)
                path = writer.heard(event)
                if not wish.as_json:
                    _say(event, path)
        seconds = time.monotonic() - begun_s
        found = ledger.summary()
        if wish.as_json:
            present.as_json(found, ledger.failed(limit=present.MOST_LISTED), out, seconds)
        else:
            present.summarise(found, seconds, pages)
        writer.require_all_written()
        _require_all(ledger, hint=_hint(ledger, wish, out))


def _gathered(state: Path, place: Folder, ledger: Ledger, wish: Wish) -> Callable[[], bool]:
    """Register what was named, or all that is known; return what gives further documents."""
    out, watched = place.path, [wish.watch] if wish.watch else []
    with console.steps() as report:
        report("looking for documents")
        if wish.paths or watched:
            origins.note(state, place, [*wish.paths, *watched])
            ledger.register(documents.walk(wish.paths, beside=out, only=wish.only))
        else:
            ledger.register(_known(state, place, ledger, wish.only))
    return Watch(wish.watch, out, ledger, wish.only).look if wish.watch else lambda: False


def _known(state: Path, place: Folder, ledger: Ledger, only: str | None) -> list[Document]:
    """Return the documents that a ledger names; raises OcrError for one that nobody gave here."""
    known = ledger.documents(only)
    if only and not known:
        raise OcrError(f"no document's name fits `{only}`")
    if (document := origins.strange(state, place, known)) is not None:
        told = (
            f"`{shown(place.path)}` names `{shown(document.path)}`, which was not given for it here"
        )
        if not origins.is_noted(state, place):
            told = (
                f"what was given for `{shown(place.path)}` is not recorded here: it was begun by "
                "an earlier version, with another state folder, or by somebody else"
            )
        raise OcrError(
            told,
            hint=f"invoke ocr PATH... --out {shlex.quote(str(place.path))}",
        )
    return known


def _reached(settings: Settings, wish: Wish) -> Service:
    with console.waiting("the service to say what it is", service.LONGEST_S):
        return service.reach(settings, wish.url)


def _recipe(ledger: Ledger, settings: Settings, asked: Service) -> int:
    number, others = ledger.recipe(run.recipe(settings.ocr, asked))
    if others:
        console.say("other settings than before: pages that were read with those stay as they are")
    return number


def _say(event: Event, path: Path | None) -> None:
    if isinstance(event, DocumentGone):
        console.say(f"{event.entry.document.shown} cannot be read now: {event.reason}")
    elif isinstance(event, PageDone) and event.result.rebuilt and event.result.page == 1:
        console.say(_REBUILT.format(event.result.document))
    elif isinstance(event, DocumentOpened) and event.changed:
        console.say(f"{event.entry.document.shown} has changed: it is read anew")
    elif isinstance(event, DocumentDone) and path is not None:
        console.say(f"{event.entry.document.shown} -> {documents.shown(path)}")


@contextmanager
def _interruptible(ledger: Ledger) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, CloisterError):
        found = ledger.summary()
        console.say(f"{found.read:,} pages are read; the same command goes on with the others")
        raise


def _watched(events: Iterator[Event], ledger: Ledger) -> Iterator[Event]:
    with console.gauge("pages") as gauge:
        progress = present.Progress(gauge, ledger.summary())
        for event in events:
            progress.heard(event)
            yield event


def _to_standard_output(settings: Settings, wish: Wish) -> None:
    with closing(Ledger(None)) as ledger:
        ledger.begin()
        count = ledger.register(documents.walk(wish.paths, only=wish.only))
        asked = _reached(settings, wish)
        recipe = _recipe(ledger, settings, asked)
        chosen = style(settings.ocr, "markdown")
        events = _watched(run.read(ledger, asked, settings.ocr, recipe), ledger)
        results = []
        for result in in_order(ledger, events):
            results.append(asdict(result) if wish.as_json else {})
            if not wish.as_json:
                heading = f"<!-- {result.document} -->\n\n" if count > 1 else ""
                console.show(heading + result.body(chosen))
            if any(page.rebuilt for page in result.pages):
                console.say(_REBUILT.format(result.document))
            for page in result.pages:
                if page.read and not page.text:
                    console.say(f"{page.document} page {page.page}: no text was found on it")
        if wish.as_json:
            console.dump({"documents": results})
        if removed := ledger.summary().removed_characters:
            console.say(f"removed {removed:,} {present.REMOVED}")
        _require_all(ledger, hint=None)


def _hint(ledger: Ledger, wish: Wish, out: Path) -> str:
    """Return what to type for pages that were not read; a link is followed where it is named."""
    into = f"--out {shlex.quote(str(out))} --retry-failed"
    failed = ledger.failed(limit=_LOOKED_AT)
    if failed and all(page.error == LEADS_OUT for page in failed):
        return f"invoke ocr {shlex.quote(failed[0].document)} {into}, if it may be followed"
    if not ledger.has_named_links:
        return f"invoke ocr {into}"
    words = shlex.join(wish.paths)
    return f"invoke ocr {words if len(words) <= _LONGEST_WORDS else 'PATH...'} {into}"


def _require_all(ledger: Ledger, hint: str | None) -> None:
    found = ledger.summary()
    present.complain(ledger.failed(limit=_LOOKED_AT), found.failed)
    if found.failed or found.unfinished or found.unopened:
        raise OcrError(
            f"{found.failed + found.unfinished:,} of {found.pages:,} pages were not read", hint=hint
        )
