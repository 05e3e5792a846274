"""Running headers and footers: the lines that come back at the edges of page after page."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rapidfuzz import fuzz, process

from cloister.output.blocks import is_margin, uncut_lines
from cloister.output.pages import PageText
from cloister.scoring import normalise

_MIN_PAGES = 3
_MIN_SHARE = 0.4  # of all pages, or of the left or right ones
_DEPTH = 3  # lines from the top, lines from the bottom
_MAX_LENGTH = 160  # characters: longer ones are paragraphs
# One wrong letter in ten: what a line differs by from page to page when it is misread.
_SIMILAR = 90.0
# Lines that others are compared with: those seen most often, so that the time stays linear.
_MAX_SEEDS = 64
# A digit within a word is a misread letter.
_NUMBER = re.compile(r"\b\d+\b")
_HEADING = re.compile(r"\s*(?:#{1,6}\s|(\*\*|__).*\1\s*$)")


@dataclass(frozen=True)
class _Line:
    page: int  # place in the sequence
    number: int  # the page's
    line: int
    key: str  # its words, with a mark for each number
    numbers: tuple[int, ...]
    is_heading: bool


def running(pages: Sequence[PageText]) -> list[frozenset[int]]:
    """Return for each page the lines, from 0, that are running headers or footers.

    Such a line is among the outermost three of its edge, does not belong to a table or to code,
    and is found, give or take a misread letter, on at least three pages and 40 % of all, of the
    left or of the right ones. Its numbers are everywhere the same or count the pages; in a heading
    they are the same. A page that consists of such lines only keeps them.
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

    def outermost(numbers: Iterable[int]) -> list[_Line]:
        found: list[_Line] = []
        for number in numbers:
            if number in uncut or len(found) == _DEPTH:
                break
            if not is_margin(lines[number]):
                found.append(_line(place, page.number, number, lines[number]))
        return [line for line in found if line.key and len(line.key) <= _MAX_LENGTH]

    return outermost(range(len(lines))), outermost(reversed(range(len(lines))))


def _line(place: int, page: int, number: int, text: str) -> _Line:
    # No running line is as long: a paragraph of a page is not worth its normalisation.
    words = normalise(text[: 4 * _MAX_LENGTH]).casefold()
    numbers = tuple(int(digits[-9:]) for digits in _NUMBER.findall(words))
    is_heading = _HEADING.match(text) is not None
    return _Line(place, page, number, _NUMBER.sub("#", words), numbers, is_heading)


def _clusters(lines: Sequence[_Line]) -> Iterable[list[_Line]]:
    """Group lines that say the same, by the most frequent wording of each group."""
    counts = Counter(line.key for line in lines)
    seeds: list[str] = []
    for key, _ in counts.most_common(_MAX_SEEDS):
        if process.extractOne(key, seeds, scorer=fuzz.ratio, score_cutoff=_SIMILAR) is None:
            seeds.append(key)
    seed_of = {}
    for key in counts:
        best = process.extractOne(key, seeds, scorer=fuzz.ratio, score_cutoff=_SIMILAR)
        if best is not None:
            seed_of[key] = best[0]
    groups: defaultdict[str, dict[int, _Line]] = defaultdict(dict)
    for line in lines:
        if line.key in seed_of:
            groups[seed_of[line.key]].setdefault(line.page, line)
    return [list(group.values()) for group in groups.values()]


def _is_running(cluster: Sequence[_Line], read: Sequence[int]) -> bool:
    if len(cluster) < _MIN_PAGES or not _counts_pages(cluster):
        return False
    if len(cluster) >= _MIN_SHARE * len(read):
        return True
    for parity in range(2):
        on = sum(line.number % 2 == parity for line in cluster)
        if on >= max(_MIN_PAGES, _MIN_SHARE * sum(number % 2 == parity for number in read)):
            return True
    return False


def _counts_pages(cluster: Sequence[_Line]) -> bool:
    """Tell whether the numbers mostly stay, or one grows with the pages; totals do neither.

    Those of headings have to stay: they may count questions, one a page.
    """
    steady = sum(
        first.numbers == second.numbers
        or (
            not first.is_heading
            and any(
                b - a == second.number - first.number
                for a, b in zip(first.numbers, second.numbers, strict=False)
            )
        )
        for first, second in pairwise(cluster)
    )
    # Half: in a batch of two-page letters, every other step goes from page 2 to page 1.
    return 2 * steady >= len(cluster) - 1


def _kept_page(text: str, lines: set[int]) -> frozenset[int]:
    rest = (line for number, line in enumerate(text.split("\n")) if number not in lines)
    return frozenset() if all(is_margin(line) for line in rest) else frozenset(lines)
