"""Files, folders and patterns to documents, and documents to page images."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from cloister.cleaning import printable
from cloister.errors import OcrError
from cloister.ocr import background, patterns
from cloister.ocr.targets import LEDGER, QUARANTINE
from cloister.rendering import SUFFIXES, Drawing, Drawn, UnreadableError, source

_FOLDER_S = 30.0  # to list one folder, or to say what a path is
_Kind = patterns.Kind | Literal["silent"]


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
        path, parts = self.path.absolute(), self.name.parts
        if path.parts[-len(parts) :] != parts:
            parts = parts[:-1]  # of a folder that cannot be looked into, see `below`
        return path.parents[min(len(parts), len(path.parents)) - 1] if parts else path

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


def origin(given: Path) -> tuple[bool, Path] | None:
    """Return whether a folder or a pattern was given, and the folder, or else the file; absolute.

    What does not answer counts as a file. None for what is not there.
    """
    kind = _kind_of(given)
    if kind is not None:
        return kind == "folder", given.absolute()
    return (True, patterns.fixed(given).absolute()) if patterns.is_pattern(str(given)) else None


def _expand(argument: str, beside: Path | None) -> Iterator[Document]:
    path = Path(argument)
    kind = _kind_of(path)
    if kind is not None:
        yield from _found(path, kind, beside)
    elif patterns.is_pattern(argument):
        yield from _matching(path, beside)
    else:
        raise OcrError(f"`{argument}` does not exist")


def _found(path: Path, kind: _Kind, beside: Path | None) -> Iterator[Document]:
    if kind != "folder":
        # What does not answer now may be a link: an opener finds that out.
        yield Document(path, Path(path.name), named=kind != "file")
        return
    none = True
    for document in below(path, beside):
        none = False
        yield document
    if none:
        raise OcrError(f"no document in `{path}`", hint=f"known suffixes: {' '.join(SUFFIXES)}")


def _matching(pattern: Path, beside: Path | None) -> Iterator[Document]:
    fixed, none = patterns.fixed(pattern), True
    candidates, shut = patterns.candidates(pattern, _FOLDER_S)
    kinds = dict(background.each(_kind, candidates, _FOLDER_S))
    for match in candidates:
        kind = kinds[match]
        if kind is None:
            continue
        none = False
        for document in _found(match, "silent" if isinstance(kind, OSError) else kind, beside):
            # What a pattern matches was not named: anybody may have put it there.
            yield Document(document.path, document.path.relative_to(fixed))
    for place in shut:
        none = False
        yield Document(place, place.relative_to(fixed) / "folder")
    if none:
        raise OcrError(f"nothing matches `{pattern}`")


def _kind_of(path: Path) -> _Kind | None:
    try:
        return background.ask(_kind, path, _FOLDER_S)
    except OSError:
        return "silent"


def _kind(path: Path) -> _Kind | None:
    if path.is_dir():
        return "folder"
    if path.is_symlink():
        return "link"
    return "file" if os.path.lexists(path) else None


def below(
    folder: Path, beside: Path | None = None, timeout_s: float = _FOLDER_S
) -> Iterator[Document]:
    """Yield the documents in a folder and all below it, by their names, one folder at a time.

    A folder that cannot be looked into, or does not answer within `timeout_s`, is yielded as a
    document, which nobody will be able to read: what is in it shall not be missed in silence. Links
    to folders are not followed.
    """
    shut: list[Path] = []
    places = [folder]
    try:
        # Nothing below it is resolved: that would ask a mount that hangs in the way of the others.
        top = folder if beside is None else background.ask(Path.resolve, folder, timeout_s)
    except OSError:
        top, places, shut = folder, [], [folder]
    while places:
        place = places.pop()
        try:
            folders, files = _listed(place, timeout_s)
        except OSError:
            shut.append(place)
            continue
        places += (one for one in reversed(folders) if top / one.relative_to(folder) != beside)
        for path in files:
            yield Document(path, path.relative_to(folder))
    for path in shut:
        yield Document(path, path.relative_to(folder) / "folder")


def _listed(place: Path, timeout_s: float) -> tuple[list[Path], list[Path]]:
    """Return the folders in a folder, and the files with a known suffix, by their names."""
    entries = background.ask(patterns.listed, place, timeout_s)
    folders = [name for name, kind in entries.items() if kind == "folder"]
    if entries.get(LEDGER, "folder") != "folder":  # another run's
        folders = [name for name in folders if name != QUARANTINE]
    found = [
        name for name in entries if name.lower().endswith(SUFFIXES) and entries[name] != "folder"
    ]
    return [place / name for name in folders], [place / name for name in found]


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
