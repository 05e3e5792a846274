"""Files of a bundle: written once, hashed on the way, in parts where a medium is small."""

import hashlib
from pathlib import Path
from typing import BinaryIO, Self

from cloister.errors import BundleError

_MAX_PARTS = 1000


class Parts:
    """A file to write to, which becomes `name`, or `name.000` on of at most `part_bytes` each.

    `sums` receives the SHA-256 of every part by its name.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        sums: dict[str, str],
        *,
        part_bytes: int | None,
    ) -> None:
        self._folder = folder
        self._name = name
        self._sums = sums
        self._limit = part_bytes
        self._number = 0
        self._open()

    def write(self, content: bytes) -> int:
        """Append bytes, to a new part when this one is full."""
        rest = memoryview(content)
        while rest:
            room = len(rest) if self._limit is None else self._limit - self._size
            if room == 0:
                self._end()
                self._number += 1
                self._open()
                continue
            part, rest = rest[:room], rest[room:]
            self._file.write(part)
            self._hashed.update(part)
            self._size += len(part)
        return len(content)

    def close(self) -> None:
        """Finish the last part."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        if self._number >= _MAX_PARTS:
            raise BundleError(f"{self._name} would be more than {_MAX_PARTS} parts")
        suffix = "" if self._limit is None else f".{self._number:03}"
        self._part = f"{self._name}{suffix}"
        path = self._folder / self._part
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("wb")
        self._hashed, self._size = hashlib.sha256(), 0

    def _end(self) -> None:
        self._file.close()
        self._sums[self._part] = self._hashed.hexdigest()
