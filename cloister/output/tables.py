"""Tables that go on over the end of a page, made one again."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cloister.output.blocks import is_margin
from cloister.output.pages import PageText
from cloister.scoring import normalise

_FLAGS = re.DOTALL | re.IGNORECASE
_HTML_HEAD = re.compile(r"<table\b.*?</table>", _FLAGS)
_HTML_TAIL = re.compile(r"<table\b(?:(?!<table\b).)*</table>\Z", _FLAGS)
_HTML_ROW = re.compile(r"<tr\b[^>]*>((?:(?!<tr\b).)*?)</tr\s*>", _FLAGS)
_HTML_CELL = re.compile(r"<(t[dh])\b([^>]*)>", _FLAGS)
_HTML_FRAME = re.compile(r"</?(?:table|thead|tbody)\b[^>]*>", _FLAGS)
_HTML_END = re.compile(r"\s*(?:</tbody\s*>\s*)?</table>\Z", _FLAGS)
_COLSPAN = re.compile(r"\bcolspan\s*=\s*[\"']?(\d{1,3})", re.IGNORECASE)
_PIPE_HEAD = re.compile(r"(?:[ \t]*\|[^\n]*\|[ \t]*(?:\n|\Z))+")
_PIPE_TAIL = re.compile(r"(?:^[ \t]*\|[^\n]*\|[ \t]*(?:\n|\Z))+\Z", re.MULTILINE)
_PIPE_RULE = re.compile(r"[ \t]*\|(?:[ \t]*:?-+:?[ \t]*\|)+[ \t]*")
_PIPE = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class _Row:
    markup: str
    text: str
    width: int
    is_header: bool


@dataclass(frozen=True)
class _Table:
    markup: str
    rows: tuple[_Row, ...]

    @property
    def is_html(self) -> bool:
        return self.markup.startswith("<")

    @property
    def width(self) -> int:
        return max(row.width for row in self.rows)

    @property
    def header(self) -> tuple[str, ...]:
        """The texts of the rows at the top that are marked as headers."""
        marks = [row.is_header for row in self.rows]
        return tuple(row.text for row in self.rows[: [*marks, False].index(False)])


@dataclass
class _Open:
    """The table at the end of a page, and the rows of the following pages."""

    page: int
    start: int
    table: _Table
    added: list[str] = field(default_factory=list)

    def close(self, texts: list[str | None]) -> None:
        markup, text = self.table.markup, texts[self.page]
        if not self.added or text is None:
            return
        end = _HTML_END.search(markup) if self.table.is_html else None
        at = end.start() if end is not None else len(markup)
        glue = "\n" if "\n" in markup or end is None else ""
        joined = glue.join([markup[:at], *self.added]) + markup[at:]
        texts[self.page] = text[: self.start] + joined + text[self.start + len(markup) :]


def join(pages: Sequence[PageText], running: Sequence[frozenset[int]]) -> list[str | None]:
    """Return the pages' texts, with the rows of a table that goes on moved to where it begins.

    A table goes on when it is all that its page has at that edge, but for page numbers, watermarks
    and the `running` lines, and the next page begins with a table of as many columns that has no
    header, or the same one, which is dropped. It takes a table with a header of its own for
    another one. A comment stays where the rows were taken from. Nothing is joined over a page that
    is missing or was not read to its end.
    """
    texts = [page.text for page in pages]
    held: _Open | None = None
    for index, page in enumerate(pages):
        if held is not None and (page.text is None or page.number != pages[index - 1].number + 1):
            held.close(texts)
            held = None
        if page.text is not None:
            held = _next(texts, held, index, page, running[index])
    if held is not None:
        held.close(texts)
    return texts


def _next(
    texts: list[str | None],
    held: _Open | None,
    index: int,
    page: PageText,
    running: frozenset[int],
) -> _Open | None:
    """Join a page's first table to the one held, and return the table that is open after it."""
    text = page.text or ""
    start, end = _core(text, running)
    if held is not None:
        head = _head(text[start:end])
        rows = None if head is None else _continued(held.table, head)
        if head is not None and rows is not None:
            held.added += rows
            begun = page.number - index + held.page
            note = (
                f"<!-- page {page.number}: its first rows were joined to page {begun}'s table -->"
            )
            after = start + len(head.markup)
            text = texts[index] = text[:start] + note + text[after:]
            if after == end and page.error is None:
                return held
            end += len(note) - len(head.markup)
        held.close(texts)
    tail = None if page.error is not None else _tail(text[start:end])
    return None if tail is None else _Open(index, end - len(tail.markup), tail)


def _core(text: str, running: frozenset[int]) -> tuple[int, int]:
    """Return where a page begins and ends between its headers and footers."""
    start, end, at, begun = len(text), len(text), 0, False
    for number, line in enumerate(text.split("\n")):
        if number not in running and not is_margin(line):
            start = start if begun else at + len(line) - len(line.lstrip())
            begun, end = True, at + len(line.rstrip())
        at += len(line) + 1
    return start, end


def _head(core: str) -> _Table | None:
    if html := _HTML_HEAD.match(core):
        return _html_table(html[0])
    pipe = _PIPE_HEAD.match(core)
    return None if pipe is None else _pipe_table(pipe[0].rstrip("\n"))


def _tail(core: str) -> _Table | None:
    # Looked for from the last table on: a search from the first one would try each of them.
    if html := _HTML_TAIL.match(core, max(core.lower().rfind("<table"), 0)):
        return _html_table(html[0])
    pipe = _PIPE_TAIL.search(core)
    table = None if pipe is None else _pipe_table(pipe[0])
    return table if table is not None and table.header else None


def _html_table(markup: str) -> _Table | None:
    """Return a table, None for one with anything but rows: caption, footer, another table."""
    rest = _HTML_FRAME.sub("", _HTML_ROW.sub("", markup))
    if rest.strip() or markup.lower().count("<table") > 1:
        return None
    head = markup.lower().rfind("</thead")
    rows = []
    for row in _HTML_ROW.finditer(markup):
        cells = _HTML_CELL.findall(row[1])
        spans = [_COLSPAN.search(attributes) for _, attributes in cells]
        rows.append(
            _Row(
                row[0],
                normalise(row[1]),
                sum(int(span[1]) if span else 1 for span in spans),
                row.start() < head or {name.lower() for name, _ in cells} == {"th"},
            )
        )
    return _Table(markup, tuple(rows)) if rows else None


def _pipe_table(markup: str) -> _Table | None:
    lines = markup.split("\n")
    ruled = len(lines) > 1 and _PIPE_RULE.fullmatch(lines[1]) is not None
    rows = tuple(
        _Row(line, normalise(line), len(_PIPE.findall(line)) - 1, ruled and number == 0)
        for number, line in enumerate(lines)
        if not (ruled and number == 1)
    )
    return _Table(markup, rows)


def _continued(first: _Table, second: _Table) -> list[str] | None:
    """Return the rows that the second table adds to the first, None where it is another table."""
    if first.is_html != second.is_html or first.width != second.width:
        return None
    texts = [row.text for row in second.rows]
    if repeated := len(second.header):
        if second.header != tuple(row.text for row in first.rows[:repeated]):
            return None
    elif first.header and texts[: len(first.header)] == list(first.header):
        repeated = len(first.header)
    elif texts[0] == first.rows[0].text and not re.search(r"\d|^$", texts[0]):
        repeated = 1  # a header that neither page marks as one; with figures it may be data
    return [row.markup for row in second.rows[repeated:]]
