"""What the engine sends in pieces, to be read like a file and kept nowhere."""

from collections.abc import Iterable, Iterator
from typing import IO, cast


def file_of(chunks: Iterable[bytes]) -> IO[bytes]:
    """Return a file that can only be read onwards, such as tarfile's `r|` wants."""
    return cast("IO[bytes]", _Stream(iter(chunks)))


class _Stream:
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int) -> bytes:
        parts, missing = [self._rest], size - len(self._rest)
        while missing > 0 and (chunk := next(self._chunks, None)) is not None:
            parts.append(chunk)
            missing -= len(chunk)
        whole = b"".join(parts)
        self._rest = whole[size:]
        return whole[:size]
