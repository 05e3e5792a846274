"""The parts of a page's Markdown that must not be looked into or cut through."""

import re

# A fence that nothing closes runs to the end of the page, as in CommonMark.
FENCE = (
    r"^[ ]{0,3}(?P<fence>`{3,}|~{3,})(?:(?<=`)[^`\n]*|(?<=~)[^\n]*)$"
    r".*?(?:^[ ]{0,3}(?P=fence)[`~]*[ \t]*$|\Z)"
)
CODE_SPAN = r"(?<!`)(?P<ticks>`+)(?!`)[^\n]*?(?<!`)(?P=ticks)(?!`)"
HTML_TABLE = r"<table\b(?:.*?</table>|.*\Z)"
TAGS = "page_number|watermark|img|signature"
TAG = rf"<(?P<tag>{TAGS})>(?P<words>(?:(?!</?(?:{TAGS})>).)*)</(?P=tag)>"

_WHOLE = re.compile(f"{FENCE}|{HTML_TABLE}|{TAG}", re.DOTALL | re.MULTILINE | re.IGNORECASE)
_MARGIN_TAGS = re.compile(r"(?:<(page_number|watermark)>[^<]*</\1>\s*)+")


def uncut_lines(text: str) -> set[int]:
    """Return the lines, from 0, of code, of tables, and of tags over more than one line."""
    lines = {number for number, line in enumerate(text.split("\n")) if line.lstrip()[:1] == "|"}
    # The offset moves along with the blocks: a page may hold thousands.
    at = number = 0
    for block in _WHOLE.finditer(text):
        number += text.count("\n", at, block.start())
        at = block.start()
        height = block[0].count("\n")
        if height or block["tag"] is None:
            lines.update(range(number, number + height + 1))
    return lines


def is_margin(line: str) -> bool:
    """Tell whether a line is blank, or a page number or watermark and nothing else."""
    return not line.strip() or _MARGIN_TAGS.fullmatch(line.strip()) is not None
