"""Running headers and footers: the lines that come back at the edges of page after page."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rapidfuzz import fuzz, process
from rapidfuzz.distance import Levenshtein

from cloister.output.blocks import is_margin, uncut_lines
from cloister.output.pages import PageText
from cloister.scoring import normalise

_MIN_PAGES = 3
_MIN_SHARE = 0.4  # of all pages, or of the left or right ones
_DEPTH = 3  # lines from the top, lines from the bottom
_SHORT = 6  # lines: of fewer, what counts may be the page's own matter, such as `Answer 3`
_MAX_LENGTH = 160  # characters: longer ones are paragraphs
# What a line differs by from page to page when it is misread: a letter or two, and one in ten.
_SIMILAR, _MOST_EDITS = 90.0, 2
# Lines that others are compared with: those seen most often, so that the time stays linear.
_MAX_SEEDS = 64
# A digit within a word is a misread letter.
_NUMBER = re.compile(r"\b\d+\b")
# What begins something: the title of each of a stack of invoices is alike, too.
_HEADING = re.compile(r"\s*#{1,6}\s")
_PAGE_WORDS = re.compile(r"(?:\W|page|pages|pg|p|of|seite|von|folio)*")


@dataclass(frozen=True)
class _Line:
    page: int  # place in the sequence
    number: int  # the page's
    line: int
    key: str  # its words, with a mark for each number
    numbers: tuple[int, ...]
    is_short: bool  # the page


def running(pages: Sequence[PageText]) -> list[frozenset[int]]:
    """Return for each page the lines, from 0, that are running headers or footers.

    Such a line is among the outermost three of its edge, is no heading, does not belong to a table
    or to code, and is found, give or take a misread letter, on at least three pages and 40 % of
    all, of the left or of the right ones. Its numbers are everywhere the same or count the pages;
    on pages of a few lines only words for pages may stand beside such a count. A page that
    consists of such lines only keeps them.
    """
    texts = [page.text or "" for page in pages]
    read = [page.number for page, text in zip(pages, texts, strict=True) if text.strip()]
    found: list[set[int]] = [set() for _ in pages]
    if len(read) < _MIN_PAGES:
        return [frozenset() for _ in pages]
    edges = [_edges(place, page) for place, page in enumerate(pages)]
    for edge in range(2):
        for cluster in _clusters([line for both in edges for line in both[edge]]):
            if _is_running(cluster, read):
                for line in cluster:
                    found[line.page].add(line.line)
    return [_kept_page(text, lines) for text, lines in zip(texts, found, strict=True)]


def without(text: str, lines: frozenset[int]) -> str:
    """Return a page without these lines, and without the blank lines that they leave."""
    kept: list[str] = []
    gap = False
    for number, line in enumerate(text.split("\n")):
        if number in lines:
            gap = not kept or not kept[-1].strip()
        elif line.strip() or not gap:
            kept.append(line)
            gap = False
    return "\n".join(kept).strip("\r\n") if lines else text


def _edges(place: int, page: PageText) -> tuple[list[_Line], list[_Line]]:
    lines = (page.text or "").split("\n")
    uncut = uncut_lines(page.text or "")
    is_short = sum(bool(line.strip()) for line in lines) < _SHORT

    def outermost(numbers: Iterable[int]) -> list[_Line]:
        found: list[_Line] = []
        for number in numbers:
            if number in uncut or len(found) == _DEPTH:
                break
            if not is_margin(lines[number]):
                found.append(_line(place, page.number, number, lines[number], is_short=is_short))
        return [
            line
            for line in found
            if line.key and len(line.key) <= _MAX_LENGTH and not _HEADING.match(lines[line.line])
        ]

    return outermost(range(len(lines))), outermost(reversed(range(len(lines))))


def _line(place: int, page: int, number: int, text: str, *, is_short: bool) -> _Line:
    # No running line is as long: a paragraph of a page is not worth its normalisation.
    words = normalise(text[: 4 * _MAX_LENGTH]).casefold()
    numbers = tuple(int(digits[-9:]) for digits in _NUMBER.findall(words))
    return _Line(place, page, number, _NUMBER.sub("#", words), numbers, is_short)


def _clusters(lines: Sequence[_Line]) -> Iterable[list[_Line]]:
    """Group lines that say the same, by the most frequent wording of each group."""
    counts = Counter(line.key for line in lines)
    seeds: list[str] = []
    for key, _ in counts.most_common(_MAX_SEEDS):
        if _alike(key, seeds) is None:
            seeds.append(key)
    seed_of = {}
    for key in counts:
        if (seed := _alike(key, seeds)) is not None:
            seed_of[key] = seed
    groups: defaultdict[str, dict[int, _Line]] = defaultdict(dict)
    for line in lines:
        if line.key in seed_of:
            groups[seed_of[line.key]].setdefault(line.page, line)
    return [list(group.values()) for group in groups.values()]


def _alike(key: str, seeds: Sequence[str]) -> str | None:
    best = process.extractOne(key, seeds, scorer=fuzz.ratio, score_cutoff=_SIMILAR)
    if best is None or Levenshtein.distance(key, best[0], score_cutoff=_MOST_EDITS) > _MOST_EDITS:
        return None
    return best[0]


def _is_running(cluster: Sequence[_Line], read: Sequence[int]) -> bool:
    if len(cluster) < _MIN_PAGES or not _counts_pages(cluster):
        return False
    counts = len({line.numbers for line in cluster}) > 1
    if counts and any(line.is_short and not _PAGE_WORDS.fullmatch(line.key) for line in cluster):
        return False
    if len(cluster) >= _MIN_SHARE * len(read):
        return True
    for parity in range(2):
        on = sum(line.number % 2 == parity for line in cluster)
        if on >= max(_MIN_PAGES, _MIN_SHARE * sum(number % 2 == parity for number in read)):
            return True
    return False


def _counts_pages(cluster: Sequence[_Line]) -> bool:
    """Tell whether the numbers mostly stay, or one grows with the pages; totals do neither."""
    steady = sum(
        first.numbers == second.numbers
        or any(
            b - a == second.number - first.number
            for a, b in zip(first.numbers, second.numbers, strict=False)
        )
        for first, second in pairwise(cluster)
    )
    # Half: in a batch of two-page letters, every other step goes from page 2 to page 1.
    return 2 * steady >= len(cluster) - 1


def _kept_page(text: str, lines: set[int]) -> frozenset[int]:
    rest = (line for number, line in enumerate(text.split("\n")) if number not in lines)
    return frozenset() if all(is_margin(line) for line in rest) else frozenset(lines)
