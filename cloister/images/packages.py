"""The Debian and Python packages of an image, as its own records name them."""

import email.parser
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from cloister.containers import archives

_STATUS = "var/lib/dpkg/status"
_STATUS_FOLDER = "var/lib/dpkg/status.d/"  # a file a package, where there is no dpkg
# vLLM's image has some 600 records; dpkg's is the largest, of 1 MB.
_MOST_RECORDS, _MOST_BYTES = 50_000, 256 << 20
_METADATA = ".dist-info/METADATA"
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True, order=True)
class Package:
    """One package; `kind` is as in package URLs."""

    kind: Literal["deb", "pypi"]
    name: str
    version: str


class Records:
    """The files that name packages, gathered from a file system or from layer upon layer.

    What takes from archives raises UnfitError for more records than any image has.
    """

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._number = self._bytes = 0

    def add(self, archive: tarfile.TarFile) -> None:
        """Take what one layer has, and remove what it removes of those below it."""
        layer: dict[str, str] = {}
        gone: set[str] = set()
        for member in archives.members(archive):
            path = _path(member)
            if path.name.startswith(_WHITEOUT):
                gone.add(self._counted(str(_removed(path)), number=0))
            else:
                self.take(archive, member, layer)
        self._texts = {
            path: text
            for path, text in self._texts.items()
            if gone.isdisjoint(map(str, (PurePosixPath(path), *PurePosixPath(path).parents)))
        } | layer

    def take(
        self, archive: tarfile.TarFile, member: tarfile.TarInfo, into: dict[str, str] | None = None
    ) -> None:
        """Take one member of an archive, if it matters."""
        path = str(_path(member))
        if not _matters(path) or not member.isfile():
            return
        self._bytes += member.size
        texts = self._texts if into is None else into
        content = archive.extractfile(member) if self._counted(path) else None
        if content is not None:
            texts[path] = content.read().decode(errors="replace")

    def packages(self) -> tuple[Package, ...]:
        """Return every package that the records name, sorted."""
        return named(self._texts)

    def _counted(self, path: str, number: int = 1) -> str:
        """Return the path of something that is kept, unless too much is."""
        self._number += number
        self._bytes += len(path)
        if self._number > _MOST_RECORDS or self._bytes > _MOST_BYTES:
            raise archives.UnfitError(
                f"it has more than {_MOST_RECORDS:,} records of packages, or {_MOST_BYTES:,} bytes"
            )
        return path


def _path(member: tarfile.TarInfo) -> PurePosixPath:
    return PurePosixPath("/", member.name).relative_to("/")


def _removed(mark: PurePosixPath) -> PurePosixPath:
    """Return what a whiteout stands for: one path, or all that was in its folder."""
    if mark.name == _OPAQUE:
        return mark.parent
    return mark.parent / mark.name.removeprefix(_WHITEOUT)


def named(records: Mapping[str, str]) -> tuple[Package, ...]:
    """Return the packages that the texts of record files name, by their paths; pure."""
    found: set[Package] = set()
    for path, text in records.items():
        if path.endswith(_METADATA):
            found |= {Package("pypi", *pair) for pair in _paragraphs([text], "Name")}
        else:
            found |= {Package("deb", *pair) for pair in _paragraphs(text.split("\n\n"), "Package")}
    return tuple(sorted(found))


def _matters(path: str) -> bool:
    # Distroless images have checksums beside the records, as `NAME.md5sums`.
    record = path.startswith(_STATUS_FOLDER) and not path.endswith(".md5sums")
    return record or path == _STATUS or path.endswith(_METADATA)


def _paragraphs(paragraphs: Iterable[str], key: str) -> Iterator[tuple[str, str]]:
    for paragraph in paragraphs:
        headers = email.parser.HeaderParser().parsestr(paragraph)
        removed = not headers.get("Status", "installed").endswith("installed")
        if headers[key] and headers["Version"] and not removed:
            yield str(headers[key]), str(headers["Version"])
