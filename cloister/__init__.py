"""A sealed document-OCR service: page images in, Markdown out, nothing else leaves."""
