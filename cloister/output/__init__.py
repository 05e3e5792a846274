"""The texts of one document's pages, as one document: Markdown, JSON Lines, HTML or plain text."""

from cloister.output.composing import SUFFIX, body, compose
from cloister.output.pages import Format, PageText, Source, Style

__all__ = ["SUFFIX", "Format", "PageText", "Source", "Style", "body", "compose"]
