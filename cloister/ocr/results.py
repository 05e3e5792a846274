"""What became of pages and documents."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from cloister import output
from cloister.cleaning import Cleaned
from cloister.ocr.schema import MOST_TOKENS
from cloister.output import PageText, Style

# Of a ledger, these may be anything.
_Count = Annotated[int, Field(ge=0, le=1 << 53)]


def _told(tokens: object) -> int:
    """Return a count of tokens, 0 where it can be none: an engine told it, and was believed."""
    if not isinstance(tokens, int) or isinstance(tokens, bool):
        return 0
    return tokens if 0 <= tokens <= MOST_TOKENS else 0


_Tokens = Annotated[int, BeforeValidator(_told)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class PageResult:
    """What became of one page: `text`, or the reason why there is none in `error`, or both.

    Both is a text that is incomplete. `page` counts from 1, and is 0 for a document that could not
    be opened. `seconds`, `replica` and `request_id` are of the last request, `attempts` all
    requests of the page, `tokens` what the engine wrote for it in all of them and `wasted_tokens`
    what of that was thrown away, by its own count or, where it has none
    or a runaway answer was cut, by ours; 0 where nobody knows.
    `sha256` is of the page's image. `reused` tells that another page had that image, and was asked
    for instead. `rebuilt` tells that the file is damaged, and was read as far as it goes.
    `removed_characters` came with its text and are none: controls, escapes, invisible orders.
    """

    document: str
    page: _Count
    text: str | None
    error: str | None = None
    finish_reason: str | None = None
    engine: str | None = None
    completion_tokens: _Tokens = 0
    wasted_tokens: _Tokens = 0
    seconds: _Seconds = 0.0
    attempts: _Count = 0
    sha256: str | None = None
    replica: str | None = None
    request_id: str | None = None
    reused: bool = False
    rebuilt: bool = False
    removed_characters: _Count = 0

    @property
    def number(self) -> int:
        """The page's number."""
        return self.page

    @property
    def read(self) -> bool:
        """Whether the whole page was read."""
        return self.error is None

    @property
    def cleaned(self) -> Cleaned:
        """Its text, with what was removed from it."""
        return Cleaned(self.text or "", self.removed_characters)

    def for_output(self) -> PageText:
        """Return what goes into a file."""
        facts: Mapping[str, Any] = {
            name: value
            for name, value in asdict(self).items()
            if name not in {"document", "page", "text", "error"}
        }
        return PageText(self.page, self.text, self.error, facts)


@dataclass(frozen=True)
class DocumentResult:
    """All pages of one document, in their order."""

    document: str
    pages: tuple[PageResult, ...]

    @property
    def failed(self) -> tuple[PageResult, ...]:
        """The pages that were not read, or not to their end."""
        return tuple(page for page in self.pages if not page.read)

    @property
    def markdown(self) -> str:
        """The pages' texts; a page without one leaves a visible note."""
        return self.body(Style())

    def body(self, style: Style) -> str:
        """Return the Markdown as `style` wants it, without front matter and anchors."""
        return output.body([page.for_output() for page in self.pages], style)


@dataclass(frozen=True)
class Summary:
    """What is known of a run folder; `documents` without a page that was not read are `whole`.

    Of `pages`, `read` and `failed` ones are finished; `unopened` documents have pages that nobody
    counted yet. Tokens and requests are those of all times. `removed_characters` were in the texts
    of finished pages, and are not text.
    """

    documents: _Count
    whole: _Count
    unopened: _Count
    pages: _Count
    read: _Count
    failed: _Count
    reused: _Count
    requests: _Count
    tokens: _Count
    wasted_tokens: int
    removed_characters: _Count = 0

    @property
    def unfinished(self) -> int:
        """Pages, of documents that were opened, that are still to be read."""
        return self.pages - self.read - self.failed
