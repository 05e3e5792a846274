"""The ledger of a run folder: every document, every page, every request, on disk before it counts.

SQLite, whose commits are synced (`synchronous=FULL`): what was told as finished is finished after
any crash. One process writes, by the lock beside it.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain, count
from pathlib import Path

from cloister.errors import OcrError
from cloister.ocr.documents import Document, Entry, restored, stored
from cloister.ocr.results import PageResult, Summary
from cloister.ocr.schema import COUNTS, SCHEMA, VERSION


class Ledger:
    """One run folder's documents and pages; `path` None keeps them in a file of no name.

    Raises OcrError for a file that is something else.
    """

    def __init__(self, path: Path | None) -> None:
        try:
            self._base = sqlite3.connect(str(path) if path else "", isolation_level=None)
            self._base.create_function("now", 0, time.time)
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute(f"PRAGMA synchronous = {'FULL' if path else 'OFF'}")
            self._prepare(path)
        except sqlite3.Error as error:
            raise OcrError(f"`{path}` is no ledger of pages: {error}") from error
        (self.run,) = self._base.execute("SELECT ifnull(max(id), 0) FROM runs").fetchone()

    def _prepare(self, path: Path | None) -> None:
        (version,) = self._base.execute("PRAGMA user_version").fetchone()
        if version not in {0, VERSION}:
            raise OcrError(
                f"`{path}` was written by another version of Cloister ({version}, expected "
                f"{VERSION})",
                hint="another --out",
            )
        if version == 0:
            self._base.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def begin(self) -> None:
        """Begin a run: its documents are those that are registered from now on."""
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

    def register(self, documents: Iterable[Document]) -> int:
        """Make these the documents of this run, known ones with what is known; return how many."""
        new = 0
        with self.together():
            for document in documents:
                key = stored(document.path.absolute())
                known = self._base.execute(
                    "SELECT run FROM documents WHERE key = ?", (key,)
                ).fetchone()
                if known is None:
                    self._base.execute(
                        "INSERT INTO documents (key, path, name, target, run) "
                        "VALUES (?, ?, ?, ?, ?)",
                        (
                            key,
                            stored(document.path),
                            stored(document.name),
                            self._free(document),
                            self.run,
                        ),
                    )
                elif known[0] != self.run:
                    self._base.execute(
                        "UPDATE documents SET run = ?, path = ? WHERE key = ?",
                        (self.run, stored(document.path), key),
                    )
                new += known is None or known[0] != self.run
        return new

    def documents(self, only: str | None) -> list[Document]:
        """Return all documents whose name fits a pattern, of this run or not."""
        rows = self._base.execute("SELECT path, name FROM documents ORDER BY id")
        found = (Document(restored(path), restored(name)) for path, name in rows)
        return [document for document in found if document.fits(only)]

    def _free(self, document: Document) -> str | bytes:
        """Return the name of its output without a suffix: one that no other document has."""
        plain = document.name.with_suffix("")
        for target in chain((plain, document.name), map(document.numbered, count(2))):
            taken = self._base.execute(
                "SELECT 1 FROM documents WHERE target = ?", (stored(target),)
            ).fetchone()
            if not taken:
                return stored(target)
        raise AssertionError

    def entries(self, *, after: int = 0, limit: int = 500) -> list[Entry]:
        """Return documents of this run in the order in which they became known."""
        rows = self._base.execute(
            "SELECT id, path, name, target, signature, sha256, pages, finished FROM documents "
            "WHERE run = ? AND id > ? ORDER BY id LIMIT ?",
            (self.run, after, limit),
        )
        return [
            Entry(number, Document(restored(path), restored(name)), restored(target), *others)
            for number, path, name, target, *others in rows
        ]

    def opened(self, entry: int, signature: str, sha256: str, pages: int) -> bool:
        """Note what a document is; return whether it is another one than before."""
        old = self._base.execute("SELECT sha256 FROM documents WHERE id = ?", (entry,)).fetchone()
        changed = old[0] is not None and old[0] != sha256
        with self.together():
            if changed:
                self._forget(entry)
            self._base.execute(
                "UPDATE documents SET signature = ?, sha256 = ?, pages = ?, "
                "begun = ifnull(begun, now()) WHERE id = ?",
                (signature, sha256, pages, entry),
            )
            self._base.executemany(
                "INSERT OR IGNORE INTO pages (document, number, state) VALUES (?, ?, 'open')",
                ((entry, number) for number in range(1, pages + 1)),
            )
        return changed

    def _forget(self, entry: int) -> None:
        for table in ("pages", "written"):
            self._base.execute(f"DELETE FROM {table} WHERE document = ?", (entry,))  # noqa: S608
        self._base.execute("UPDATE documents SET finished = NULL WHERE id = ?", (entry,))

    def retry_failed(self) -> int:
        """Open the pages again that were not read; return how many."""
        chosen = (
            "(SELECT document, number FROM pages JOIN documents ON id = document "
            "WHERE state = 'failed' AND run = ?)"
        )
        with self.together():
            found = self._base.execute(f"SELECT * FROM {chosen}", (self.run,))  # noqa: S608
            pages = found.fetchall()
            for document, number in pages:
                if number == 0:  # it could not be opened: is it the same file still?
                    self._forget(document)
                    reset = "signature = NULL, sha256 = NULL, pages = NULL"
                    self._base.execute(f"UPDATE documents SET {reset} WHERE id = ?", (document,))  # noqa: S608
                    continue
                self._base.execute(
                    "UPDATE pages SET state = 'open' WHERE document = ? AND number = ?",
                    (document, number),
                )
                self._base.execute("DELETE FROM written WHERE document = ?", (document,))
                self._base.execute("UPDATE documents SET finished = NULL WHERE id = ?", (document,))
        return len(pages)

    def recipe(self, text: str) -> tuple[int, bool]:
        """Return the number of what decides how pages are read, and whether others came before."""
        with self.together():
            self._base.execute("INSERT OR IGNORE INTO recipes (text) VALUES (?)", (text,))
        found = self._base.execute("SELECT id FROM recipes WHERE text = ?", (text,)).fetchone()
        others = self._base.execute(
            "SELECT 1 FROM pages WHERE state != 'open' AND recipe != ? LIMIT 1", found
        ).fetchone()
        return int(found[0]), others is not None

    def open_pages(self, entry: int) -> list[int]:
        """Return the numbers of a document's pages that are still to be read."""
        rows = self._base.execute(
            "SELECT number FROM pages WHERE document = ? AND state = 'open' ORDER BY number",
            (entry,),
        )
        return [number for (number,) in rows]

    def same_image(self, sha256: str, recipe: int) -> PageResult | None:
        """Return a page that was read from the same image in the same way, if there is one."""
        row = self._base.execute(
            "SELECT '', number, text, facts FROM pages "
            "WHERE sha256 = ? AND recipe = ? AND state = 'read' LIMIT 1",
            (sha256, recipe),
        ).fetchone()
        return _page(row) if row else None

    def asked(self, entry: int, number: int, facts: dict[str, object]) -> None:
        """Note a request that was answered, or was not."""
        self._base.execute(
            "INSERT INTO requests VALUES (?, ?, now(), ?)",
            (entry, number, json.dumps(facts)),
        )

    def finish(self, entry: int, result: PageResult, recipe: int) -> bool:
        """Note what became of a page; return whether its document has none left to be read."""
        facts = asdict(result)
        text, number = facts.pop("text"), facts.pop("page")
        del facts["document"]
        state = "read" if result.read else "failed"
        self._base.execute(
            "INSERT OR REPLACE INTO pages VALUES (?, ?, ?, ?, ?, ?, ?, now())",
            (entry, number, state, recipe, result.sha256, text, json.dumps(facts)),
        )
        left = self._base.execute(
            "SELECT 1 FROM pages WHERE document = ? AND state = 'open' LIMIT 1", (entry,)
        ).fetchone()
        if left is None:
            self._base.execute("UPDATE documents SET finished = now() WHERE id = ?", (entry,))
        return left is None

    def pages(self, entry: Entry) -> tuple[PageResult, ...]:
        """Return the finished pages of a document, in their order."""
        rows = self._base.execute(
            "SELECT ?, number, text, facts FROM pages WHERE document = ? AND state != 'open' "
            "ORDER BY number",
            (entry.document.shown, entry.id),
        )
        return tuple(map(_page, rows))

    def entry(self, number: int) -> Entry:
        """Return one document."""
        (found,) = self.entries(after=number - 1, limit=1)
        return found

    def failed(self, limit: int, *, everything: bool = False) -> list[PageResult]:
        """Return pages that were not read, the first ones, of this run's documents or of all."""
        run = None if everything else self.run
        rows = self._base.execute(
            "SELECT path, number, text, facts FROM pages JOIN documents ON id = document "
            "WHERE state = 'failed' AND (run = ? OR ? IS NULL) ORDER BY document, number LIMIT ?",
            (run, run, limit),
        )
        return [_page((Document(restored(path), Path()).shown, *rest)) for path, *rest in rows]

    def is_written(self, entry: int, kind: str, style: str) -> bool:
        """Tell whether a document's file of this format is there in this style."""
        found = self._base.execute(
            "SELECT 1 FROM written WHERE document = ? AND format = ? AND style = ?",
            (entry, kind, style),
        ).fetchone()
        return found is not None

    def wrote(self, entry: int, kind: str, style: str) -> None:
        """Note in which style a document's file of a format was written."""
        with self.together():
            self._base.execute(
                "INSERT OR REPLACE INTO written VALUES (?, ?, ?)", (entry, kind, style)
            )

    def requests(self, entry: int, number: int) -> list[dict[str, object]]:
        """Return what was asked for a page, and what came of it, in its order."""
        rows = self._base.execute(
            "SELECT facts FROM requests WHERE document = ? AND number = ? ORDER BY at",
            (entry, number),
        )
        return [json.loads(facts) for (facts,) in rows]

    def summary(self, *, everything: bool = False) -> Summary:
        """Count this run's documents and pages, or all that the folder ever had."""
        run = None if everything else self.run
        return Summary(*self._base.execute(COUNTS, (run, run)).fetchone())


def _page(row: Sequence[object]) -> PageResult:
    document, number, text, facts = row
    return PageResult(document, number, text, **json.loads(str(facts)))  # type: ignore[arg-type]
