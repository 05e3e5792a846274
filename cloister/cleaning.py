"""Text from outside without what is no text: control characters, escapes, hidden orders.

A page's text is cleaned where it enters; names and messages are made printable where they are
shown. `docs/decisions/0024-page-text.md` has the reasons for each kind of character.
"""

import json
import re
from dataclasses import dataclass

# What ends a string of a terminal's orders; no such string holds another order.
_INSIDE = r"[^\x18\x1a\x1b\x80-\x9f]*+"
_C0 = r"\x00-\x08\x0e-\x17\x19\x1c-\x1f\x7f"  # a terminal obeys them inside of an order
# ECMA-48's sequences, those of 7 bits first. A string without an end is left as the text that it
# may be. The forms of 8 bits also come of UTF-8 that was read as Latin-1, so they are narrower:
# their strings have only what ECMA-48 allows, and nothing after a lead byte is an order of its own.
_SEQUENCE = re.compile(
    rf"\x1b\][^\x07\x18\x1a\x1b\x80-\x9f]*+(?:\x07|\x1b\\|\x9c)"  # OSC, which BEL may end
    rf"|\x1b[P^_k]{_INSIDE}(?:\x1b\\|\x9c)"  # DCS, PM, APC, and a title as `screen` sets it
    r"|\x1bX(?:(?!\x1b[X\\])[^\x98\x9c])*+(?:\x1b\\|\x9c)"  # SOS, which may hold anything
    r"|\x9d[^\x07\x18\x1a\x1b\x80-\x9f]*+(?:\x07|\x1b\\)"
    rf"|[\x90\x98\x9e\x9f]{_INSIDE}\x1b\\"
    r"|[\x90\x98\x9d-\x9f][\x08-\x0d\x20-\x7e]*+\x9c"
    rf"|\x1b\[[0-?{_C0}]*+[ -/{_C0}]*+[@-~]?"  # CSI
    r"|(?<![\x80\xc2-\xf4])\x9b[0-?]*+[ -/]*+[@-~]"
    r"|\x9b[0-?]++[ -/]*+[@-~]"
    r"|\x1b[ -/]*+[0-~]"  # all others: two bytes, or more with intermediate ones
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_LINE_END = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_RIGHT_TO_LEFT = re.compile(
    r"[\u0590-\u061b\u061d-\u08ff\ufb1d-\ufdcf\ufdf0-\ufdff\ufe70-\ufefc"
    r"\U00010800-\U00010fff\U0001e800-\U0001efff]"
)
_MARKS = r"\u061c\u200e\u200f"
_NONCHARACTERS = r"\ufdd0-\ufdef" + "".join(
    rf"\U{plane:04x}fffe-\U{plane:04x}ffff" for plane in range(17)
)
_HIDDEN = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls
    r"\u202a-\u202e\u2066-\u2069"  # bidi embeddings, overrides, isolates
    r"\u2060-\u2065\u206a-\u206f\ufeff\ufff0-\ufffb"  # format characters without a purpose in text
    r"\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"  # tags, and what is reserved to be invisible
    rf"\ud800-\udfff{_NONCHARACTERS}"
)
_NEVER, _NEVER_WITHOUT_MARKS = re.compile(f"[{_HIDDEN}]"), re.compile(f"[{_HIDDEN}{_MARKS}]")

# Invisible characters that some scripts need, and where: beside a character of theirs.
_INVISIBLE = rf"\u180e\u200b-\u200f{_MARKS}\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
_JOINING = (  # Arabic to Thai and Tibetan, Mongolian, all of India and its neighbours, Adlam
    r"\u0590-\u061b\u061d-\u109f\u1780-\u180d\u180f-\u18af\u1900-\u1cff\ua800-\uaaff\uabc0-\uabff"
    r"\ufb1d-\ufdff\ufe70-\ufefc\U00010a00-\U00011fff\U0001e900-\U0001e95f"
)
_WITHOUT_SPACES = (  # Thai, Lao, Tibetan, Myanmar, Khmer, Tai, Balinese, Javanese
    r"\u0e00-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\ua9ff\uaa60-\uaa7f"
)
_PICTURES = r"\u2194-\u21aa\u231a-\u23ff\u25aa-\u27bf\u2934-\u2b55\U0001f000-\U0001faff"
_EMOJI = rf"(?!(?<=[{_PICTURES}\ufe0f]\u200d)[{_PICTURES}])"


