"""What an answer for a page is worth: read, or why not; pure."""

import re
from dataclasses import dataclass, replace
from typing import Literal

from cloister.cleaning import Cleaned

Kind = Literal[
    "loop", "truncated", "empty", "garbage", "refusal", "too large", "engine", "rejected", "torn"
]

_PROBE = 120  # characters at the end that have to occur before: what repeats is found by them
# A unit that is said so often, over so many characters, is said by a model that runs away. A page
# has no more than that of the same words, as on a sheet of labels (measured: see docs/ocr.md), and
# of empty cells, dots or rules it has more.
_FEWEST_UNITS = 8
_WORDED, _WORDLESS = 3_000, 8_000
_TAG = re.compile(r"<[^<>]*>|&[a-z]+;|^[^<>]*>|<[^<>]*$")  # the first and last may be cut
_WORD = re.compile(r"[^\W\d_]")

_ODD = re.compile(r"[\ufffd\ue000-\uf8ff]")
_MOST_ODD = 0.2
# Weights that overflow say one token for ever, which is `!` in Qwen's vocabulary.
_FLOOD = re.compile(r"([!?#@%&$\ufffd])\1{99,}")
_REFUSAL = re.compile(
    r"\W*(?:i['\u2019]?m sorry|i am sorry|sorry|i apologi[sz]e|unfortunately|as an ai)\b"
    r".{0,120}?\b(?:can(?:no|['\u2019])?t|unable|not able|do not|don['\u2019]t|won['\u2019]t)\b"
    r"|\W*i(?: am|['\u2019]m)? (?:can(?:no|['\u2019])?t|unable to|not able to) "
    r"(?:assist|help|see|view|read|process|extract|access|provide|transcribe)\b",
    re.IGNORECASE | re.DOTALL,
)
_LONGEST_REFUSAL = 600


@dataclass(frozen=True)
class Fault:
    """Why an answer is not a page's text; `kept` is what of it can be used, if anything."""

    kind: Kind
    reason: str
    kept: Cleaned | None = None


def fault(page: Cleaned, finish_reason: str | None) -> Fault | None:
    """Return what is wrong with an answer, None for a page that was read.

    An empty text is a fault here; only a look at the page can tell that there is nothing on it.
    """
    text = page.text
    found = repeated(text)
    if found is not None or finish_reason == "repetition":
        kept = text.rstrip()
        kept = kept[: found.unit - found.characters] if found else kept
        return Fault("loop", "the model repeated itself", replace(page, text=kept.rstrip()) or None)
    if finish_reason != "stop":
        reason = f"the text was cut off (finish_reason `{finish_reason}`)"
        return Fault("truncated", reason, page or None)
    if not text.strip():
        return Fault("empty", "nothing was read, and the page is not blank")
    odd = len(_ODD.findall(text)) + page.controls
    if _FLOOD.search(text) or odd > _MOST_ODD * (len(text) + page.removed):
        return Fault("garbage", "the answer is no text")
    if len(text) <= _LONGEST_REFUSAL and _REFUSAL.match(text):
        return Fault("refusal", f"the model declined: {' '.join(text.split())[:120]}")
    return None


@dataclass(frozen=True)
class Repetition:
    """What a text ends in, in characters: one unit, and all of them."""

    unit: int
    characters: int


def repeated(text: str) -> Repetition | None:
    """Return what the text repeats at its end beyond what a page can hold, None if nothing.

    Costs two searches of the text, so that it can be asked again and again while a page comes.
    """
    end = text.rstrip()
    before = end.rfind(end[-_PROBE:], 0, len(end) - 1) if len(end) > _WORDED else -1
    if before < 0:
        return None
    unit = len(end) - _PROBE - before
    characters = unit + _same(end, unit)
    words = _WORD.search(_TAG.sub("", end[-unit - _PROBE :]))
    limit = max(_WORDED if words else _WORDLESS, _FEWEST_UNITS * unit)
    return Repetition(unit, characters) if characters >= limit else None


def _same(text: str, shift: int) -> int:
    """Return how many characters at the end are the same as those `shift` before them."""
    least, most = 0, len(text) - shift
    while least < most:
        middle = (least + most + 1) // 2
        same = text.endswith(text[-middle - shift : -shift])
        least, most = (middle, most) if same else (least, middle - 1)
    return least
