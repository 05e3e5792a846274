"""Ledgers of a few MiB whose rows say gigabytes: their cells share one overflow chain.

SQLite keeps the end of a long row in a chain of pages, and nothing in its format forbids that many
rows have the same one. So all rows but one are made short, and then given the length and the chain
of the long one.
"""

from collections.abc import Iterator
from pathlib import Path

_BRANCH, _INDEX, _TABLE = 0x02, 0x0A, 0x0D  # kinds of pages with rows; a branch is of an index
_PAGE = 4_096
_CHAINED = _PAGE - 4  # bytes of a row on a page of a chain, which begins with the next one's number
SHORT = 20_000  # characters of a value
# As many bytes of the row lie on its own page, and its lengths are numbers of three bytes as well.
LONG = SHORT + 200 * _CHAINED


def share(ledger: Path) -> None:
    """Give the rows with a value of `SHORT` characters the one of `LONG` characters that is there.

    The database has no log, and those rows differ in nothing that changes their length.
    """
    content = bytearray(ledger.read_bytes())
    cells = list(_cells(content))
    (chain,) = (content[end : end + 4] for size, end, _ in cells if size >= LONG)
    for size, end, at in cells:
        if size < SHORT or size >= LONG:
            continue
        _put(content, at, size + LONG - SHORT)
        _put(content, _place(content, at, end, SHORT), 2 * LONG + 13)
        content[end : end + 4] = chain
    ledger.write_bytes(content)


def _cells(content: bytearray) -> Iterator[tuple[int, int, int]]:
    """Yield each row's length, where the part of it on its own page ends, and where it begins."""
    for page in range(0, len(content), _PAGE):
        kind = content[page]
        if kind not in {_BRANCH, _INDEX, _TABLE}:
            continue
        first, child = (12, 4) if kind == _BRANCH else (8, 0)
        for number in range(int.from_bytes(content[page + 3 : page + 5])):
            entry = page + first + 2 * number
            at = page + int.from_bytes(content[entry : entry + 2]) + child
            size, row = _varint(content, at)
            if kind == _TABLE:
                _, row = _varint(content, row)
            yield size, row + _on_page(size, kind), at


def _on_page(size: int, kind: int) -> int:
    """Return how many bytes of a row are on its own page, by SQLite's documented rule."""
    most = _PAGE - 35 if kind == _TABLE else (_PAGE - 12) * 64 // 255 - 23
    least = (_PAGE - 12) * 32 // 255 - 23
    fits = least + (size - least) % _CHAINED
    return size if size <= most else fits if fits <= most else least


def _place(content: bytearray, at: int, end: int, length: int) -> int:
    """Return where a row says that a value is a text of a length."""
    while at < end:
        if _varint(content, at)[0] == 2 * length + 13:
            return at
        at += 1
    raise AssertionError


def _varint(content: bytearray, at: int) -> tuple[int, int]:
    """Return a number, and where it ends."""
    value = 0
    while content[at] & 0x80:
        value, at = value << 7 | content[at] & 0x7F, at + 1
    return value << 7 | content[at], at + 1


def _put(content: bytearray, at: int, value: int) -> None:
    """Write a number of three bytes in the place of one."""
    assert _varint(content, at)[1] == at + 3
    assert value < 1 << 21
    content[at : at + 3] = bytes((value >> 14 | 0x80, value >> 7 & 0x7F | 0x80, value & 0x7F))
