"""A report as Markdown, for a terminal or a pull request; pure."""

import re
from collections.abc import Iterator, Sequence

from cloister.loadtest.result import Report
from cloister.report import content
from cloister.report.content import Section, Table
from cloister.report.formats import NONE, plain
from cloister.report.sections import sections

# An underscore inside a word means nothing.
_MARKUP = re.compile(r"([\\`*\[\]<>|~]|(?<![^\W_])_|_(?![^\W_]))")
_WIDEST = 60


def render(report: Report) -> str:
    """Return the report; what others wrote, such as a fault, is never taken for markup."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"# {escaped(content.headline(report))}"
    yield ""
    if lead := content.lead(report):
        yield escaped(lead)
        yield ""
    yield escaped(content.subject(report))
    yield ""
    for warning in content.warnings(report):
        yield f"- **Warning:** {escaped(warning)}"
    yield f"- Limit: {escaped(report.verdict.limit)}, because:"
    yield from (f"  - {escaped(plain(reason))}" for reason in report.verdict.evidence)
    yield ""
    figures = content.key_figures(report)
    if figures:
        columns = ("key figure", "value", "")
        rows = tuple((one.label, f"{one.value} {one.unit}".strip(), one.beside) for one in figures)
        yield from table_lines(Table(columns, rows))
    for section in sections(report):
        yield from section_lines(section)


def section_lines(section: Section) -> Iterator[str]:
    """Yield a section; what is folded on the page stands open."""
    yield f"## {section.title}"
    yield ""
    for sentence in section.says:
        yield escaped(sentence)
        yield ""
    if section.points:
        yield from (f"- {escaped(point)}" for point in section.points)
        yield ""
    if section.command:
        yield f"    {section.command}"
        yield ""
    for table in section.tables:
        if table.title:
            yield f"**{escaped(table.title)}**"
            yield ""
        yield from table_lines(table)


def table_lines(table: Table) -> Iterator[str]:
    """Yield a table whose columns also stand below each other as plain text.

    Sentences do not fit into columns: their rows become points of a list.
    """
    lines = [table.columns, *table.rows]
    cells = [[escaped(cell) for cell in line] for line in lines]
    for line, link in zip(cells[1:], table.links, strict=False):
        line[-1] = f"[{line[-1]}]({link})" if link else line[-1]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*cells, strict=True)]
    if max(widths) > _WIDEST:
        yield from (_point(cells[0], row) for row in cells[1:])
        yield ""
        return
    rules = [
        "-" * (width - 1) + ":" if numeric else "-" * width
        for width, numeric in zip(widths, table.numeric, strict=True)
    ]
    for line in (cells[0], rules, *cells[1:]):
        padded = (
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(line, widths, table.numeric, strict=True)
        )
        yield f"| {' | '.join(padded)} |"
    yield ""


def _point(columns: Sequence[str], row: Sequence[str]) -> str:
    (_, _, *names), (first, second, *rest) = columns, row
    more = (
        f"; {name} {cell}" for name, cell in zip(names, rest, strict=True) if cell not in {"", NONE}
    )
    return f"- **{first}**: {second}{''.join(more)}"


def escaped(text: str) -> str:
    """Return a text in which nothing is markup."""
    return _MARKUP.sub(r"\\\1", text)
