"""Forms filled in by typewriter, with check boxes, and the page that nobody filled."""

from collections.abc import Callable
from dataclasses import dataclass

from cloister.corpus.canvas import Face, Span
from cloister.corpus.content import Content
from cloister.corpus.sheet import Sheet

_BOX_MM = 3.4
_STATEMENTS = (
    "I have read the conditions printed overleaf.",
    "I agree to be contacted by telephone.",
    "Copies of all certificates are enclosed.",
    "I have made an application before.",
    "The information given above is complete and correct.",
    "Please send me a receipt.",
)


@dataclass(frozen=True)
class _Matter:
    """What a form is for, and one question of its own with the answers to choose from."""

    title: str
    question: str
    answers: tuple[str, ...]


_MATTERS = (
    _Matter(
        "Application for a parking permit", "Vehicle:", ("Car", "Motorcycle", "Van", "Trailer")
    ),
    _Matter("Library membership form", "Category:", ("Adult", "Student", "Senior", "Child")),
    _Matter("Patient registration", "Insurance:", ("Public", "Private", "None")),
    _Matter("Notice of change of address", "Effective:", ("At once", "Next month", "Temporarily")),
    _Matter("Claim for travel expenses", "Means of transport:", ("Rail", "Bus", "Own car", "Air")),
)


def form(content: Content, _pages: int) -> tuple[Sheet, dict[str, str]]:
    """Set a filled-in form with labelled fields and check boxes."""
    rng = content.rng
    ...
