"""The ledger's file: opened, made, and changed in whole steps."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from cloister.errors import OcrError
from cloister.ocr.schema import SCHEMA, VERSION


class Store:
    """An SQLite file with the ledger's tables; `path` None is a file of no name.

    Raises OcrError for a file that is something else.
    """

    def __init__(self, path: Path | None) -> None:
        try:
            self._base = sqlite3.connect(_address(path), isolation_level=None, uri=True)
            self._base.create_function("now", 0, time.time)
            self._prepare(path)
        except sqlite3.Error as error:
            raise OcrError(f"`{path}` is no ledger of pages: {error}") from error
        (self.run,) = self._base.execute("SELECT ifnull(max(id), 0) FROM runs").fetchone()

    def _prepare(self, path: Path | None) -> None:
        (version,) = self._base.execute("PRAGMA user_version").fetchone()
        (tables,) = self._base.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if version == 0 and tables:
            raise OcrError(f"`{path}` is another program's", hint="another --out")
        if version not in {0, VERSION}:
            raise OcrError(
                f"`{path}` was written by another version of Cloister ({version}, expected "
                f"{VERSION})",
                hint="another --out",
            )
        if path is None or os.access(path, os.W_OK):
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute(f"PRAGMA synchronous = {'FULL' if path else 'OFF'}")
        if version == 0:
            self._base.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def begin(self) -> None:
        """Begin a run: its documents are those that are registered from now on."""
        with self.together():
            begun = self._base.execute("INSERT INTO runs (begun) VALUES (now())")
        self.run = int(begun.lastrowid or 0)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make all changes within the block one, synced at its end.

        Raises OcrError when the disk is full.
        """
        if self._base.in_transaction:
            yield
            return
        try:
            self._base.execute("BEGIN")
            with self._base:
                yield
        except sqlite3.OperationalError as error:
            raise OcrError(f"the ledger cannot be written: {error}") from error


def _address(path: Path | None) -> str:
    if path is None:
        return ""  # a file of no name, which ends with the connection
    mode = "rwc" if os.access(path if path.exists() else path.parent, os.W_OK) else "ro"
    return f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}"
