"""A document being set: what a block draws it also notes as truth."""

import html
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from cloister.corpus.canvas import Align, Canvas, Face, Span
from cloister.corpus.lines import Line, break_lines

Rules = Literal["grid", "lines", "zebra", "open"]

_CELL_PAD_MM = 1.3
_FOOT = Face("Helvetica", 9)


class Sheet:
    """Pages of one size, set from top to bottom and column by column.

    Lengths are in mm, `y` is the top of the next line; `footer` is a format with `{page}`.
    """

    def __init__(self, paper: tuple[float, float], margin: float = 20.0, footer: str = "") -> None:
        self.canvas = Canvas(paper)
        self.full = Span(margin, paper[0] - 2 * margin)
        self.bottom = paper[1] - margin
        self._margin, self._footer = margin, footer
        self._columns = [self.full]
        self._notes: list[list[str]] = []
        self.y = self._top = margin
        self._start_page()

    @property
    def page(self) -> int:
        """The number of the current page, from 1."""
        return len(self._notes)

    @property
    def span(self) -> Span:
        """The current column."""
        return self._columns[self._column]

    @property
    def room(self) -> float:
        """The height in mm that is left on this page, over all its columns."""
        later = len(self._columns) - self._column - 1
        return self.bottom - self.y + later * (self.bottom - self._top)

    def finish(self) -> tuple[bytes, tuple[str, ...]]:
        """Return the PDF and the truth of each page; nothing can be set after it."""
        self._end_page()
        return self.canvas.pdf(), tuple("\n\n".join(notes) for notes in self._notes)

    def note(self, block: str) -> None:
        """Append one Markdown block to the truth of this page; list items join their list."""
        notes = self._notes[-1]
        if block.startswith("- ") and notes and notes[-1].startswith("- "):
            notes[-1] += f"\n{block}"
        else:
            notes.append(block)

    def set_columns(self, count: int, gutter: float) -> None:
        """Divide the rest of this page, and the pages that follow, into `count` columns."""
        gap = gutter / self.full.width
        step = (1 + gap) / count
        self._columns = [self.full.part(i * step, (i + 1) * step - gap) for i in range(count)]
        self._column, self._top = 0, self.y

    def beside(self, left: Callable[[], None], right: Callable[[], None]) -> None:
        """Set `left`, then `right` from the same height; go on below the longer one."""
        top = self.y
        left()
        end, self.y = self.y, top
        right()
        self.y = max(self.y, end)

    def height(self, text: str, face: Face, *, hyphenate: bool = False) -> float:
        """Return the height in mm of a paragraph set in the current column."""
        return len(self._break(text, face, self.span, hyphenate=hyphenate)) * face.line_mm

    def heading(self, text: str, face: Face, level: int = 1, align: Align = "L") -> None:
        """Set a heading of the given level, never as the last line of a column."""
        lines = self._break(text, face, self.span)
        if self.y + (len(lines) + 2) * face.line_mm > self.bottom:
            self._turn()
        for line in lines:
            self._put(line.text, face, self.span, align)
        self.note(f"{'#' * level} {text}")

    def paragraph(
        self, text: str, face: Face, *, justify: bool = False, item: bool = False
    ) -> None:
        """Set running text over as many columns as it takes; justified text is hyphenated."""
        indent = face.size * 0.5 if item else 0.0
        lines = self._break(text, face, self.span.inset(indent), hyphenate=justify)
        words, mark = text.split(), "- " if item else ""
        noted = done = 0
        for line in lines:
            # A page ends with a whole word, so that its truth does.
            if self.y + face.line_mm * (2 if line.broken else 1) > self.bottom:
                if done > noted and self._column == len(self._columns) - 1:
                    self.note(mark + " ".join(words[noted:done]))
                    noted, mark = done, ""
                self._turn()
            if item and done == 0:
                self.canvas.disc(self.span.left + 2, self.y + face.baseline_mm - 1.9, 1.1)
            align: Align = "J" if justify and line is not lines[-1] else "L"
            self._put(line.text, face, self.span.inset(indent), align)
            done += line.words
        self.note(mark + " ".join(words[noted:]))

    def lines(self, lines: Sequence[str], face: Face, span: Span, align: Align = "L") -> None:
        """Set short lines that stay lines in the truth, such as an address."""
        for line in lines:
            self._put(line, face, span, align)
        self.note("\n".join(lines))

    def pairs(self, pairs: Iterable[tuple[str, str]], face: Face, span: Span) -> None:
        """Set labels at the left and their values at the right edge of the span."""
        lines = []
        for label, value in pairs:
            self.canvas.text(label, face, span, self.y)
            self._put(value, face, span, "R")
            lines.append(f"{label} {value}")
        self.note("\n".join(lines))

    def table(
        self, rows: Sequence[Sequence[str]], shares: Sequence[float], face: Face, rules: Rules
    ) -> None:
        """Set a table over the page's width; its first row is the header.

        `shares` are the relative widths of the columns; a negative one is set flush right.
        """
        total, edge = sum(abs(share) for share in shares), 0.0
        cells: list[tuple[Span, Align]] = []
        for share in shares:
            span = self.full.part(edge / total, (edge + abs(share)) / total)
            cells.append((span.inset(_CELL_PAD_MM, _CELL_PAD_MM), "R" if share < 0 else "L"))
            edge += abs(share)
        self.canvas.rule(self.full, self.y, 0.4)
        for number, row in enumerate(rows):
            shaded = rules == "zebra" and number % 2 == 0
            top = self.y
            self._row(row, cells, face if number else face.variant(), shaded=shaded)
            if rules == "grid":
                for span, _ in cells:
                    pad = _CELL_PAD_MM
                    self.canvas.frame(span.inset(-pad, -pad), top, self.y - top)
            elif rules == "lines" or number in (0, len(rows) - 1):
                self.canvas.rule(self.full, self.y)
        self.note(html_table(rows))

    def _row(
        self,
        row: Sequence[str],
        cells: Sequence[tuple[Span, Align]],
        face: Face,
        *,
        shaded: bool,
    ) -> None:
        columns = [
            self._break(text, face, span) for text, (span, _) in zip(row, cells, strict=True)
        ]
        height = max(len(lines) for lines in columns) * face.line_mm + _CELL_PAD_MM
        if shaded:
            self.canvas.shade(self.full, self.y, height, grey=228)
        for lines, (span, align) in zip(columns, cells, strict=True):
            for depth, line in enumerate(lines):
                y = self.y + _CELL_PAD_MM / 2 + depth * face.line_mm
                self.canvas.text(line.text, face, span, y, align)
        self.y += height

    def _put(self, text: str, face: Face, span: Span, align: Align) -> None:
        self.canvas.text(text, face, span, self.y, align)
        self.y += face.line_mm

    def _break(self, text: str, face: Face, span: Span, *, hyphenate: bool = False) -> list[Line]:
        measure = self.canvas.measure
        return break_lines(text, span.width, lambda part: measure(part, face), hyphenate=hyphenate)

    def _turn(self) -> None:
        if self._column + 1 < len(self._columns):
            self._column += 1
            self.y = self._top
        else:
            self._end_page()
            self._start_page()

    def _start_page(self) -> None:
        self.canvas.add_page()
        self._notes.append([])
        self._column = 0
        self.y = self._top = self._margin

    def _end_page(self) -> None:
        if self._footer:
            text = self._footer.format(page=self.page)
            self.canvas.text(text, _FOOT, self.full, self.bottom + 5, "C")
            self.note(text)


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """Return `rows`, of which the first is the header, as an HTML table with one row a line."""
    lines = []
    for tag, row in zip(["th", *["td"] * len(rows)], rows, strict=False):
        cells = "".join(f"<{tag}>{html.escape(cell, quote=False)}</{tag}>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"
