"""Hostile documents to page images: in this process, or in workers with limits."""

from cloister.rendering.drawing import SUFFIXES, Drawing, Drawn, UnreadableError
from cloister.rendering.pool import Renderers
from cloister.rendering.process import Limits
from cloister.rendering.source import blank, count, draw

__all__ = [
    "SUFFIXES",
    "Drawing",
    "Drawn",
    "Limits",
    "Renderers",
    "UnreadableError",
    "blank",
    "count",
    "draw",
]
