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
    yield f"# {_escaped(content.headline(report))}"
    yield ""
    if lead := content.lead(report):
        yield _escaped(lead)
        yield ""
    yield _escaped(content.subject(report))
    yield ""
    for warning in content.warnings(report):
        yield f"- **Warning:** {_escaped(warning)}"
    yield f"- Limit: {_escaped(report.verdict.limit)}, because:"
    yield from (f"  - {_escaped(plain(reason))}" for reason in report.verdict.evidence)
    yield ""
    figures = content.key_figures(report)
    if figures:
        columns = ("key figure", "value", "")
        rows = tuple((one.label, f"{one.value} {one.unit}".strip(), one.beside) for one in figures)
        yield from _table(Table(columns, rows))
    for section in sections(report):
        yield from _section(section)


def _section(section: Section) -> Iterator[str]:
    yield f"## {section.title}"
    yield ""
    for sentence in section.says:
        yield _escaped(sentence)
        yield ""
    if section.command:
        yield f"    {section.command}"
        yield ""
    for table in section.tables:
        if table.title:
            yield f"**{table.title}**"
            yield ""
        yield from _table(table)


def _table(table: Table) -> Iterator[str]:
    """Yield a table whose columns also stand below each other as plain text.

    Sentences do not fit into columns: their rows become points of a list.
    """
    lines = [table.columns, *table.rows]
    cells = [[_escaped(cell) for cell in line] for line in lines]
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


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\1", text)
