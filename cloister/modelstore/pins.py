"""models.lock.yaml: which bytes a revision of a model consists of, whoever serves them.

It lies in the store beside the models, so that the container that downloads can write it too.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from cloister import datafiles
from cloister.datafiles import DataError
from cloister.errors import DeploymentError, ModelStoreError
from cloister.files import write_atomically
from cloister.modelstore import guards

FILE_NAME = "models.lock.yaml"
_WAIT_S = 60.0  # another command writes a small file
_HEADER = """\
# Written by `invoke download`: the bytes that every later download and `invoke models.verify` have
# to find again. Keep it under version control, or carry it on a way of its own.
"""
MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
REVISION = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
# Names inside a model: folders are allowed, hidden ones, `..` and backslashes are not.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


@dataclass(frozen=True)
class File:
    """One file of a model; `size` is in bytes."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Pin:
    """One revision of a model; `licence` and `base_model` are as the repository declares them.

    `date` is the day on which it was locked, `files` is by name.
    """

    model: str
    revision: str
    licence: str | None
    base_model: str | None
    date: str
    files: Mapping[str, File]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


def read(store: Path) -> tuple[Pin, ...]:
    """Return what is locked in a store, in the order in which it was locked.

    Raises ModelStoreError when the file is not what `add` writes.
    """
    path = store / FILE_NAME
    try:
        text = datafiles.read_text(path)
    except FileNotFoundError:
        return ()
    except (OSError, DataError) as error:
        raise ModelStoreError(f"`{path}` cannot be read: {error}") from error
    try:
        return tuple(_pin(entry) for entry in datafiles.parse_yaml(text)["models"])
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelStoreError(
            f"`{path}` is not a list of locked models: {str(error).splitlines()[0]}",
            hint="restore it from version control, or remove it and run invoke download again",
        ) from error


def find(store: Path, model: str, revision: str | None = None) -> Pin | None:
    """Return what is locked of a model: that revision, or the one that was locked last."""
    found = [p for p in read(store) if p.model == model and revision in {None, p.revision}]
    return found[-1] if found else None


def add(store: Path, pin: Pin) -> None:
    """Lock a revision, as the last one of its model; an entry of the same revision gives way."""
    with _locked(store):
        others = [p for p in read(store) if (p.model, p.revision) != (pin.model, pin.revision)]
        _write(store, [*others, pin])


def remove(store: Path, model: str, revision: str) -> None:
    """Forget a revision."""
    with _locked(store):
        _write(store, [p for p in read(store) if (p.model, p.revision) != (model, revision)])


def render(pins: Sequence[Pin]) -> str:
    """Return the text of the file; pure."""
    text = yaml.safe_dump({"models": [asdict(pin) for pin in pins]}, sort_keys=False, width=200)
    return _HEADER + text


def _locked(store: Path) -> AbstractContextManager[None]:
    """Hold the file's lock: two downloads may end at the same time."""
    path = store / f".{FILE_NAME}"
    return guards.locked(path, wait_s=_WAIT_S, busy=f"another command writes `{path}`")


def _write(store: Path, pins: list[Pin]) -> None:
    try:
        write_atomically(store / FILE_NAME, render(pins))
    except DeploymentError as error:
        raise ModelStoreError(error.message, hint="set `model.store`") from error


def _pin(entry: Mapping[str, Any]) -> Pin:
    files = {
        _matching(NAME, name): File(int(file["size"]), _matching(SHA256, file["sha256"]))
        for name, file in entry["files"].items()
    }
    return Pin(
        model=_matching(MODEL, entry["model"]),
        revision=_matching(REVISION, entry["revision"]),
        licence=entry["licence"],
        base_model=entry["base_model"],
        date=str(entry["date"]),
        files=files,
    )


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"`{text}` is not {pattern.pattern}")
    return text
