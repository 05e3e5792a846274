"""How well a text was read, against the truth: pure functions of two texts.

Scores compare normalised text (see `normalise`) unless they say otherwise.
"""

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser

from rapidfuzz.distance import Levenshtein

_TAG = re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>]*>", re.DOTALL)
_LINE_MARK = re.compile(r"^[ \t]*(?:#{1,6}|>|[-+*\u2022\u00b7])[ \t]+", re.MULTILINE)
_TABLE_RULE = re.compile(r"^[ \t]*\|(?:[ \t]*:?-+:?[ \t]*\|)+[ \t]*$", re.MULTILINE)
_TABLE_ROW = re.compile(r"^[ \t]*\|.*\|[ \t]*$", re.MULTILINE)
_EMPHASIS = re.compile(r"(?<!\w)(\*{1,3}|_{1,3})(?=\S)(.+?)(?<=\S)\1(?!\w)")
_PLAIN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
        "\u00ad": None,
    }
)


def normalise(markdown: str) -> str:
    """Return the words of a page on one line, without its markup.

    In this order: HTML tags and comments become spaces; the marks of headings, quotes and bullet
    lists at the start of a line, the pipes and rules of Markdown tables, and paired emphasis marks
    go; character references are resolved; NFKC; curly quotes and primes become straight, every
    dash a hyphen, soft hyphens go; white space folds to single spaces. Case and numbers stay.
    """
    text = _TAG.sub(" ", markdown)
    text = _TABLE_RULE.sub("", text)
    text = _TABLE_ROW.sub(lambda row: row[0].replace("|", " "), text)
    text = _EMPHASIS.sub(r"\2", _LINE_MARK.sub("", text))
    text = unicodedata.normalize("NFKC", html.unescape(text)).translate(_PLAIN)
    return _fold(text)


def cer(truth: str, text: str) -> float:
    """Return the character error rate: Levenshtein(truth, text) / len(truth), normalised texts.

    0.0 is perfect; more than 1.0 means that more was invented than there was to read. Where there
    was nothing to read, 0.0 for nothing and 1.0 for anything, so that one blank page cannot
    outweigh all others in a mean.
    """
    return _error_rate(normalise(truth), normalise(text))


def raw_cer(truth: str, text: str) -> float:
    """Return the character error rate of the Markdown itself: only white space is folded."""
    return _error_rate(_fold(truth), _fold(text))


def field_recall(fields: Mapping[str, str], text: str) -> float:
    """Return the share of the fields whose value occurs in `text` as whole words; 1.0 for none."""
    page = normalise(text)
    values = [re.escape(normalise(value)) for value in fields.values()]
    return _share(sum(bool(re.search(rf"(?<!\w){value}(?!\w)", page)) for value in values), values)


def table_cell_recall(truth: str, text: str) -> float:
    """Return the share of the truth's HTML table cells that the text's tables hold too.

    Cells are compared as a multiset: their place does not count. 1.0 if the truth has no cells.
    """
    wanted, found = Counter(_cells(truth)), Counter(_cells(text))
    return _share((wanted & found).total(), list(wanted.elements()))


class _CellReader(HTMLParser):
    """Collects the text of each `td` and `th`; end tags may be missing, as in a cut-off page."""

    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        if tag in {"td", "th"}:
            self.cells.append("")
        self._open = tag in {"td", "th"} or (self._open and tag not in {"tr", "table"})

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag not in {"td", "th", "tr", "table"}

    def handle_data(self, data: str) -> None:
        if self._open:
            self.cells[-1] += data


def _cells(markdown: str) -> Iterable[str]:
    reader = _CellReader()
    reader.feed(markdown)
    reader.close()
    return (normalise(html.escape(cell)) for cell in reader.cells)


def _error_rate(truth: str, text: str) -> float:
    if not truth:
        return float(bool(text))
    return Levenshtein.distance(truth, text) / len(truth)


def _share(found: int, wanted: list[str]) -> float:
    return found / len(wanted) if wanted else 1.0


def _fold(text: str) -> str:
    return " ".join(text.split())
