"""What the engine sends in pieces, to be read like a file and kept nowhere."""

from collections.abc import Iterable, Iterator
from typing import IO, cast


def file_of(chunks: Iterable[bytes]) -> IO[bytes]:
    """Return a file that can only be read onwards, such as tarfile's `r|` wants."""
    return cast("IO[bytes]", _Stream(iter(chunks)))


class _Stream:
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        parts = []
        while size > 0:
            if not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)  # of megabytes, read in pieces of kilobytes
            parts.append(self._rest[:size])
            self._rest = self._rest[size:]
            size -= len(parts[-1])
        return b"".join(parts)
