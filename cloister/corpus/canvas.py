"""Ink on PDF pages: single lines of text, rules, boxes; the one door to fpdf2."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from fpdf import FPDF

Align = Literal["L", "C", "R", "J"]

RULE_MM = 0.2
_MM_PER_POINT = 25.4 / 72
_LEADING = 1.28
_BIRTHDAY = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Face:
    """A core font: family, size in points, style (of `B` and `I`), grey level."""

    family: str
    size: float
    style: str = ""
    ink: int = 0

    def variant(self, style: str = "B", scale: float = 1.0, ink: int = 0) -> "Face":
        """Return this face in another style, size and grey level."""
        return replace(self, style=style, size=self.size * scale, ink=ink)

    @property
    def line_mm(self) -> float:
        """The distance from one baseline to the next in mm."""
        return self.size * _LEADING * _MM_PER_POINT

    @property
    def baseline_mm(self) -> float:
        """The distance from the top of a line to its baseline in mm."""
        return self.line_mm / 2 + self.size * _MM_PER_POINT * 0.34


@dataclass(frozen=True)
class Span:
    """A horizontal stretch of the page: left edge and width in mm."""

    left: float
    width: float

    def part(self, start: float, end: float) -> "Span":
        """Return the stretch between two fractions of this one, 0 its left and 1 its right edge."""
        return Span(self.left + start * self.width, (end - start) * self.width)

    def inset(self, left: float, right: float = 0.0) -> "Span":
        """Return this stretch without `left` and `right` mm at its ends."""
        return Span(self.left + left, self.width - left - right)


class Canvas:
    """Pages of one size in mm; `y` is the top of what is drawn, grey levels go from 0, black."""

    def __init__(self, paper: tuple[float, float]) -> None:
        self._pdf = FPDF(unit="mm", format=paper)
        self._pdf.set_auto_page_break(auto=False)
        # Compressed streams differ between builds of zlib; plain ones are the same everywhere.
        self._pdf.set_compression(compress=False)
        self._pdf.set_creation_date(_BIRTHDAY)
        self._pdf.set_producer("Cloister corpus")

    def add_page(self) -> None:
        """Go on to a new page."""
        self._pdf.add_page()

    def pdf(self) -> bytes:
        """Return the finished file."""
        return bytes(self._pdf.output())

    def measure(self, text: str, face: Face) -> float:
        """Return the width of `text` in mm."""
        self._pdf.set_font(face.family, face.style, face.size)
        return float(self._pdf.get_string_width(text))

    def text(self, text: str, face: Face, span: Span, y: float, align: Align = "L") -> None:
        """Draw one line: flush left, centred, flush right or, with `J`, from edge to edge."""
        words = text.split() if align == "J" else [text]
        widths = [self.measure(word, face) for word in words]
        free = span.width - sum(widths)
        gap = free / (len(words) - 1) if len(words) > 1 else 0.0
        x = span.left + {"C": free / 2, "R": free}.get(align, 0.0)
        self._pdf.set_text_color(face.ink)
        for word, width in zip(words, widths, strict=True):
            self._pdf.text(x, y + face.baseline_mm, word)
            x += width + gap

    def rule(self, span: Span, y: float, thickness: float = RULE_MM, grey: int = 60) -> None:
        """Draw a horizontal line."""
        self.path([(span.left, y), (span.left + span.width, y)], thickness, grey)

    def path(self, points: list[tuple[float, float]], thickness: float, grey: int = 60) -> None:
        """Draw straight lines from point to point."""
        self._pdf.set_draw_color(grey)
        self._pdf.set_line_width(thickness)
        self._pdf.polyline(points)

    def frame(self, span: Span, y: float, height: float) -> None:
        """Draw the outline of a box."""
        self._pdf.set_draw_color(60)
        self._pdf.set_line_width(RULE_MM)
        self._pdf.rect(span.left, y, span.width, height)

    def shade(self, span: Span, y: float, height: float, grey: int) -> None:
        """Fill a box."""
        self._pdf.set_fill_color(grey)
        self._pdf.rect(span.left, y, span.width, height, style="F")

    def disc(self, x: float, y: float, diameter: float, grey: int = 0) -> None:
        """Fill a circle whose box has its upper left corner at `x` and `y`."""
        self._pdf.set_fill_color(grey)
        self._pdf.ellipse(x, y, diameter, diameter, style="F")