# Selectors choose a form of the character before them, one each: in runs, or after what has no
# other form, they are bytes of a message that nobody sees.
_SELECTORS = r"\ufe00-\ufe0f\U000e0100-\U000e01ef"
_IDEOGRAPHS = r"\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WITH_FORMS = (  # symbols and pictures, ideographs, their punctuation, Myanmar, Phags-pa, and more
    rf"\u203c\u2049\u2100-\u2bff\u3001-\u303f\u3200-\u32ff{_IDEOGRAPHS}\uff01-\uff60\u1000-\u109f"
    r"\uaa60-\uaa7f\ua840-\ua877\U00010ac0-\U00010aff\U00013000-\U0001345f\U0001f000-\U0001faff"
)
_UNSELECTING = re.compile(
    rf"(?=[{_SELECTORS}])(?<![{_WITH_FORMS}])(?:(?<![0-9#*\xa9\xae])|(?![\ufe0e\ufe0f]))."
    rf"|(?<![{_IDEOGRAPHS}])[\U000e0100-\U000e01ef]"
)
# Fillers stand in a syllable for a letter that it lacks.
_JAMO = r"\u1100-\u115e\u1161-\u11ff\ua960-\ua97c\ud7b0-\ud7fb"
_COMPATIBLE, _HALFWIDTH = r"\u3131-\u3163\u3165-\u318e", r"\uffa1-\uffdc"
_FILLERS = r"\u115f\u1160\u3164\uffa0"
_REPEATED = re.compile("(?<=\u034f)\u034f")  # a grapheme joiner says nothing twice


def _lost(sign: str, near: str) -> str:
    """Return a pattern of a sign that has none of `near` before it, or after it and no other."""
    return rf"(?<![{near}])(?:(?<=[{_INVISIBLE}]){sign}|{sign}(?![{near}]))"


_LOST = re.compile(
    rf"(?=[{_INVISIBLE}{_FILLERS}])(?:%s)"
    % "|".join(
        (
            _lost(r"\u200c", _JOINING),
            _lost(rf"\u200d{_EMOJI}", _JOINING),
            _lost(r"\u200b", _WITHOUT_SPACES),
            _lost(r"\u180e", r"\u1820-\u18aa"),
            _lost(r"[\U0001bca0-\U0001bca3]", r"\U0001bc00-\U0001bc9f"),
            rf"(?<![{_JAMO}])\u115f(?!\u1160?[{_JAMO}])",
            _lost(r"\u1160", _JAMO),
            _lost(r"\u3164", _COMPATIBLE),
            _lost(r"\uffa0", _HALFWIDTH),
            _lost(r"[\U0001d173-\U0001d17a]", r"\U0001d100-\U0001d172\U0001d17b-\U0001d1ff"),
        )
    )
)
_UNSEEN = re.compile(rf"[{_HIDDEN}{_INVISIBLE}{_SELECTORS}{_FILLERS}\u034f\u2028\u2029]")


LONGEST_MESSAGE = 500
_LOOKED_AT = 10  # characters for each one that is shown


@dataclass(frozen=True)
class Cleaned:
    """A page's text, and how many characters were removed from it; its length is the text's.

    `controls` of those were control characters, ESC of a sequence for one.
    """

    text: str
    removed: int = 0
    controls: int = 0

    def __len__(self) -> int:
        return len(self.text)


def clean(text: str) -> Cleaned:
    """Return a text of lines: letters, marks, signs and spaces, with tabs and line feeds.

    Escape sequences go whole, with what they say to a terminal; whatever else parts lines becomes
    a line feed. Clean text stays as it is.
    """
    if _is_plain(text):
        return Cleaned(text)
    plain = _SEQUENCE.sub("", text)
    cleaned = clean_characters(plain)
    removed = len(text) - len(plain) + cleaned.removed
    return Cleaned(cleaned.text, removed, len(_CONTROL.findall(text)))


def clean_characters(text: str) -> Cleaned:
    """Return a text without what is no text, one character at a time: what is between them stays.

    It is for HTML, where a sequence would take elements along; `clean` is for all other texts.
    """
    if _is_plain(text):
        return Cleaned(text)
    lines = _LINE_END.sub("\n", text)
    kept = _without_unseen(lines, "")
    return Cleaned(kept, len(lines) - len(kept), len(_CONTROL.findall(text)))


def printable(text: str) -> str:
    """Return a text of any origin as it may be shown: U+FFFD for each character that is no text.

    Line feeds and tabs stay, and so does what is clean.
    """
    if _is_plain(text):
        return text
    lines = _LINE_END.sub("\ufffd", text.replace("\r\n", "\n"))
    return _without_unseen(lines, "\ufffd")


def on_one_line(text: str, most: int = LONGEST_MESSAGE) -> str:
    """Return a message as `printable` text on one line of at most so many characters."""
    looked_at = text[: _LOOKED_AT * most]  # an engine may say megabytes
    line = " ".join(printable(looked_at).split())
    if len(line) <= most and len(looked_at) == len(text):
        return line
    return f"{printable(line[: most - 1]).rstrip()}…"


def printable_json(text: str) -> str:
    """Return JSON with the same values, in which every character is text: others are escaped."""
    return _UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.replace("\n", "").replace("\t", "").isprintable()


def _without_unseen(text: str, instead: str) -> str:
    """Replace what is no text or shows nothing; what one pattern leaves, the next one relies on."""
    for pattern in (_never(text), _UNSELECTING, _LOST, _REPEATED):
        text = pattern.sub(instead, text)
    return text


def _never(text: str) -> re.Pattern[str]:
    """Return what may not be in a text: the marks of a direction, too, where all have the same."""
    return _NEVER if _RIGHT_TO_LEFT.search(text) else _NEVER_WITHOUT_MARKS
