"""What a reader tells, as it happens."""

from dataclasses import dataclass

from cloister.ocr.documents import Entry
from cloister.ocr.results import PageResult
from cloister.rendering import Drawn


@dataclass(frozen=True)
class DocumentOpened:
    """A document has so many pages, so many of which are `left` to be read.

    `first` tells that nobody knew how many it has, `changed` that it is another one than before.
    """

    entry: Entry
    pages: int
    left: int
    first: bool
    changed: bool


@dataclass(frozen=True)
class DocumentGone:
    """A document's file cannot be read now: it has pages to be read, or is to be compared."""

    entry: Entry
    reason: str


@dataclass(frozen=True)
class PageDone:
    """A page is finished, and in the ledger; `drawn` is its image, if there was one."""

    entry: Entry
    result: PageResult
    drawn: Drawn | None


@dataclass(frozen=True)
class DocumentDone:
    """All pages of a document are finished."""

    entry: Entry


@dataclass(frozen=True)
class Waiting:
    """Something has been waited for so long, and will be for no more than `limit_s`."""

    what: str
    seconds: float
    limit_s: float


Event = DocumentOpened | DocumentGone | PageDone | DocumentDone | Waiting
