"""Patterns of paths, such as `scans/*/2026-??.pdf`: looked up part by part, past what hangs.

As `pathlib` reads them: `**` is any number of folders, links to folders are followed by their names
and not by `**`.
"""

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from cloister.ocr import background

Kind = Literal["folder", "link", "file"]
_SIGNS = frozenset("*?[")
_ANY_DEPTH = "**"


def is_pattern(text: str) -> bool:
    """Tell whether a text has a sign of a pattern in it."""
    return not _SIGNS.isdisjoint(text)


def fixed(pattern: Path) -> Path:
    """Return the folder that all matches of a pattern are in."""
    parts = list(pattern.parts[:-1])
    first = next((number for number, part in enumerate(parts) if is_pattern(part)), len(parts))
    return Path(*parts[:first])


def candidates(pattern: Path, timeout_s: float) -> tuple[list[Path], list[Path]]:
    """Return what may match a pattern, sorted, and the folders that cannot be looked into.

    That a candidate is there is known only where its last part is a pattern. A folder that does
    not answer within `timeout_s` is one that cannot be looked into.
    """
    shut: list[Path] = []
    start = fixed(pattern)
    parts = pattern.parts[len(start.parts) :]
    found = set(_matches(start, parts, timeout_s, shut))
    return sorted(found), shut


def _matches(
    place: Path, parts: Sequence[str], timeout_s: float, shut: list[Path]
) -> Iterator[Path]:
    if not parts:
        yield place
        return
    part, rest = parts[0], parts[1:]
    if not is_pattern(part):
        yield from _matches(place / part, rest, timeout_s, shut)
        return
    found = _looked_into(place, timeout_s, shut)
    if part == _ANY_DEPTH:
        yield from _matches(place, rest, timeout_s, shut)
        for name in (name for name, kind in found.items() if kind == "folder"):
            yield from _matches(place / name, parts, timeout_s, shut)
        return
    for name, kind in found.items():
        if fnmatchcase(name, part) and not (rest and kind == "file"):
            yield from _matches(place / name, rest, timeout_s, shut)


def _looked_into(place: Path, timeout_s: float, shut: list[Path]) -> dict[str, Kind]:
    try:
        return background.ask(listed, place, timeout_s)
    except (FileNotFoundError, NotADirectoryError):
        return {}  # a file where the pattern wants a folder
    except OSError:
        if place not in shut:
            shut.append(place)
        return {}


def listed(place: Path) -> dict[str, Kind]:
    """Return the names in a folder, sorted, each with what it is by the folder alone."""
    with os.scandir(place) as found:
        kinds = {entry.name: _kind(entry) for entry in found}
    return dict(sorted(kinds.items()))


def _kind(entry: "os.DirEntry[str]") -> Kind:
    if entry.is_symlink():
        return "link"
    return "folder" if entry.is_dir(follow_symlinks=False) else "file"
