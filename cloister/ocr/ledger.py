"""The ledger of a run folder: every document, every page, every request, on disk before it counts.

SQLite, whose commits are synced (`synchronous=FULL`): what was told as finished is finished after
any crash. One process writes, by the lock beside it.
"""

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from cloister.folders import Folder
from cloister.ocr import targets, values
from cloister.ocr.documents import Document, Entry, shown, stored
from cloister.ocr.results import PageResult, Summary
from cloister.ocr.schema import COUNTS, FACTS
from cloister.ocr.store import Store

_MOST_REQUESTS = 1_000  # that are told of a page


class Ledger(Store):
    """One run folder's documents and pages; `folder` None keeps them in a file of no name.

    With `look` nothing is changed. Raises OcrError for a file that is something else, and for a
    value in it that is.
    """

    def __init__(self, folder: Folder | None, *, look: bool = False) -> None:
        super().__init__(folder, look=look)
        self._folder = folder
        self._numbers: dict[Path, int] = {}
        self._named: set[str | bytes] = set()  # links, by the path as it is stored

    def register(self, documents: Iterable[Document]) -> int:
        """Make these the documents of this run, known ones with what is known; return how many."""
        new = 0
        with self.together():
            for document in documents:
                key = stored(document.path.absolute())
                if document.named:
                    self._named.add(stored(document.path))
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
                        # The name, too: what no link may lead out of is told by both.
                        "UPDATE documents SET run = ?, path = ?, name = ? WHERE key = ?",
                        (self.run, stored(document.path), stored(document.name), key),
                    )
                new += known is None or known[0] != self.run
        return new

    @property
    def has_named_links(self) -> bool:
        """Whether the user named a link himself, which is followed by nobody else's word."""
        return bool(self._named)

    def documents(self, only: str | None) -> list[Document]:
        """Return all documents whose name fits a pattern, of this run or not."""
        rows = self._base.execute("SELECT key, name FROM documents ORDER BY id")
        found = (
            Document(values.path(key, "key of a document"), values.path(name, "name of a document"))
            for key, name in rows
        )
        return [document for document in found if document.fits(only)]

    def _free(self, document: Document) -> str | bytes:
        """Return the name of its output without a suffix: one that nobody has.

        What lies in the folder and is not in the ledger is somebody else's.
        """
        begin = self._numbers.get(document.name, 2)
        for number, target in enumerate(targets.candidates(document.name, begin)):
            known = "SELECT 1 FROM documents WHERE target = ?"
            taken = self._base.execute(known, (stored(target),)).fetchone()
            if not taken and not (self._folder and targets.is_there(self._folder, target)):
                self._numbers[document.name] = begin + max(0, number - 1)
                return stored(target)
        raise AssertionError

    def entries(self, *, after: int = 0, limit: int = 500) -> list[Entry]:
        """Return documents of this run in the order in which they became known."""
        rows = self._base.execute(
            "SELECT id, path, name, target, signature, sha256, pages, finished FROM documents "
            "WHERE run = ? AND id > ? ORDER BY id LIMIT ?",
            (self.run, after, limit),
        )
        return [values.entry(row, named=row[1] in self._named) for row in rows]

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
        self._base.execute("DELETE FROM pages WHERE document = ?", (entry,))
        self._outdate(entry)
        self._base.execute("UPDATE documents SET finished = NULL WHERE id = ?", (entry,))

    def _outdate(self, entry: int) -> None:
        """Note that the files of a document are to be written again, in the formats they have."""
        self._base.execute("UPDATE written SET style = '' WHERE document = ?", (entry,))

    def again(self, document: Document) -> int:
        """Have a finished document of this run read anew, after all others; return its new id.

        0 for one that is not finished.
        """
        with self.together():
            found = self._base.execute(
                "SELECT id FROM documents WHERE key = ? AND finished IS NOT NULL",
                (stored(document.path.absolute()),),
            ).fetchone()
            last = 0
            if found:
                self._forget(found[0])
                (last,) = self._base.execute("SELECT max(id) + 1 FROM documents").fetchone()
                for table in ("written", "requests"):
                    moved = f"UPDATE {table} SET document = ? WHERE document = ?"  # noqa: S608
                    self._base.execute(moved, (last, found[0]))
                reset = "signature = NULL, pages = NULL, id = ?"
                self._base.execute(f"UPDATE documents SET {reset} WHERE id = ?", (last, found[0]))  # noqa: S608
        return int(last)

    def retry_failed(self) -> int:
        """Open the pages again that were not read; return how many."""
        chosen = (
            "(SELECT document, number FROM pages JOIN documents ON id = document "
            "WHERE state = 'failed' AND run = ?)"
        )
        with self.together():
            pages = self._base.execute(f"SELECT * FROM {chosen}", (self.run,))  # noqa: S608
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
                self._outdate(document)
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
        what = "number of a page"
        return [values.number(number, what, 1, values.MOST_PAGES) for (number,) in rows]

    def same_image(self, sha256: str, recipe: int) -> PageResult | None:
        """Return a page that was read from the same image in the same way, if there is one."""
        row = self._base.execute(
            f"SELECT '', number, text, {FACTS} FROM pages "  # noqa: S608
            "WHERE sha256 = ? AND recipe = ? AND state = 'read' LIMIT 1",
            (sha256, recipe),
        ).fetchone()
        return values.page_row(row) if row else None

    def asked(self, entry: int, number: int, facts: dict[str, object]) -> None:
        """Note a request that was answered, or was not."""
        self._base.execute(
            "INSERT INTO requests VALUES (?, ?, now(), ?)",
            (entry, number, values.kept(facts)),
        )

    def finish(self, entry: int, result: PageResult, recipe: int) -> bool:
        """Note what became of a page; return whether its document has none left to be read."""
        facts = asdict(result)
        text, number = facts.pop("text"), facts.pop("page")
        del facts["document"]
        state = "read" if result.read else "failed"
        self._base.execute(
            "INSERT OR REPLACE INTO pages VALUES (?, ?, ?, ?, ?, ?, ?, now())",
            (entry, number, state, recipe, result.sha256, text, values.kept(facts)),
        )
        left = self._base.execute(
            # Or SQLite would go through all that are finished, texts and all.
            "SELECT 1 FROM pages INDEXED BY open_pages WHERE document = ? AND state = 'open' "
            "LIMIT 1",
            (entry,),
        ).fetchone()
        if left is None:
            self._base.execute("UPDATE documents SET finished = now() WHERE id = ?", (entry,))
        return left is None

    def pages(self, entry: Entry) -> tuple[PageResult, ...]:
        """Return the finished pages of a document, in their order."""
        rows = self._base.execute(
            f"SELECT number, text, {FACTS} FROM pages "  # noqa: S608
            "WHERE document = ? AND state != 'open' ORDER BY number",
            (entry.id,),
        )
        return tuple(values.page_row((entry.document.shown, *row)) for row in rows)

    def entry(self, number: int) -> Entry:
        """Return one document."""
        (found,) = self.entries(after=number - 1, limit=1)
        return found

    def failed(self, limit: int, *, everything: bool = False) -> list[PageResult]:
        """Return pages that were not read, the first ones, of this run's documents or of all.

        Without their texts.
        """
        run = None if everything else self.run
        rows = self._base.execute(
            # In the order of the pages: nothing is kept to be sorted.
            f"SELECT path, number, NULL, {FACTS} "  # noqa: S608
            "FROM pages CROSS JOIN documents ON id = document "
            "WHERE state = 'failed' AND (run = ? OR ? IS NULL) ORDER BY document, number LIMIT ?",
            (run, run, limit),
        )
        return [
            values.page_row((shown(values.path(path, values.PATH)), *rest)) for path, *rest in rows
        ]

    def written(self, entry: int) -> dict[str, str]:
        """Return the formats in which a document was written, and the style of each."""
        rows = self._base.execute("SELECT format, style FROM written WHERE document = ?", (entry,))
        what = "style of a file"
        return {values.text(kind, what): values.text(style, what) for kind, style in rows}

    def wrote(self, entry: int, kind: str, style: str) -> None:
        """Note in which style a document's file of a format was written."""
        with self.together():
            self._base.execute(
                "INSERT OR REPLACE INTO written VALUES (?, ?, ?)", (entry, kind, style)
            )

    def requests(self, entry: int, number: int) -> list[dict[str, object]]:
        """Return what was asked for a page, and what came of it, in its order."""
        rows = self._base.execute(
            f"SELECT {FACTS} FROM requests "  # noqa: S608
            "WHERE document = ? AND number = ? ORDER BY rowid LIMIT ?",
            (entry, number, _MOST_REQUESTS),
        )
        return [values.facts(facts, "facts of a request") for (facts,) in rows]

    def summary(self, *, everything: bool = False) -> Summary:
        """Count this run's documents and pages, or all that the folder ever had."""
        run = None if everything else self.run
        counts = self._base.execute(COUNTS, (run,)).fetchone()
        names = (field.name for field in fields(Summary))
        return values.summary(dict(zip(names, counts, strict=True)))
