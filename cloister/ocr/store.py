"""The ledger's tables: found as they have to be, made, and changed in whole steps."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import apsw

from cloister.cleaning import clean
from cloister.errors import OcrError
from cloister.folders import Folder
from cloister.ocr.database import Database, Row
from cloister.ocr.schema import MIGRATIONS, SCHEMA, VERSION

SqlValue = str | bytes | int | float | None

# What SQLite keeps of a table, an index or a view, and no more of them than a file of ours has.
_PARTS = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name LIMIT 100"


class Store:
    """An SQLite file with the ledger's tables; `folder` None is a file of no name.

    With `look` it has to be there, and is not changed. Raises OcrError for a file that is something
    else, or somebody else's.
    """

    def __init__(self, folder: Folder | None, *, look: bool = False) -> None:
        self._base = Database(folder, look=look)
        try:
            self._base.create_function("now", 0, time.time)
            self._prepare(is_kept=folder is not None, look=look)
            (self.run,) = self._base.execute("SELECT ifnull(max(id), 0) FROM runs").fetchone()
        except BaseException:
            self._base.close()
            raise

    def _prepare(self, *, is_kept: bool, look: bool) -> None:
        (version,) = self._base.execute("PRAGMA user_version").fetchone()
        parts = self._base.execute(_PARTS)
        if version == 0 and parts:
            raise OcrError(f"{self._base.name} is another program's", hint="another --out")
        if version == 0 and look:
            raise OcrError(f"{self._base.name} has no tables yet", hint="again in a moment")
        if version not in {0, VERSION, *MIGRATIONS}:
            raise OcrError(
                f"{self._base.name} was written by another version of Cloister ({version}, "
                f"expected {VERSION})",
                hint="another --out",
            )
        if version and _plain(parts) != _expected():
            raise OcrError(
                f"{self._base.name} has other tables than Cloister makes", hint="another --out"
            )
        if look:
            return
        if is_kept:
            self._write_ahead()
        self._base.execute(f"PRAGMA synchronous = {'FULL' if is_kept else 'OFF'}")
        if version == 0:
            self._base.execute(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")

    def _write_ahead(self) -> None:
        """Write changes into a log first, and never into a rollback journal, on the way there."""
        (mode,) = self._base.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":
            self._base.execute("PRAGMA journal_mode = MEMORY")
            self._base.execute("PRAGMA journal_mode = WAL")

    def migrate(self) -> None:
        """Bring a file of an earlier version to this one, whole or not at all.

        Who only looks into it does not: it is read as it is.
        """
        with self.together():
            (version,) = self._base.execute("PRAGMA user_version").fetchone()
            if version == VERSION:
                return
            self._base.create_function("cleaned", 1, _cleaned)
            self._base.create_function("removed", 1, _removed)
            for step in range(version, VERSION):
                for change in filter(str.strip, MIGRATIONS[step].split(";")):
                    self._base.execute(change)
            self._base.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def begin(self) -> None:
        """Begin a run: its documents are those that are registered from now on."""
        with self.together():
            # No document has this number yet, whoever wrote the ledger.
            last = "max(ifnull((SELECT max(id) FROM runs), 0), ifnull(max(run), 0))"
            self._base.execute(
                f"INSERT INTO runs (id, begun) SELECT {last} + 1, now() "  # noqa: S608
                "FROM documents WHERE typeof(run) = 'integer'"
            )
            self.run = self._base.last_id

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make all changes within the block one, synced at its end.

        Raises OcrError when the disk is full.
        """
        if self._base.in_transaction:
            yield
            return
        with self._base.transaction():
            yield


@cache
def _expected() -> list[Row]:
    """Return what a new file of ours has, of any version: they differ in what the rows mean."""
    base = apsw.Connection(":memory:")
    try:
        base.execute(SCHEMA)
        return _plain(base.execute(_PARTS).fetchall())
    finally:
        base.close()


def _plain(parts: list[Row]) -> list[Row]:
    return [tuple(" ".join(str(part).split()) for part in row) for row in parts]


def _cleaned(text: SqlValue) -> SqlValue:
    return clean(text).text if isinstance(text, str) else text


def _removed(text: SqlValue) -> int:
    return clean(text).removed if isinstance(text, str) else 0
