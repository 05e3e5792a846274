"""From the pages' texts to the text of one file."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from cloister.cleaning import clean, on_one_line, printable
from cloister.output import headers, html, markdown, tables, tags, text
from cloister.output.pages import Format, PageText, Source, Style, removed_characters

SUFFIX: Mapping[Format, str] = {
    "markdown": ".md",
    "jsonl": ".jsonl",
    "html": ".html",
    "txt": ".txt",
}


def compose(source: Source, pages: Sequence[PageText], style: Style) -> str:
    """Return the whole text of a document's file; no page goes missing without a word."""
    named = replace(
        source,
        name=_shown(source.name),
        model=source.model and _shown(source.model),
        profile=source.profile and _shown(source.profile),
        engines=tuple(map(_shown, source.engines)),
        date=_shown(source.date),
    )
    return _RENDERERS[style.format](named, _styled(pages, style))


def body(pages: Sequence[PageText], style: Style) -> str:
    """Return the document as Markdown without front matter and anchors, for standard output."""
    return markdown.body(_styled(pages, style))


def _styled(pages: Sequence[PageText], style: Style) -> list[PageText]:
    """Apply what is the same in all formats: headers, then tables, which they part, then tags."""
    pages = list(map(_cleaned, pages))
    texts = [page.text for page in pages]
    if style.headers == "remove" or style.tables == "join":
        running = headers.running(pages)
        if style.headers == "remove":
            texts = [_without(page, lines) for page, lines in zip(pages, running, strict=True)]
            running = [frozenset() for _ in pages]
        if style.tables == "join":
            texts = tables.join(_with(pages, texts), running)
    if style.tags != "keep":
        change = tags.strip if style.tags == "strip" else tags.to_markdown
        texts = [None if page is None else change(page) for page in texts]
    return _with(pages, texts)


def _cleaned(page: PageText) -> PageText:
    """Return a page without what a terminal or viewer obeys, wherever its text came from."""
    shown = replace(page, error=page.error and _shown("\n".join(page.error.splitlines())))
    if page.text is None:
        return shown
    cleaned = clean(_encodable(page.text))
    count = {"removed_characters": removed_characters(page) + cleaned.removed}
    facts = {**page.facts, **(count if cleaned.removed else {})}
    return replace(shown, text=cleaned.text, facts=facts)


def _shown(text: str) -> str:
    return printable(_encodable(text))


def _without(page: PageText, lines: frozenset[int]) -> str | None:
    return None if page.text is None else headers.without(page.text, lines)


def _with(pages: Sequence[PageText], texts: Sequence[str | None]) -> list[PageText]:
    return [replace(page, text=changed) for page, changed in zip(pages, texts, strict=True)]


def _encodable(text: str) -> str:
    """Return a text that UTF-8 can hold; names of files, and what is said of them, need not be."""
    return text.encode("utf-8", "replace").decode()


def _json_lines(source: Source, pages: Sequence[PageText]) -> str:
    return "".join(_json_line(source, page) + "\n" for page in pages)


def _json_line(source: Source, page: PageText) -> str:
    told = {
        name: on_one_line(fact) if isinstance(fact, str) else fact
        for name, fact in page.facts.items()
    }
    own = {"document": source.name, "page": page.number, "text": page.text, "error": page.error}
    # Its own keys come first, and no fact of that name replaces them.
    return json.dumps(own | told | own, ensure_ascii=False)


_RENDERERS: Mapping[Format, Callable[[Source, Sequence[PageText]], str]] = {
    "markdown": markdown.render,
    "jsonl": _json_lines,
    "html": html.render,
    "txt": lambda _, pages: text.render(pages),
}
