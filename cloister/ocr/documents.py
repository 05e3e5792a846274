"""Files, folders and patterns to documents, and documents to page images."""

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Literal

from cloister.cleaning import printable
from cloister.errors import OcrError
from cloister.ocr import background
from cloister.ocr.targets import LEDGER, QUARANTINE
from cloister.rendering import SUFFIXES, Drawing, Drawn, UnreadableError, source

_FOLDER_S = 30.0  # to list one folder


@dataclass(frozen=True)
class Document:
    """One input file; `name` is its path below the folder that was asked for, for the output.

    `named` tells that it is a link which the user named himself: it may lead anywhere.
    """

    path: Path
    name: Path
    named: bool = False

    @property
    def shown(self) -> str:
        """Its path, for people and scripts."""
        return shown(self.path)

    @property
    def root(self) -> Path:
        """The folder that was asked for, which no link may lead out of."""
        path = self.path.absolute()
        return path.parents[min(len(self.name.parts), len(path.parents)) - 1]

    def fits(self, pattern: str | None) -> bool:
        """Tell whether its name fits a pattern, such as `2026/*`, if there is one."""
        return pattern is None or fnmatchcase(str(self.name), pattern)


@dataclass(frozen=True)
class Entry:
    """A document in the ledger; `pages` is None until it was opened, 0 if that failed.

    `signature` is what the file system says of the file, `finished` when the last page was, in
    seconds since 1970.
    """

    id: int
    document: Document
    target: Path
    signature: str | None
    sha256: str | None
    pages: int | None
    finished: float | None


@dataclass(frozen=True)
class Page:
    """One page image, encoded; `number` counts from 1 up to `count`."""

    document: Document
    number: int
    count: int
    drawn: Drawn


@dataclass(frozen=True)
class Unreadable:
    """A page, or with `number` None a whole document, that cannot be turned into an image."""

    document: Document
    number: int | None
    reason: str


def shown(path: Path) -> str:
    """Return a path as text that may be printed: names have bytes that are none, and worse."""
    text = printable(os.fsencode(path).decode(errors="replace"))
    return text.replace("\n", "\ufffd").replace("\t", "\ufffd")


def stored(path: Path) -> str | bytes:
    """Return a path as SQLite takes it: as bytes where it is no text."""
    try:
        return str(path).encode().decode()
    except UnicodeEncodeError:
        return os.fsencode(path)


def restored(found: str | bytes) -> Path:
    """Return what was `stored`."""
    return Path(os.fsdecode(found))


def find(arguments: Sequence[str]) -> tuple[Document, ...]:
    """Return the documents that files, folders and patterns name, each once, in order.

    Raises OcrError for an argument that names nothing.
    """
    found: dict[Path, Document] = {}
    for document in walk(arguments):
        found.setdefault(document.path.resolve(), document)
    return tuple(found.values())


def walk(
    arguments: Sequence[str], *, beside: Path | None = None, only: str | None = None
) -> Iterator[Document]:
    """Yield the documents that files, folders and patterns name, as they are found.

    Folders are searched to the bottom for the known suffixes, but not the folder `beside`, which
    is the output's. `only` is a pattern that names have to fit. Raises OcrError for an argument
    that names nothing.
    """
    none = True
    for argument in arguments:
        for document in _expand(argument, beside.resolve() if beside else None):
            if document.fits(only):
                none = False
                yield document
    if none and arguments:
        raise OcrError(f"no document's name fits `{only}`")


def _expand(argument: str, beside: Path | None) -> Iterator[Document]:
    path = Path(argument)
    kind = background.call(partial(_kind, path))
    if kind == "folder":
        none = True
        for document in below(path, beside):
            none = False
            yield document
        if none:
            raise OcrError(
                f"no document in `{argument}`", hint=f"known suffixes: {' '.join(SUFFIXES)}"
            )
    elif kind is not None:
        yield Document(path, Path(path.name), named=kind == "link")
    elif any(character in argument for character in "*?["):
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        pattern = str(path.relative_to(anchor))
        matches = background.call(lambda: sorted(anchor.glob(pattern)))
        if not matches:
            raise OcrError(f"nothing matches `{argument}`")
        fixed = _fixed(path)
        for match in matches:
            for document in _expand(str(match), beside):
                # What a pattern matches was not named: anybody may have put it there.
                yield Document(document.path, document.path.relative_to(fixed))
    else:
        raise OcrError(f"`{argument}` does not exist")


def _kind(path: Path) -> Literal["folder", "link", "file"] | None:
    if path.is_dir():
        return "folder"
    if path.is_symlink():
        return "link"
    return "file" if os.path.lexists(path) else None


def _fixed(pattern: Path) -> Path:
    """Return the folder that all matches of a pattern are in."""
    parts = itertools.takewhile(lambda part: not set(part) & set("*?["), pattern.parts[:-1])
    return Path(*parts)


def below(folder: Path, beside: Path | None = None) -> Iterator[Document]:
    """Yield the documents in a folder and all below it, by their names, one folder at a time.

    A folder that cannot be looked into, or does not answer, is yielded as a document, which nobody
    will be able to read: what is in it shall not be missed in silence. Links to folders are not
    followed.
    """
    shut: list[Path] = []
    places = [folder]
    while places:
        place = places.pop()
        try:
            folders, files = background.call(partial(_listed, place, beside), _FOLDER_S)
        except OSError:
            shut.append(place)
            continue
        places += reversed(folders)
        for path in files:
            yield Document(path, path.relative_to(folder))
    for path in shut:
        yield Document(path, path.relative_to(folder) / "folder")


def _listed(place: Path, beside: Path | None) -> tuple[list[Path], list[Path]]:
    """Return the folders in a folder, and the files with a known suffix, by their names."""
    with os.scandir(place) as found:
        entries = {entry.name: entry.is_dir(follow_symlinks=False) for entry in found}
    folders = [place / name for name in sorted(entries) if entries[name]]
    files = [place / name for name in sorted(entries) if not entries[name]]
    if beside is not None:
        folders = [path for path in folders if path.resolve() != beside]
    if place / LEDGER in files:  # another run's
        folders = [path for path in folders if path.name != QUARANTINE]
    return folders, [path for path in files if path.name.lower().endswith(SUFFIXES)]


def count(documents: Sequence[Document]) -> int:
    """Return the number of pages of all documents; one that cannot be opened counts as one."""
    return sum(_count(document.path) for document in documents)


def _count(path: Path) -> int:
    try:
        return source.count(path)
    except UnreadableError:
        return 1  # `pages` says what is wrong with it


def pages(documents: Sequence[Document], drawing: Drawing) -> Iterator[Page | Unreadable]:
    """Yield every page of every document, or why there is none, drawn in this process."""
    for document in documents:
        try:
            total = source.count(document.path)
        except UnreadableError as error:
            yield Unreadable(document, None, error.message)
            continue
        for number in range(1, total + 1):
            try:
                yield Page(document, number, total, source.draw(document.path, number, drawing))
            except UnreadableError as error:
                yield Unreadable(document, number, error.message)
