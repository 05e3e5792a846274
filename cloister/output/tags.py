"""The tags that Nanonets-OCR2 puts into a page: page numbers, watermarks, images, signatures.

`strip` leaves what the document says. Page numbers and watermarks go, with the line that they
stood on: between two paragraphs they are noise. The words of images and signatures stay, without
the tags: they are the printed caption or the signer's name, and where the model described an
image in its own words, nothing tells these from a caption. Check boxes are text and stay.

`map` leaves everything, as Markdown that any viewer shows: `*[page 14]*`, `*[watermark: COPY]*`,
`*[image: a bridge]*`, `*[signature: J. Doe]*`, `[ ]` and `[x]`.

Neither looks into code. A tag without its counterpart, as on a page that was cut off, goes alone:
the text behind it stays.
"""

import html
import re
from collections.abc import Callable

from cloister.output.blocks import CODE_SPAN, FENCE, HTML_TABLE, TAG, TAGS
from cloister.output.pages import folded

_FLAGS = re.DOTALL | re.MULTILINE
_TABLE_OR_CODE = re.compile(
    rf"(?P<code>{FENCE}|{CODE_SPAN})|(?P<table>{HTML_TABLE})", _FLAGS | re.IGNORECASE
)
_PIECE = re.compile(
    rf"(?P<code>{FENCE}|{CODE_SPAN})|{TAG}|(?P<lone></?(?:{TAGS})>)|(?P<box>[\u2610-\u2612])",
    _FLAGS,
)
_LABELS = {"page_number": "page", "watermark": "watermark:", "img": "image:"}
# Stands for what was taken out, until the line it leaves is known to be empty or not.
_GONE = "\0"
_GONE_LINE = re.compile(rf"^[ \t]*{_GONE}[{_GONE} \t]*$\n?(?:[ \t]*\n)?", re.MULTILINE)
_GONE_WORD = re.compile(rf"[ \t]{_GONE}(?=\s|\Z)")

_Rewrite = Callable[["re.Match[str]"], str]


def strip(text: str) -> str:
    """Return a page without tags, page numbers and watermarks."""
    marked = _rewrite(text.replace(_GONE, ""), _stripped, _stripped)
    if _GONE not in marked:
        return marked
    marked = _GONE_LINE.sub("", marked)
    return _GONE_WORD.sub("", marked).replace(_GONE, "").strip("\n")


def to_markdown(text: str) -> str:
    """Return a page with its tags as plain Markdown, in HTML tables as HTML."""
    return _rewrite(text, _mapped, lambda piece: _mapped(piece, "<em>", "</em>"))


def to_spans(text: str) -> str:
    """Return a page with its tags as HTML spans of these classes."""
    return _rewrite(text, _span, _span)


def _rewrite(text: str, outside: _Rewrite, in_table: _Rewrite) -> str:
    done, at = [], 0
    for block in _TABLE_OR_CODE.finditer(text):
        if block["table"] is not None:
            done.append(_PIECE.sub(outside, text[at : block.start()]))
            done.append(_PIECE.sub(in_table, block[0]))
            at = block.end()
    return "".join([*done, _PIECE.sub(outside, text[at:])])


def _stripped(piece: re.Match[str]) -> str:
    if piece["code"] is not None or piece["box"] is not None:
        return piece[0]
    if piece["tag"] in {"img", "signature"}:
        return piece["words"].strip() or _GONE
    return _GONE


def _mapped(piece: re.Match[str], start: str = "*", end: str = "*") -> str:
    if piece["code"] is not None:
        return piece[0]
    if piece["lone"] is not None:
        return ""
    if piece["box"] is not None:
        mark = "[ ]" if piece["box"] == "\u2610" else "[x]"
        # Right before one of these it would be a link, or the definition of one.
        return mark + " " * (piece.string[piece.end() :][:1] in {"(", "[", ":"})
    label = _LABELS.get(piece["tag"], "signature:")
    words = folded(piece["words"])
    return f"{start}[{label} {words}]{end}" if words else f"{start}[{label.rstrip(':')}]{end}"


def _span(piece: re.Match[str]) -> str:
    if piece["tag"] is None:
        return piece[0]
    return f'<span class="{html.escape(piece["tag"])}">{folded(piece["words"])}</span>'
