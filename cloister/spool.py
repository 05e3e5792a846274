"""Lines that one program appends to a file and another takes out of it; none is lost, none kept.

What was taken is freed in the file's middle (`fallocate(2)`, FALLOC_FL_PUNCH_HOLE), so that the
file takes no room and the writer need never open it again. Over its first bytes, once they are
taken, the reader writes where the next reader is to begin. Standard library only: the exporter's
image has this too.
"""

import ctypes
import os
import re
import tempfile
from pathlib import Path

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # linux/falloc.h
_LIBC = ctypes.CDLL(None, use_errno=True)
_OFF_T = ctypes.c_int64
_NOTE_BYTES = 64
_NOTE = re.compile(rb"taken (\d+) bytes, (\d+) lines *\n")
UNKNOWN_LINES = 1 << 62  # more than any program writes


class Spool:
    """The reader's side of such a file; the writer appends whole lines without a zero byte.

    `lines` is how many were taken so far, by this reader and those before it; where none before it
    left a note, it begins at UNKNOWN_LINES.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._taken = self._freed = 0
        self.lines = UNKNOWN_LINES

    def take(self, most_bytes: int) -> list[bytes]:
        """Return the next lines, `most_bytes` of them at most; raises OSError.

        The reader after this one gets them too unless `free` is called.
        """
        is_old = self._file is None or self._is_replaced(self._file)
        lines = self._next(most_bytes)
        if not lines and is_old:
            self._open()
            lines = self._next(most_bytes)
        self.lines += len(lines)
        return lines

    def free(self) -> None:
        """Give the room of the taken lines back; raises OSError.

        The first lines are kept until there is room for the note in their place.
        """
        if self._file is None or self._taken < _NOTE_BYTES or self._taken == self._freed:
            return
        note = b"taken %d bytes, %d lines" % (self._taken, self.lines)
        try:
            os.pwrite(self._file, note.ljust(_NOTE_BYTES - 1) + b"\n", 0)
        finally:  # on a full disk there may be room for the note afterwards
            # From the beginning each time: a block is free only when one call covers all of it.
            _punch(self._file, _NOTE_BYTES, self._taken - _NOTE_BYTES)
        self._freed = self._taken

    def _next(self, most_bytes: int) -> list[bytes]:
        if self._file is None:
            return []
        while True:
            block = os.pread(self._file, most_bytes, self._taken)
            lines = block.lstrip(b"\0")
            if lines == block:
                break
            # Freed, but not noted: the machine failed in between.
            self._taken += len(block) - len(lines)
        whole, newline, _ = lines.rpartition(b"\n")
        self._taken += len(whole) + len(newline)
        return whole.splitlines()

    def _is_replaced(self, file: int) -> bool:
        about = os.fstat(file)
        try:
            is_other = not os.path.samestat(about, self._path.stat())
        except FileNotFoundError:
            return False  # its writer is being replaced; what it wrote is still to be taken
        return is_other or about.st_size < self._taken

    def _open(self) -> None:
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        is_first = self._file is None
        if self._file is not None:
            os.close(self._file)
        self._file, self._freed, self._taken = file, 0, 0
        if note := _NOTE.fullmatch(os.pread(file, _NOTE_BYTES, 0)):
            self._taken = int(note[1])
            self.lines = int(note[2]) if is_first else self.lines


def try_folder(folder: Path) -> None:
    """Free the middle of a file in a folder; raises OSError where its file system cannot."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(3 * os.fstat(file.fileno()).st_blksize))
        file.flush()
        _punch(file.fileno(), 1, file.tell() - 2)


def _punch(file: int, begin: int, length: int) -> None:
    if length == 0:
        return
    done = _LIBC.fallocate(file, _KEEP_SIZE | _PUNCH_HOLE, _OFF_T(begin), _OFF_T(length))
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
