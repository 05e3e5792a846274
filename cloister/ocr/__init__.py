"""The OCR client: documents in, Markdown out, every page accounted for."""

from cloister.ocr.client import Client, PageResult
from cloister.ocr.documents import Document, Page, Unreadable, count, find, pages
from cloister.ocr.output import DocumentResult, by_document

__all__ = [
    "Client",
    "Document",
    "DocumentResult",
    "Page",
    "PageResult",
    "Unreadable",
    "by_document",
    "count",
    "find",
    "pages",
]
