"""What holds for all pages of a run."""

from dataclasses import dataclass

from cloister.ocr.asking import Question
from cloister.rendering import Drawing


@dataclass(frozen=True)
class Rules:
    """How pages are read; `recipe` is their number in the ledger.

    `falls_back` tells that a page's own text does where the model's does not.
    """

    drawing: Drawing
    question: Question
    recipe: int
    temperature: float
    attempts: int
    samples: bool
    falls_back: bool
