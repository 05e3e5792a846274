"""The Debian and Python packages of an image, as its own records name them."""

import email.parser
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

_STATUS = "var/lib/dpkg/status"
_STATUS_FOLDER = "var/lib/dpkg/status.d/"  # a file a package, where there is no dpkg
_METADATA = ".dist-info/METADATA"
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True, order=True)
class Package:
    """One package; `kind` is as in package URLs."""

    kind: Literal["deb", "pypi"]
    name: str
    version: str


class Records:
    """The files that name packages, gathered from a file system or from layer upon layer."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def add(self, archive: tarfile.TarFile) -> None:
        """Take what one archive has; of a layer, also what it removes."""
        layer: dict[str, str] = {}
        for member in archive:
            self.take(archive, member, layer)
        self._texts |= layer

    def take(
        self, archive: tarfile.TarFile, member: tarfile.TarInfo, into: dict[str, str] | None = None
    ) -> None:
        """Take one member of an archive, if it matters."""
        path = PurePosixPath("/", member.name).relative_to("/")
        if path.name.startswith(_WHITEOUT):
            self._remove(path)
            return
        content = archive.extractfile(member) if _matters(str(path)) and member.isfile() else None
        if content is not None:
            texts = self._texts if into is None else into
            texts[str(path)] = content.read().decode(errors="replace")

    def packages(self) -> tuple[Package, ...]:
        """Return every package that the records name, sorted."""
        return named(self._texts)

    def _remove(self, mark: PurePosixPath) -> None:
        gone = mark.parent
        if mark.name != _OPAQUE:
            gone /= mark.name.removeprefix(_WHITEOUT)
        for path in [path for path in self._texts if PurePosixPath(path).is_relative_to(gone)]:
            del self._texts[path]


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
