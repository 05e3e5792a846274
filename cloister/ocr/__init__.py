"""The OCR client: documents in, Markdown out, every page accounted for."""

from cloister.ocr.client import AsyncClient, Client
from cloister.ocr.documents import Document, Page, Unreadable, count, find, pages
from cloister.ocr.results import DocumentResult, PageResult, Summary
from cloister.output import Style

__all__ = [
    "AsyncClient",
    "Client",
    "Document",
    "DocumentResult",
    "Page",
    "PageResult",
    "Style",
    "Summary",
    "Unreadable",
    "count",
    "find",
    "pages",
]
