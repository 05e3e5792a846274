"""SQLite in a folder that may be a stranger's: one file and its log, and nothing that they name.

SQLite opens a database by its path, and again by that path its log and whatever journal lies there.
A journal may name any file, which SQLite then removes. Here the folder is held open, what is no
file of the ledger does not exist for SQLite, and what it does with a file from anywhere is limited.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apsw

from cloister.errors import OcrError
from cloister.folders import PRIVATE, Folder, shown
from cloister.ocr.targets import LEDGER

_LOG, _SHARED, _JOURNAL = f"{LEDGER}-wal", f"{LEDGER}-shm", f"{LEDGER}-journal"
_BUSY_MS = 5_000
# A count over the ledger of a million pages takes seconds; a hostile one would have no end.
_LONGEST_S = 600.0
_LOOK_STEPS = 100_000  # of SQLite's machine, a millisecond or so
# Rows of a hostile file may share their pages: an answer says no more than the file can hold, which
# UTF-16 halves, and this much of what is not written yet.
_UNWRITTEN_BYTES, _MOST_A_BYTE = 16 << 20, 4
_MOST_BYTES = 1 << 30  # of an answer, however large the file: it may be a sparse one
_ROW_BYTES, _NUMBER_BYTES = 16, 8  # at least, to be counted for a row and for each value
_LIMITS = {
    apsw.SQLITE_LIMIT_LENGTH: 64 << 20,  # bytes of a row; an answer has 32 MiB at most
    apsw.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    apsw.SQLITE_LIMIT_ATTACHED: 0,
    apsw.SQLITE_LIMIT_TRIGGER_DEPTH: 0,
    apsw.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_ON = frozenset({apsw.SQLITE_DBCONFIG_DEFENSIVE})
_OFF = (
    apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA,
    apsw.SQLITE_DBCONFIG_ENABLE_VIEW,
    apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER,
    apsw.SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER,
    apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION,
)
_PRAGMAS = ("cell_size_check = ON", "mmap_size = 0", "temp_store = MEMORY")
_DISK = (apsw.FullError, apsw.IOError, apsw.ReadOnlyError, apsw.CantOpenError)

Row = tuple[Any, ...]


class Rows(list[Row]):
    """All rows of an answer."""

    def fetchone(self) -> Any:
        """Return the first row, None where there is none."""
        return self[0] if self else None


class _Unlocked(apsw.VFSFile):
    """A ledger that nobody else has open: who changes it meanwhile is noticed at the end."""

    def xLock(self, level: int) -> None:  # noqa: N802
        """Take no lock, which a file that is only read cannot have."""

    def xUnlock(self, level: int) -> None:  # noqa: N802
        """Give none back."""

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        """Return that nobody writes."""
        return False


class _HeldFiles(apsw.VFS):
    """SQLite's own way to files, of which only the ledger and its log in a held folder exist."""

    def __init__(self, folder: Folder) -> None:
        self.label = f"cloister-{folder.fileno()}"
        self.ledger = str(folder.address(LEDGER))
        self._log = str(folder.address(_LOG))
        self.are_only_read = False
        super().__init__(self.label, "unix")

    def xFullPathname(self, name: str) -> str:  # noqa: N802  # SQLite's name
        """Return the path as it is; SQLite would resolve it, to where another folder may be."""
        return name

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        """Return whether a file is there: no journal ever is."""
        return pathname == self._log and super().xAccess(pathname, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802
        """Delete the log."""
        if filename != self._log:
            raise apsw.IOError(f"{filename} is not the ledger's")
        super().xDelete(filename, syncdir)

    def xOpen(  # noqa: N802
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        """Open the ledger or its log, by its last part and no link."""
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path not in {self.ledger, self._log}:
            raise apsw.CantOpenError(f"{path} is not the ledger's")
        if not self.are_only_read:
            return super().xOpen(name, flags)
        flags[0] &= ~(apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
        flags[0] |= apsw.SQLITE_OPEN_READONLY
        return _Unlocked("unix", name, flags)


class Database:
    """An open ledger; `folder` None is a file of no name, which ends with the connection.

    With `look` nothing is changed, not even by what a killed run left. Every OcrError names the
    file: for one that is not ours, or no database, or a query that takes too long.
    """

    def __init__(self, folder: Folder | None, *, look: bool) -> None:
        self.name = "the ledger" if folder is None else f"`{shown(folder.path / LEDGER)}`"
        self._folder = folder
        self._files = None
        self._unchanged: Callable[[], bool] = lambda: True
        self._until_s = time.monotonic() + _LONGEST_S
        if folder is not None:
            _require_ours(folder, look=look)
            self._files = _HeldFiles(folder)
        try:
            with self._explained():
                self._base = self._connected(folder, look=look)
        except BaseException:
            self._unregister()
            raise

    def _connected(self, folder: Folder | None, *, look: bool) -> apsw.Connection:
        if folder is None:
            return self._prepared("", look=False)
        if not look:
            return self._prepared("mode=rw", look=False)
        log = folder.find(_LOG)
        has_log = log is not None and log.st_size > 0
        if has_log and folder.find(_SHARED) is not None:
            try:
                return self._prepared("mode=ro&readonly_shm=1", look=True)
            except apsw.ReadOnlyError:
                # A run is under way, and none of its marks fits: one has to be set.
                return self._prepared("mode=ro", look=True)
        before = _state(folder)
        self._unchanged = lambda: _state(folder) == before
        if has_log and self._files is not None:  # a killed run left it: its index is ours alone
            self._files.are_only_read = True
            return self._prepared("mode=ro", look=True)
        return self._prepared("mode=ro&immutable=1", look=True)

    def _prepared(self, question: str, *, look: bool) -> apsw.Connection:
        """Return a connection that no file can use against us; raises apsw.Error."""
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
        if self._files is None:
            base = apsw.Connection("", flags=flags)
        else:
            address = f"file:{self._files.ledger}?{question}"
            base = apsw.Connection(address, flags=flags, vfs=self._files.label)
        try:
            base.set_busy_timeout(_BUSY_MS)
            base.set_progress_handler(self._is_late, _LOOK_STEPS)
            for limit, most in _LIMITS.items():
                base.limit(limit, most)
            for option in (*_ON, *_OFF):
                base.config(option, option in _ON)
            for pragma in _PRAGMAS:
                base.execute(f"PRAGMA {pragma}").fetchall()
            if self._files is not None and self._files.are_only_read:
                base.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()  # no `-shm` is made
            if look:  # all that is asked is of one moment, and the log stays as it is
                base.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                base.execute("BEGIN").fetchall()
                base.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        except BaseException:
            base.close()
            raise
        return base

    def _is_late(self) -> bool:
        """Return whether a query takes too long; Ctrl-C ends it here, too."""
        return time.monotonic() > self._until_s

    @contextmanager
    def _explained(self) -> Iterator[None]:
        self._until_s = time.monotonic() + _LONGEST_S
        try:
            yield
        except _DISK as error:
            raise OcrError(f"the ledger cannot be written: {error}") from error
        except apsw.InterruptError as error:
            raise OcrError(f"{self.name} took more than {_LONGEST_S:.0f} s to answer") from error
        except (apsw.Error, UnicodeDecodeError) as error:
            raise OcrError(f"{self.name} is no ledger of pages: {error}") from error

    def execute(self, statement: str, values: Sequence[object] = ()) -> Rows:
        """Return all rows that a statement has; raises OcrError, as for more than can be there."""
        rows, left_bytes = Rows(), None
        with self._explained():
            found = self._base.execute(statement, values)
            for row in found:
                if rows:  # one has a limit of its own
                    left_bytes = self._most_bytes() if left_bytes is None else left_bytes
                    left_bytes -= _bytes(row)
                    if left_bytes < 0:
                        found.close(True)  # noqa: FBT003  # though there are further rows
                        raise OcrError(
                            f"{self.name} has more in its rows than its size allows",
                            hint="another --out",
                        )
                rows.append(row)
        return rows

    def _most_bytes(self) -> float:
        """Return how much an answer may say in bytes; no limit for a file of no name."""
        if self._folder is None:
            return math.inf
        found = (self._folder.find(name) for name in (LEDGER, _LOG))
        size = sum(about.st_size for about in found if about)
        return min(_MOST_BYTES, _UNWRITTEN_BYTES + _MOST_A_BYTE * size)

    def executemany(self, statement: str, values: Iterable[Sequence[object]]) -> None:
        """Execute a statement with each of some values; raises OcrError."""
        with self._explained():
            self._base.executemany(statement, values).fetchall()

    def create_function(self, name: str, count: int, function: Callable[..., Any]) -> None:
        """Give SQL a function of so many values."""
        self._base.create_scalar_function(name, function, count)

    @property
    def in_transaction(self) -> bool:
        """Whether changes are under way that are not synced yet."""
        return self._base.in_transaction

    @property
    def last_id(self) -> int:
        """The id of the row that was inserted last."""
        return self._base.last_insert_rowid()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes within the block one, synced at its end."""
        self.execute("BEGIN")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self._base.in_transaction:  # some errors have ended it already
                self.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file.

        Raises OcrError where what was looked at changed meanwhile: SQLite has not noticed it.
        """
        try:
            with self._explained():
                self._base.close()
        finally:
            self._unregister()
        if not self._unchanged():
            raise OcrError(f"{self.name} changed while it was read", hint="the same command again")

    def _unregister(self) -> None:
        if self._files is not None:
            self._files.unregister()


def _bytes(row: Row) -> int:
    sizes = (len(one) if isinstance(one, str | bytes) else _NUMBER_BYTES for one in row)
    return _ROW_BYTES + sum(sizes)


def _state(folder: Folder) -> list[tuple[int, int]]:
    found = (folder.find(name) for name in (LEDGER, _LOG))
    return [(about.st_size, about.st_mtime_ns) for about in found if about is not None]


def _require_ours(folder: Folder, *, look: bool) -> None:
    """Raise OcrError unless a folder's ledger is ours to be opened; make one where none is."""
    if folder.find(_JOURNAL) is not None:
        raise OcrError(
            f"`{shown(folder.path / _JOURNAL)}` is there, and not Cloister's: "
            "SQLite would remove what it names",
            hint="another --out, or remove it if you know where it is from",
        )
    for name in (_LOG, _SHARED):
        folder.has_own_file(name)
    if not folder.has_own_file(LEDGER) and not look:
        folder.write(LEDGER, b"", mode=PRIVATE)
