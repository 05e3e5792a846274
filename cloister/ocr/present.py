"""What a person sees of a run: progress while it goes on, and what came of it."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from cloister import console
from cloister.console import Gauge
from cloister.ocr.events import DocumentOpened, Event, PageDone, Waiting
from cloister.ocr.results import PageResult, Summary

MOST_LISTED = 1_000  # pages that were not read, for a script
REMOVED = "characters of the pages that are no text: controls, escapes, hidden orders"
_LISTED = 20  # pages that were not read, of which each has a line


class Progress:
    """Keeps a gauge at what a run has told so far."""

    def __init__(self, gauge: Gauge, before: Summary) -> None:
        self._gauge = gauge
        self._begun_s = time.monotonic()
        self._unopened = before.unopened
        self._known = self._opened = self._left = 0
        self._done = self._failed = self._tokens = 0

    def heard(self, event: Event) -> None:
        """Take in what happened."""
        if isinstance(event, Waiting):
            self._gauge.waits(
                f"waiting for {event.what} for {event.seconds:.0f} s of at most {event.limit_s:g} s"
            )
            return
        if isinstance(event, DocumentOpened):
            self._opened += 1
            self._known += event.pages
            self._left += event.left
            self._unopened -= event.first
        elif isinstance(event, PageDone):
            self._done += 1
            self._failed += not event.result.read
            self._tokens += event.result.completion_tokens
        else:
            return
        # Documents that were not opened yet are taken to have as many pages as the others.
        ahead = self._unopened * self._known // max(1, self._opened)
        seconds = max(time.monotonic() - self._begun_s, 1e-3)
        note = f"{self._done / seconds:.1f}/s, {self._tokens:,} tokens"
        if self._failed:
            note += f", {self._failed:,} not read"
        self._gauge.update(self._done, self._left + ahead, note)


def summarise(
    found: Summary, seconds: float, pages: int, say: Callable[[str], None] = console.say
) -> None:
    """Print what a run folder holds, and how fast the last `pages` were read."""
    rows = [
        ("documents", f"{found.documents:,}", f"{found.whole:,} read to their end"),
        ("pages", f"{found.pages:,}", _pages(found)),
        ("requests", f"{found.requests:,}", ""),
        ("tokens", f"{found.tokens:,}", f"{found.wasted_tokens:,} of no use"),
    ]
    if pages and seconds:
        rows.append(("this run", f"{pages:,} pages", f"{pages / seconds:.2f}/s"))
    if found.removed_characters:
        rows.append(("removed", f"{found.removed_characters:,}", REMOVED))
    for name, count, note in rows:
        say(f"{name:<10}{count:>14}  {note}".rstrip())


def _pages(found: Summary) -> str:
    notes = [f"{found.read:,} read", f"{found.failed:,} not read"]
    if found.reused:
        notes.append(f"{found.reused:,} had the image of another page")
    if found.unfinished or found.unopened:
        more = f" and those of {found.unopened:,} documents" if found.unopened else ""
        notes.append(f"{found.unfinished:,}{more} left")
    return ", ".join(notes)


def as_json(
    found: Summary, failed: list[PageResult], folder: Path, seconds: float | None = None
) -> None:
    """Print a summary for a script."""
    told = {
        "folder": str(folder),
        "seconds": None if seconds is None else round(seconds, 3),
        **asdict(found),
        "unfinished": found.unfinished,
        "not_read": [
            {"document": page.document, "page": page.page, "reason": page.error} for page in failed
        ],
    }
    console.dump(told)


def complain(
    failed: list[PageResult], total: int, say: Callable[[str], None] = console.say
) -> None:
    """Print a line for each page that was not read, but not for thousands of them."""
    for page in failed[:_LISTED]:
        say(f"{page.document} page {page.page or '-'}: {page.error}")
    if total > _LISTED:
        say(f"... and {total - _LISTED:,} more: `--status --json` lists them")
