"""Letters, and the letterhead that they share with invoices."""

from cloister.corpus.canvas import Align, Face
from cloister.corpus.content import Content
from cloister.corpus.prose import LETTER, OPENINGS, TOPICS
from cloister.corpus.sheet import Sheet

_SIZES = {"Times": 11.5, "Helvetica": 10.5, "Courier": 10.5}


def letterhead(sheet: Sheet, content: Content, company: str, face: Face) -> None:
    """Set the sender at the top of a page, in one of three layouts."""
    layout = content.rng.choice(("mark", "centred", "right"))
    span = sheet.full
    if layout == "mark":
        sheet.canvas.disc(span.left, sheet.y, 14, grey=165)
        sheet.canvas.disc(span.left + 4, sheet.y + 4, 10, grey=70)
        span = span.inset(19)
    aligns: dict[str, Align] = {"mark": "L", "centred": "C", "right": "R"}
    sheet.lines([company], face.variant("B", 1.7), span, aligns[layout])
    contact = [", ".join(content.address()), f"Telephone {content.phone()}"]
    sheet.lines(contact, face.variant("", 0.82, ink=50), span, aligns[layout])
    sheet.canvas.rule(sheet.full, sheet.y + 2, content.rng.choice((0.2, 0.5, 0.9)))
    sheet.y += 10


def letter(content: Content, pages: int) -> tuple[Sheet, dict[str, str]]:
    """Set a business letter; it ends somewhere on the last of its `pages`."""
    rng = content.rng
    family = rng.choice(("Times", "Times", "Helvetica", "Courier"))
    face = Face(family, _SIZES[family])
    sheet = Sheet(content.region.paper, 24, f"Page {{page}} of {pages}" if pages > 1 else "")
    fields = {
        "sender": content.company(),
        "recipient": content.person(),
        "date": content.written(content.day()),
        "reference": content.code("??/%###-##"),
        "signatory": content.person(),
    }
    letterhead(sheet, content, fields["sender"], face)
    _opening(sheet, content, face, fields)
    listed = rng.random() < 0.5  # noqa: PLR2004
    closing = 7 * face.line_mm + rng.uniform(0, 25)
    while True:
        text = content.paragraph(LETTER, 2, 4)
        needed = sheet.height(text, face) + closing + (5 * face.line_mm if listed else 0)
        if sheet.page == pages and needed > sheet.room:
            break
        sheet.paragraph(text, face, justify=family == "Times")
        sheet.y += face.line_mm * 0.6
        if listed:
            sheet.paragraph("These matters remain to be settled between us:", face)
            for topic in rng.sample(TOPICS, 3):
                sheet.paragraph(topic, face, item=True)
            sheet.y += face.line_mm * 0.6
            listed = False
    _closing(sheet, content, face, fields["signatory"])
    return sheet, fields


def _opening(sheet: Sheet, content: Content, face: Face, fields: dict[str, str]) -> None:
    about = [f"Our reference: {fields['reference']}", fields["date"]]
    sheet.lines(about, face, sheet.full, content.rng.choice(("L", "R")))
    sheet.y += face.line_mm
    sheet.lines([fields["recipient"], *content.address()], face, sheet.full)
    sheet.y += 2 * face.line_mm
    sheet.paragraph(f"Re: {content.rng.choice(TOPICS)}", face.variant())
    sheet.y += face.line_mm
    for text in (f"Dear {fields['recipient']},", content.sentence(OPENINGS)):
        sheet.paragraph(text, face)
        sheet.y += face.line_mm * 0.6


def _closing(sheet: Sheet, content: Content, face: Face, signatory: str) -> None:
    sheet.y += face.line_mm * 0.4
    sheet.paragraph(content.rng.choice(("Yours sincerely,", "With kind regards,")), face)
    sheet.y += 3 * face.line_mm
    sheet.lines([signatory, content.job()], face, sheet.full)
