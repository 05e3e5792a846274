"""Lines of text with their places on the page, and what they are together: pure geometry."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels

_BULLETS = frozenset("•◦▪■●·*-\u2013")
# What Tesseract often makes of a bullet, and what also stands for itself: signs are believed when
# another line begins alike at the same place, letters when a bullet or such a sign does.
_SIGNS = frozenset("¢©®°«»+")
_LETTERS = frozenset("eoO0@")
_NUMBERED = re.compile(r"\(?\d{1,3}[.)]\s")
# A bullet line's first word stands this close to that of the others, in line heights.
_BULLET_ALIGNMENT = 0.6
_HEADING = 1.14  # line height of a heading over that of the text below it
_TITLE = 1.6  # line height of a title over the page's median
_HEADING_CHARACTERS = 120
_PARAGRAPH_GAP = 0.75  # white space between two paragraphs, in line heights
_INDENT = 0.6  # first-line indent, in line heights
_HANGING = 0.3  # indent of a list item's further lines, in line heights
_SPACE = 0.3  # width of a space, in line heights
_NARROW = 14.0  # in a column below this width, in line heights, lines are not wrapped text
_COLUMN_GAP = 1.0  # least white space between two columns of a table, in line heights
_TABLE_GAP = 2.0  # white space between two tables, in line heights


@dataclass(frozen=True)
class Word:
    """One word and its box."""

    text: str
    box: Box


@dataclass(frozen=True)
class Line:
    """One line of text as Tesseract found it; `height` is that of its font, in pixels.

    `block` numbers the layout blocks in reading order, and `in_table` says that the block is
    one of Tesseract's tables.
    """

    words: tuple[Word, ...]
    height: float
    block: int
    in_table: bool = False

    @property
    def text(self) -> str:
        """The line's words, a space between."""
        return " ".join(word.text for word in self.words)

    @property
    def left(self) -> int:
        """Left edge in pixels."""
        return self.words[0].box[0]

    @property
    def right(self) -> int:
        """Right edge in pixels."""
        return max(word.box[2] for word in self.words)

    @property
    def top(self) -> int:
        """Upper edge in pixels."""
        return min(word.box[1] for word in self.words)

    @property
    def bottom(self) -> int:
        """Lower edge in pixels."""
        return max(word.box[3] for word in self.words)


@dataclass(frozen=True)
class Paragraph:
    """Lines that read as one: running text, a list item, or a heading of level 1 or 2."""

    lines: tuple[Line, ...]
    item: bool = False
    heading: int = 0


@dataclass(frozen=True)
class Table:
    """Rows of cell texts; every row has the same number of cells."""

    rows: tuple[tuple[str, ...], ...]


def structure(lines: Sequence[Line]) -> tuple[Paragraph | Table, ...]:
    """Group a page's lines, in reading order, to paragraphs and tables."""
    bullets = _bullets(lines)
    parts: list[Paragraph | Table] = []
    for run in _runs(lines):
        table = _table(run) if run[0].in_table else None
        if table is not None:
            parts.append(table)
            continue
        parts += [
            Paragraph(tuple(group), item=id(group[0]) in bullets)
            for group in _paragraphs(run, bullets)
        ]
    return tuple(_with_headings(parts))


