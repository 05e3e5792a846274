"""tar archives of images, bounded before anything of them is kept.

An image is made by whoever wrote its base and its Dockerfile, and its archive by an engine that
copies what they chose: names, links, sizes. Python's tarfile reads the headers of one member into
memory whatever size they claim, one nested in the other, and keeps every member.
"""

import contextlib
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn, cast

from cloister.errors import ImageError

MOST_MEMBERS = 2_000_000  # of a file system; vLLM's image has some 100,000
_MOST_BYTES = 256 << 30  # of all files; the largest model in an image is below 150 GB
# A long name, or the PAX headers of one member: Linux has names of 4 KiB. tarfile's time for them
# grows with the square of their size.
_HEADER_BYTES = 16 << 10
_HEADERS = frozenset(
    {
        *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
        *(tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE),
    }
)
# Neither is in what engines write.
_REFUSED = {tarfile.GNUTYPE_SPARSE: "a sparse file", tarfile.XGLTYPE: "headers for all files"}
_ERRORS = (
    *(tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError),
    *(EOFError, ValueError, OverflowError, RecursionError),
)


class UnfitError(tarfile.TarError):
    """An archive that is beyond its bounds; the text says which."""


class _Member(tarfile.TarInfo):
    """A member whose own header is looked at before what follows it is read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        member = super().frombuf(buf, encoding, errors)
        if member.type in _REFUSED:
            raise UnfitError(f"it has {_REFUSED[member.type]}")
        most = _HEADER_BYTES if member.type in _HEADERS else _MOST_BYTES
        if not 0 <= member.size <= most:
            raise UnfitError(f"it has a file or a name of {member.size:,} bytes")
        return member

    def _refuse_sparse(self, *_: object) -> NoReturn:
        raise UnfitError("it has a sparse file")

    # tarfile's own names for the three kinds in PAX headers; each reads a map of any size.
    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


@contextlib.contextmanager
def reading(what: str, source: Path | IO[bytes]) -> Iterator[tarfile.TarFile]:
    """Open an archive, a packed one as well, or one that comes and can only be read onwards.

    Raises ImageError, which says that `what` cannot be read, for what is no archive, breaks off or
    raises UnfitError while it is read.
    """
    try:
        with (
            tarfile.open(source, tarinfo=_Member)
            if isinstance(source, Path)
            else tarfile.open(fileobj=source, mode="r|", tarinfo=_Member)
        ) as archive:
            yield archive
    except _ERRORS as error:
        reason = str(error).splitlines()[:1] or [type(error).__name__]
        raise ImageError(f"{what} cannot be read: {reason[0][:200]}") from error


def members(archive: tarfile.TarFile, most: int = MOST_MEMBERS) -> Iterator[tarfile.TarInfo]:
    """Yield the members, and forget each after it; raises UnfitError beyond a bound."""
    count = size = 0
    while (member := archive.next()) is not None:
        cast("Any", archive).members = []  # it would keep all of them
        count += 1
        size += member.size
        if count > most:
            raise UnfitError(f"it has more than {most:,} files and folders")
        if not 0 <= size <= _MOST_BYTES:
            raise UnfitError(f"its files have more than {_MOST_BYTES:,} bytes")
        yield member
