"""A document as plain text, its pages parted by form feeds."""

import re
from collections.abc import Sequence
from html.parser import HTMLParser

from cloister.output.blocks import TAGS
from cloister.output.markup import to_html
from cloister.output.pages import PageText, folded, notice

_PARAGRAPH = re.compile("p|h[1-6r]|pre|blockquote|[uod]l|table|figure")
_LINE = re.compile("li|tr|div|d[td]|br|caption|figcaption")


def render(pages: Sequence[PageText]) -> str:
    """Return the pages' words without their markup; a row of a table is a line of tabs."""
    return "\n\f".join(_page(page) for page in pages) + "\n"


def _page(page: PageText) -> str:
    parts = [_plain(page.text)] if page.text is not None and page.text.strip() else []
    if (said := notice(page)) is not None:
        parts.append(" ".join(said))
    return "\n\n".join(parts)


def _plain(markdown: str) -> str:
    reader = _TextReader()
    reader.feed(to_html(markdown).text)
    reader.close()
    lines = "".join(reader.parts).replace("\f", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")


class _TextReader(HTMLParser):
    """Collects the text of sanitised HTML, which is well-formed."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._lists: list[int | None] = []  # the next number, None in a bullet list
        self._spans: list[str] = []
        self._cell: list[str] = []
        self._cells = 0  # how many are open: a table in a cell is text of that cell
        self._in_row = self._at_first_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._break(tag)
        if tag in {"ul", "ol"}:
            start = re.fullmatch(r"\d{1,9}", given.get("start") or "1")
            self._lists.append(int(start[0]) if tag == "ol" and start else None)
        elif tag == "li" and self._lists:
            self._put(self._mark())
        elif tag == "tr" and not self._cells:
            self._in_row = self._at_first_cell = True
        elif tag in {"td", "th"}:
            self._cells += 1
        elif tag == "span":
            name = given.get("class") or ""
            self._spans.append(f"</{name}>" if name in TAGS.split("|") else "")
            self._put(self._spans[-1].replace("/", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in {"ul", "ol"}:
            self._lists.pop()
        elif tag == "tr" and not self._cells:
            self._in_row = False
        elif tag in {"td", "th"}:
            self._cells -= 1
            self._end_cell()
        elif tag == "span":
            self._put(self._spans.pop())
        self._break(tag)

    def handle_data(self, data: str) -> None:
        # White space between blocks is not text, and a list's mark stands before its first line.
        starts_line = not self.parts or self.parts[-1].endswith(("\n", "- ", ". "))
        if self._cells or data.strip() or not (self._in_row or starts_line):
            self._put(data)

    def _put(self, text: str) -> None:
        if text:
            (self._cell if self._cells else self.parts).append(text)

    def _break(self, tag: str) -> None:
        """Begin a new line, or a new paragraph where no list or cell holds it together."""
        is_paragraph = _PARAGRAPH.fullmatch(tag) is not None
        if not is_paragraph and _LINE.fullmatch(tag) is None:
            return
        if self._cells:
            self._cell.append(" ")
        elif not (tag == "p" and self._lists and self.parts[-1].endswith(("- ", ". "))):
            wanted = 2 if is_paragraph and not self._lists else 1
            end = "".join(self.parts[-2:])
            self._put("\n" * (wanted - (len(end) - len(end.rstrip("\n")))))

    def _end_cell(self) -> None:
        if self._cells:
            self._cell.append(" ")
            return
        self.parts.append(("" if self._at_first_cell else "\t") + folded("".join(self._cell)))
        self._cell.clear()
        self._at_first_cell = False

    def _mark(self) -> str:
        number = self._lists[-1]
        if number is not None:
            self._lists[-1] = number + 1
        return "  " * (len(self._lists) - 1) + ("- " if number is None else f"{number}. ")
