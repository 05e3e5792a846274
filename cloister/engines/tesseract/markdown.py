"""A page's paragraphs and tables as Markdown blocks: pure text."""

import html
import re
from collections.abc import Iterable, Sequence

from cloister.engines.tesseract.layout import Line, Paragraph, Table

# A word broken at the line's end; `state-of-` + `the` keeps its hyphen, `func-` + `tion` does not.
_BROKEN = re.compile(r"(?:^|\s)[^\s\W\d_]+[-\u2010\u00ad]$")


def blocks(parts: Iterable[Paragraph | Table]) -> tuple[str, ...]:
    """Return one Markdown block for each part, list items that follow each other in one block."""
    rendered: list[str] = []
    after_item = False
    for part in parts:
        item = isinstance(part, Paragraph) and part.item
        text = _table(part) if isinstance(part, Table) else _paragraph(part)
        if item and after_item:
            rendered[-1] += f"\n{text}"
        else:
            rendered.append(text)
        after_item = item
    return tuple(rendered)


def _paragraph(part: Paragraph) -> str:
    text = join(
        [_text(line, drop_first=part.item and line is part.lines[0]) for line in part.lines]
    )
    text = html.escape(text, quote=False) if re.search(r"<[a-zA-Z/!]", text) else text
    if part.item:
        return f"- {text}"
    return f"{'#' * part.heading} {text}" if part.heading else text


def _text(line: Line, *, drop_first: bool) -> str:
    words = line.words[1:] if drop_first else line.words
    return " ".join(word.text for word in words)


def join(lines: Sequence[str]) -> str:
    """Join wrapped lines with spaces, and words that were broken at a line's end without."""
    text = lines[0]
    for line in lines[1:]:
        if _BROKEN.search(text) and line[:1].islower():
            text = text[:-1] + line
        elif text.endswith("-") and line[:1].islower():
            text += line
        else:
            text += f" {line}"
    return text


def _table(table: Table) -> str:
    rows = (
        "<tr>" + "".join(f"<td>{html.escape(cell, quote=False)}</td>" for cell in row) + "</tr>"
        for row in table.rows
    )
    return "<table>\n" + "\n".join(rows) + "\n</table>"
