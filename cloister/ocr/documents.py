"""Files, folders and patterns to documents, and documents to page images."""

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from cloister.errors import OcrError
from cloister.ocr.targets import LEDGER, QUARANTINE
from cloister.rendering import SUFFIXES, Drawing, Drawn, UnreadableError, source


@dataclass(frozen=True)
class Document:
    """One input file; `name` is its path below the folder that was asked for, for the output."""

    path: Path
    name: Path

    @property
    def shown(self) -> str:
        """Its path, for people and scripts."""
        return shown(self.path)

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
    text = os.fsencode(path).decode(errors="replace")
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


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
    if path.is_dir():
        none = True
        for document in below(path, beside):
            none = False
            yield document
        if none:
            raise OcrError(
                f"no document in `{argument}`", hint=f"known suffixes: {' '.join(SUFFIXES)}"
            )
    elif os.path.lexists(path):
        yield Document(path, Path(path.name))
    elif any(character in argument for character in "*?["):
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        matches = sorted(anchor.glob(str(path.relative_to(anchor))))
        if not matches:
            raise OcrError(f"nothing matches `{argument}`")
        fixed = _fixed(path)
        for match in matches:
            for document in _expand(str(match), beside):
                yield Document(document.path, document.path.relative_to(fixed))
    else:
        raise OcrError(f"`{argument}` does not exist")


def _fixed(pattern: Path) -> Path:
    """Return the folder that all matches of a pattern are in."""
    parts = itertools.takewhile(lambda part: not set(part) & set("*?["), pattern.parts[:-1])
    return Path(*parts)


def below(folder: Path, beside: Path | None = None) -> Iterator[Document]:
    """Yield the documents in a folder and all below it, by their names, one folder at a time.

    A folder that cannot be looked into is yielded as a document, which nobody will be able to
    read: what is in it shall not be missed in silence. Links to folders are not followed.
    """
    shut: list[OSError] = []
    for place, folders, files in os.walk(folder, onerror=shut.append):
        folders.sort()
        if beside is not None:
            folders[:] = [name for name in folders if Path(place, name).resolve() != beside]
        if LEDGER in files and QUARANTINE in folders:  # another run's
            folders.remove(QUARANTINE)
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES):
                path = Path(place, name)
                yield Document(path, path.relative_to(folder))
    for error in shut:
        path = Path(os.fsdecode(error.filename))
        yield Document(path, path.relative_to(folder) / "folder")


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
