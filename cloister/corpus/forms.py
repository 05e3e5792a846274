"""Forms filled in by typewriter, with check boxes, and the page that nobody filled."""

from collections.abc import Mapping, Sequence

from cloister.corpus.canvas import Face, Span
from cloister.corpus.content import Content
from cloister.corpus.sheet import Sheet

_PRINT = Face("Helvetica", 10)
_BOX_MM = 3.4
_STATEMENTS = (
    "I have read the conditions printed overleaf.",
    "I agree to be contacted by telephone.",
    "Copies of all certificates are enclosed.",
    "I have made an application before.",
    "The information given above is complete and correct.",
    "Please send me a receipt.",
)
# The title of a form, and one question of its own with the answers to choose from.
_MATTERS = (
    ("Application for a parking permit", "Vehicle", ("Car", "Motorcycle", "Van", "Trailer")),
    ("Library membership form", "Category", ("Adult", "Student", "Senior", "Child")),
    ("Patient registration", "Insurance", ("Public", "Private", "None")),
    ("Notice of change of address", "Effective", ("At once", "Next month", "Temporarily")),
    ("Claim for travel expenses", "Means of transport", ("Rail", "Bus", "Own car", "Air")),
)


class _Blanks:
    """The blanks of one form: labelled fields in rows, and check boxes."""

    def __init__(self, sheet: Sheet, content: Content) -> None:
        rng = content.rng
        self._sheet, self._canvas = sheet, sheet.canvas
        self._typed = Face("Courier", 10.5, rng.choice(("", "B")))
        self._boxed, self._crossed = rng.choice((True, False)), rng.choice((True, False))
        self._row_mm = rng.choice((8.0, 9.5))

    def section(self, title: str) -> None:
        """Set the title of a section on a grey band."""
        self._sheet.y += 4
        self._canvas.shade(self._sheet.full, self._sheet.y, 7, grey=222)
        self._sheet.y += 1
        self._sheet.heading(title, _PRINT.variant("B", 1.1), level=2)
        self._sheet.y += 3.5

    def fields(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Set labels and values; those of one row stand side by side."""
        for row in rows:
            for i, (label, value) in enumerate(row.items()):
                span = self._sheet.full.part(i / len(row), (i + 1) / len(row))
                gap = 0 if self._boxed or i + 1 == len(row) else 5
                self._field(f"{label}:", value, span.inset(0, gap))
            self._sheet.y += self._row_mm
        self._sheet.note("\n".join(f"{label}: {row[label]}" for row in rows for label in row))

    def choice(self, label: str, answers: Sequence[str], chosen: str) -> None:
        """Set a question, and a check box for each of its answers, on one line."""
        self._sheet.y += 2
        left, step = 46.0, (self._sheet.full.width - 46) / len(answers)
        self._canvas.text(f"{label}:", _PRINT, self._sheet.full, self._sheet.y)
        for i, answer in enumerate(answers):
            self._box(self._sheet.full.inset(left + i * step), answer, ticked=answer == chosen)
        marked = (f"{_mark(ticked=answer == chosen)} {answer}" for answer in answers)
        self._sheet.note(" ".join((f"{label}:", *marked)))
        self._sheet.y += self._row_mm

    def statements(self, statements: Mapping[str, bool]) -> None:
        """Set a check box and a sentence on each line."""
        for text, ticked in statements.items():
            self._box(self._sheet.full, text, ticked=ticked)
            self._sheet.y += self._row_mm * 0.8
        lines = (f"{_mark(ticked=ticked)} {text}" for text, ticked in statements.items())
        self._sheet.note("\n".join(lines))

    def _field(self, label: str, value: str, span: Span) -> None:
        inner = span.inset(2, 2) if self._boxed else span
        blank = inner.inset(self._canvas.measure(label, _PRINT) + 2)
        top = self._sheet.y
        if self._boxed:
            self._canvas.frame(span, top, self._row_mm)
        else:
            self._canvas.rule(blank, top + self._row_mm - 1.5)
        y = top + (self._row_mm - _PRINT.line_mm) / 2
        self._canvas.text(label, _PRINT, inner, y)
        self._canvas.text(value, self._typed, blank.inset(1), y)

    def _box(self, span: Span, text: str, *, ticked: bool) -> None:
        x, y, size = span.left, self._sheet.y + (_PRINT.line_mm - _BOX_MM) / 2, _BOX_MM
        self._canvas.frame(Span(x, size), y, size)
        if ticked and self._crossed:
            self._canvas.path([(x, y), (x + size, y + size)], 0.5, grey=0)
            self._canvas.path([(x + size, y), (x, y + size)], 0.5, grey=0)
        elif ticked:
            corner = (x + size * 0.4, y + size * 0.85)
            self._canvas.path([(x + 0.6, y + size / 2), corner, (x + size, y)], 0.6, grey=0)
        self._canvas.text(text, _PRINT, span.inset(size + 2), self._sheet.y)


def _mark(*, ticked: bool) -> str:
    return "\u2611" if ticked else "\u2610"


def form(content: Content, _pages: int) -> tuple[Sheet, dict[str, str]]:
    """Set a form with personal details, a choice and declarations."""
    rng = content.rng
    title, question, answers = rng.choice(_MATTERS)
    sheet = Sheet(content.region.paper, 18)
    number, name, signed = content.code("Form ??-%##"), content.person(), content.day()
    first, last = name.split(" ", 1)
    rows = [
        {"Surname": last, "First name": first},
        {"Date of birth": content.written(content.day(1938, 1990)), "Telephone": content.phone()},
        {"Address": ", ".join(content.address())},
        {"Email": content.email(name)},
        {"Occupation": content.job()},
    ]
    sheet.lines([number], _PRINT.variant("", 0.9), sheet.full, "R")
    sheet.heading(title, _PRINT.variant("B", 1.8), align=rng.choice(("L", "C")))
    sheet.y += 2
    sheet.paragraph("Please complete in block letters or by typewriter.", _PRINT.variant("I"))
    blanks = _Blanks(sheet, content)
    blanks.section("1. Personal details")
    blanks.fields(rows)
    blanks.choice("Title", ("Mr", "Ms", "Dr", "Other"), rng.choice(("Mr", "Ms", "Dr")))
    blanks.section("2. Request")
    blanks.fields([{"Reference": content.code("%###-####"), "Since": str(rng.randint(1980, 2020))}])
    blanks.choice(question, answers, rng.choice(answers))
    blanks.section("3. Declarations")
    said = rng.sample(_STATEMENTS, rng.randint(3, len(_STATEMENTS)))
    blanks.statements({text: rng.random() < 0.6 for text in said})  # noqa: PLR2004
    blanks.section("4. Signature")
    blanks.fields([{"Place": content.town(), "Date": content.written(signed)}])
    facts = {label: row[label] for row in rows for label in row}
    return sheet, {"form": number, **facts, "signed": content.written(signed)}


def blank(content: Content, _pages: int) -> tuple[Sheet, dict[str, str]]:
    """Leave the page empty."""
    return Sheet(content.region.paper), {}
