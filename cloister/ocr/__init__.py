"""The OCR client: documents in, Markdown out, every page accounted for."""