def _runs(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Split at the borders of tables; text runs go across blocks, since blocks split lists."""
    run: list[Line] = []
    for line in lines:
        if run and (
            line.in_table != run[-1].in_table
            or (line.in_table and line.block != run[-1].block)
            # Tesseract takes tables that follow each other for one.
            or (line.in_table and line.top - run[-1].bottom > _TABLE_GAP * line.height)
        ):
            yield run
            run = []
        run.append(line)
    if run:
        yield run


def _bullets(lines: Sequence[Line]) -> set[int]:
    """Return the ids of the lines that begin with a bullet."""

    def starting(marks: frozenset[str]) -> list[Line]:
        return [line for line in lines if len(line.words) > 1 and line.words[0].text in marks]

    def beside(line: Line, others: Sequence[Line]) -> bool:
        limit = _BULLET_ALIGNMENT * line.height
        return any(abs(line.left - other.left) <= limit for other in others if other is not line)

    bullets = starting(_BULLETS)
    signs = starting(_SIGNS)
    bullets += [line for line in signs if beside(line, [*bullets, *signs])]
    bullets += [line for line in starting(_LETTERS) if beside(line, bullets)]
    return {id(line) for line in bullets}


def _paragraphs(run: Sequence[Line], bullets: set[int]) -> Iterator[list[Line]]:
    for segment in _segments(run):
        # The widest line of several is often an outlier, hung punctuation for one.
        rights = sorted(line.right for line in segment)
        edge = rights[-2] if len(rights) > 3 else rights[-1]  # noqa: PLR2004
        narrow = edge - segment[0].left < _NARROW * segment[0].height
        group = [segment[0]]
        for above, line in pairwise(segment):
            if (
                _starts(line, bullets)
                or (narrow and id(group[0]) not in bullets)
                or not _continues(group, above, line, bullets, edge)
            ):
                yield group
                group = []
            group.append(line)
        yield group


def _starts(line: Line, bullets: set[int]) -> bool:
    return id(line) in bullets or _NUMBERED.match(line.text) is not None


def _segments(run: Sequence[Line]) -> Iterator[list[Line]]:
    """Split where the font size changes, at white space and at the top of a column."""
    segment = [run[0]]
    for above, line in pairwise(run):
        height = min(above.height, line.height)
        if (
            max(above.height, line.height) > _HEADING * height
            or above.top >= line.top
            or line.top - above.bottom > _PARAGRAPH_GAP * height
            or line.left >= above.right
            or above.left >= line.right
        ):
            yield segment
            segment = []
        segment.append(line)
    yield segment


def _continues(
    group: Sequence[Line], above: Line, line: Line, bullets: set[int], edge: int
) -> bool:
    """Tell whether `line` goes on where the line above it was wrapped."""
    indent = line.left - group[0].left
    if id(group[0]) in bullets and indent > _HANGING * line.height:
        return True
    if line.left - above.left > _INDENT * line.height:
        return False
    # Had the next word fitted on the line above, the break was meant.
    next_word = line.words[0].box[2] - line.words[0].box[0]
    return above.right + next_word + _SPACE * line.height > edge


def _with_headings(parts: Sequence[Paragraph | Table]) -> Iterator[Paragraph | Table]:
    heights = [line.height for part in parts if isinstance(part, Paragraph) for line in part.lines]
    body = median(heights) if heights else 0.0
    heading: Paragraph | None = None
    for part, below in zip(parts, [*parts, None][1:], strict=True):
        level = 0
        if isinstance(part, Paragraph) and not part.item:
            level = _heading_level(part, below, body)
            part = Paragraph(part.lines, heading=level)  # noqa: PLW2901
            if heading and level == heading.heading and _close(heading.lines[-1], part.lines[0]):
                heading = Paragraph((*heading.lines, *part.lines), heading=level)
                continue
        if heading:
            yield heading
        heading = part if level and isinstance(part, Paragraph) else None
        if not heading:
            yield part
    if heading:
        yield heading


def _close(above: Line, line: Line) -> bool:
    return 0 <= line.top - above.bottom + line.height <= (1 + _PARAGRAPH_GAP) * line.height


def _heading_level(part: Paragraph, below: Paragraph | Table | None, body: float) -> int:
    text = " ".join(line.text for line in part.lines)
    if len(text) > _HEADING_CHARACTERS or len(part.lines) > 3 or text[-1] in ".,;:!?":  # noqa: PLR2004
        return 0
    if not any(character.isalpha() for character in text):
        return 0
    height = median(line.height for line in part.lines)
    if height >= _TITLE * body:
        return 1
    smaller = isinstance(below, Paragraph) and height >= _HEADING * below.lines[0].height
    return 2 if smaller and height >= _HEADING * body else 0


def _table(run: Sequence[Line]) -> Table | None:
    """Cut the lines of one table block into cells at the gaps that all of them share."""
    gap = _COLUMN_GAP * median(line.height for line in run)
    spans: list[list[int]] = []
    for left, right in sorted((word.box[0], word.box[2]) for line in run for word in line.words):
        if spans and left - spans[-1][1] < gap:
            spans[-1][1] = max(spans[-1][1], right)
        else:
            spans.append([left, right])
    if len(spans) < 2 or len(run) < 2:  # noqa: PLR2004
        return None
    return Table(
        tuple(
            tuple(
                " ".join(word.text for word in line.words if left <= word.box[0] <= right)
                for left, right in spans
            )
            for line in run
        )
    )
