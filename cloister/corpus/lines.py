"""Text broken into lines, with hyphenation."""

import re
from collections.abc import Callable
from dataclasses import dataclass

# After a closed syllable ("com-mittee") or before a common ending ("informa-tion"): a rule of thumb
# that keeps two-letter sounds such as `th` and `ck` together.
_BREAK = re.compile(
    r"(?<=[aeiouy][bcdfglmnprstv])(?=[bcdfglmnprstv][aeiouy])(?!.(?:ings?|ed|er|es)\b)"
    r"|(?=(?:tion|sion|ment|ness|tive|ing)s?\b)"
)
# Lower case only: names stay whole.
_LONG_WORD = re.compile(r"[a-z]{7,}[.,;:]?")
_SHORTEST_PART = 3


@dataclass(frozen=True)
class Line:
    """One line as drawn: how many words end in it, and whether its last one is `broken`."""

    text: str
    words: int
    broken: bool = False


def break_lines(
    text: str, width: float, measure: Callable[[str], float], *, hyphenate: bool = False
) -> list[Line]:
    """Break `text` into lines of at most `width`, which is in the unit that `measure` returns.

    A word wider than that gets a line of its own. Two lines in a row never both end in a hyphen.
    """
    lines: list[Line] = []
    current, ended = "", 0
    for word in text.split():
        rest = word
        while current and measure(f"{current} {rest}") > width:
            head = ""
            if hyphenate and not (lines and lines[-1].broken) and rest is word:
                head = _fitting_part(word, lambda part: measure(f"{current} {part}") <= width)  # noqa: B023
            lines.append(Line(f"{current} {head}-" if head else current, ended, broken=bool(head)))
            rest, current, ended = rest[len(head) :], "", 0
        current = f"{current} {rest}".strip()
        ended += 1
    return [*lines, Line(current, ended)] if current else lines


def _fitting_part(word: str, fits: Callable[[str], bool]) -> str:
    """Return the longest beginning of `word` that fits with its hyphen, or nothing."""
    for offset in reversed(_break_points(word)):
        if fits(f"{word[:offset]}-"):
            return word[:offset]
    return ""


def _break_points(word: str) -> list[int]:
    if not _LONG_WORD.fullmatch(word):
        return []
    last = len(word.rstrip(".,;:")) - _SHORTEST_PART
    return [at.start() for at in _BREAK.finditer(word) if _SHORTEST_PART <= at.start() <= last]
