"""A sealed document-OCR service: page images in, Markdown out, nothing else leaves."""

VERSION = "0.1.0"
