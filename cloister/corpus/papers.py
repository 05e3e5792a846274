"""Printed matter: journal articles and statistical tables."""

from itertools import count

from cloister.corpus.canvas import Face
from cloister.corpus.content import Content
from cloister.corpus.prose import HEADINGS, REPORT, TOPICS
from cloister.corpus.sheet import Rules, Sheet

_GUTTER_MM = 7
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def article(content: Content, pages: int) -> tuple[Sheet, dict[str, str]]:
    """Set a journal article in two columns that fills `pages` pages."""
    rng = content.rng
    justify = rng.random() < 0.7  # noqa: PLR2004
    face = Face(rng.choice(("Times", "Times", "Helvetica")), rng.choice((9.5, 10)))
    sheet = Sheet(content.region.paper, 19, rng.choice(("{page}", "Page {page}")))
    topic = rng.choice(TOPICS)
    title = f"On {topic} in {content.town()}"
    authors = [content.person() for _ in range(rng.randint(1, 3))]
    received = content.written(content.day())
    sheet.heading(title, face.variant("B", 1.9), align="C")
    sheet.y += 3
    sheet.lines([", ".join(authors)], face.variant("", 1.15), sheet.full, "C")
    sheet.lines([f"Received {received}"], face.variant("I"), sheet.full, "C")
    sheet.y += 5
    sheet.paragraph(content.paragraph(REPORT, 3, 4), face.variant("I"), justify=justify)
    sheet.y += 5
    sheet.set_columns(2, _GUTTER_MM)
    _sections(sheet, content, face, pages, justify=justify)
    fields = {"title": title, "received": received}
    return sheet, fields | {f"author {i}": name for i, name in enumerate(authors, start=1)}


def _sections(sheet: Sheet, content: Content, face: Face, pages: int, *, justify: bool) -> None:
    for number in count():
        text = content.paragraph(REPORT, 3, 6)
        section, place = divmod(number, 3)
        opens = place == 0 and section < len(HEADINGS)
        # Three lines for the heading, three more that the end of a column may waste.
        needed = sheet.height(text, face, hyphenate=justify) + (6 if opens else 3) * face.line_mm
        if sheet.page == pages and needed > sheet.room:
            return
        if opens:
            sheet.y += face.line_mm * 0.4 if number else 0
            sheet.heading(HEADINGS[section], face.variant("B", 1.15), 2)
            sheet.y += 0.8
        sheet.paragraph(text, face, justify=justify)
        sheet.y += face.line_mm * 0.35


def table(content: Content, _pages: int) -> tuple[Sheet, dict[str, str]]:
    """Set a table of figures, by place and month or year, that takes most of a page."""
    rng = content.rng
    face = Face(rng.choice(("Helvetica", "Times")), 9)
    sheet = Sheet(content.region.paper, 18)
    first = rng.randint(1955, 2008)
    years = [str(first + i) for i in range(rng.randint(6, 8))]
    what, of_place, heads, most, scale = rng.choice(
        (
            (f"Rainfall in millimetres, {first}", "Station", _MONTHS[: len(years) + 1], 1_800, 10),
            ("Cattle sold at weekly markets", "Town", years, 9_000, 1),
            ("Passengers in thousands", "Station", years, 30_000, 10),
        )
    )
    caption = f"Table {rng.randint(1, 19)}. {what}, by {of_place.lower()}"
    places = sorted({content.town() for _ in range(rng.randint(28, 38))})
    values = [[rng.randint(most // 100, most) for _ in heads] for _ in places]
    sums = [sum(column) for column in zip(*values, strict=True)]
    rows = [[of_place, *heads]]
    for place, row in zip([*places, "Total"], [*values, sums], strict=True):
        rows.append([place, *(f"{n / scale:,.{len(str(scale)) - 1}f}" for n in row)])
    sheet.paragraph(caption, face.variant("B", 1.2))
    sheet.y += 3
    rules: tuple[Rules, ...] = ("grid", "lines", "zebra", "open")
    sheet.table(rows, (2.6, *[-1.3] * len(heads)), face, rng.choice(rules))
    sheet.y += 3
    source = f"Source: annual returns, compiled by {content.person()}."
    sheet.paragraph(source, face.variant("I", 0.95))
    fields = {"caption": caption, "first place": places[0], "last total": rows[-1][-1]}
    return sheet, fields
