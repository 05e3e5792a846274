"""Document pages made from a seed, with the exact text that they show."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cloister.corpus.content import Content
from cloister.corpus.forms import blank, form
from cloister.corpus.letters import letter
from cloister.corpus.papers import article, table
from cloister.corpus.raster import encode, photo, render, scan
from cloister.corpus.sheet import Sheet
from cloister.corpus.trade import invoice, receipt
from cloister.errors import ConfigError

__all__ = ["KINDS", "SPANNING", "Document", "encode", "generate", "photo", "render", "scan"]

Builder = Callable[[Content, int], tuple[Sheet, dict[str, str]]]

KINDS: Mapping[str, Builder] = {
    "invoice": invoice,
    "letter": letter,
    "article": article,
    "form": form,
    "table": table,
    "receipt": receipt,
    "blank": blank,
}
# The kinds whose text may run over several pages.
SPANNING = frozenset({"letter", "article"})


@dataclass(frozen=True)
class Document:
    """A PDF and its truth.

    `pages` holds the Markdown of each page, `markdown` that of all of them; `fields` are the facts
    that a reader must find, each of which occurs in `markdown` as it stands.
    """

    kind: str
    seed: int
    pdf: bytes
    markdown: str
    pages: tuple[str, ...]
    fields: Mapping[str, str]


def generate(kind: str, seed: int, pages: int = 1) -> Document:
    """Make the document of this kind and seed: the same arguments give the same bytes.

    Raises ConfigError when the kind is unknown, or cannot fill that many pages.
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of document `{kind}`", hint=f"one of {', '.join(KINDS)}")
    if pages < 1 or (pages > 1 and kind not in SPANNING):
        spanning = " and ".join(sorted(SPANNING))
        raise ConfigError(
            f"a document of kind `{kind}` cannot have {pages} pages",
            hint=f"1, or more for the kinds {spanning}",
        )
    sheet, fields = KINDS[kind](Content(f"{kind}/{seed}"), pages)
    pdf, truths = sheet.finish()
    return Document(kind, seed, pdf, "\n\n".join(truths), truths, fields)
