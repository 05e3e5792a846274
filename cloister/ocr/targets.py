"""Where outputs go in a run folder: names that stay in it, and what the folder has of its own."""

import hashlib
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from cloister.folders import Folder
from cloister.output import SUFFIX

LEDGER, QUARANTINE, STAGING, LOCK = "ledger.sqlite", "quarantine", ".partial", ".lock"
_OWN = frozenset({QUARANTINE, STAGING})
# Bytes of a name: file systems take 255, and a suffix and a number have to fit in.
_LONGEST, _KEPT = 220, 200
_LONGEST_TARGET = 4_096  # bytes, as any path


def is_safe(target: Path) -> bool:
    """Tell whether a name, without a suffix, stays in the folder and out of its own parts."""
    parts = target.parts
    inside = bool(parts) and not target.is_absolute() and ".." not in parts
    inside = inside and len(os.fsencode(target)) <= _LONGEST_TARGET
    return inside and (len(parts) == 1 or parts[0] not in _OWN)


def candidates(name: Path, begin: int = 2) -> Iterator[Path]:
    """Yield names without a suffix for the output of a document, the plainest first.

    Where all are taken they are numbered, from `begin` on.
    """
    parts = [_shortened(part) for part in name.parts]
    if len(parts) > 1 and parts[0] in _OWN:
        parts[0] += "_"
    whole = Path(*parts)
    # Of `..pdf` the stem would be a way out.
    if whole.stem.strip("."):
        yield whole.with_suffix("")
    yield whole
    for number in count(begin):
        yield whole.with_name(f"{whole.name}.{number}")


def is_there(folder: Folder, target: Path) -> bool:
    """Tell whether something lies where an output of any format would."""
    return any(folder.find(f"{target}{suffix}") for suffix in SUFFIX.values())


def _shortened(part: str) -> str:
    content = os.fsencode(part)
    if len(content) <= _LONGEST:
        return part
    kept = content[:_KEPT].decode(errors="ignore")
    return f"{kept}~{hashlib.sha256(content).hexdigest()[:8]}"
