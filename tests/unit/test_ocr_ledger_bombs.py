"""Ledgers of a few MiB whose rows say hundreds of them cost no memory, only a line."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import ledger_bombs
import pytest

from cloister.ocr import folder
from cloister.ocr.documents import Document

ROWS = 300
MOST_MIB = 120  # the ledger has 7; each row says that it has 0.8
_MEASURE = """
import contextlib, resource, sys
from pathlib import Path
from cloister.errors import OcrError
from cloister.ocr import command, folder
from cloister.ocr.command import Wish

def status(out):
    command.status(Wish(out=out, as_json=True))

def requests(out):
    with folder.existing(out) as ledger:
        ledger.requests(1, 1)

def pages(out):
    with folder.existing(out) as ledger:
        ledger.pages(ledger.entry(1))

def entries(out):
    with folder.existing(out) as ledger:
        ledger.entries()

def documents(out):
    with folder.existing(out) as ledger:
        ledger.documents(None)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

before, told = peak(), "nothing"
try:
    with contextlib.redirect_stdout(None):
        globals()[sys.argv[1]](Path(sys.argv[2]))
except OcrError as error:
    told = error.message
print(peak() - before, told)
"""


def _fill(base: sqlite3.Connection, table: str, column: str) -> None:
    """Insert rows that differ in nothing but their numbers, the first of which is a long one."""
    for number in range(1_000, 1_000 + ROWS):
        length = ledger_bombs.SHORT if number > 1_000 else ledger_bombs.LONG
        facts = json.dumps({"error": "x" * (length - len('{"error": ""}'))})
        text = "x" * length
        if table == "documents":
            names = {"key": f"k{number}", "path": text, "name": "n", "target": f"t{number}"}
            row: dict[str, object] = {**names, "run": 1}
        elif table == "pages":
            row = {"document": 1, "number": number, "state": "failed", "facts": '{"error": "no"}'}
            row[column] = facts if column == "facts" else text
        else:
            row = {"document": 1, "number": 1, "at": number + 0.5, "facts": facts}
        names_, marks = ", ".join(row), ", ".join("?" * len(row))
        base.execute(f"INSERT INTO {table} ({names_}) VALUES ({marks})", tuple(row.values()))  # noqa: S608


def bomb(out: Path, table: str, column: str) -> None:
    with folder.opened(out) as (_, ledger):
        ledger.begin()
        ledger.register([Document(Path("in/a.pdf"), Path("a.pdf"))])
    with closing(sqlite3.connect(out / "ledger.sqlite")) as base:
        with base:
            _fill(base, table, column)
        base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ledger_bombs.share(out / "ledger.sqlite")
    with closing(sqlite3.connect(out / "ledger.sqlite")) as base:
        sizes = base.execute(f"SELECT length({column}) FROM {table}").fetchall()  # noqa: S608
        assert sizes.count((ledger_bombs.LONG,)) == ROWS
    assert (out / "ledger.sqlite").stat().st_size < 8 << 20


@pytest.mark.parametrize(
    ("table", "column", "action", "told"),
    [
        ("pages", "text", "status", "nothing"),
        ("pages", "text", "pages", "has more in its rows than its size"),
        ("pages", "facts", "status", "has more in its rows than its size"),
        ("documents", "path", "status", "nothing"),
        ("documents", "path", "entries", "has more in its rows than its size"),
        ("documents", "path", "documents", "nothing"),
        ("requests", "facts", "status", "nothing"),
        ("requests", "facts", "requests", "has more in its rows than its size"),
    ],
)
def test_rows_that_share_their_pages_cost_no_memory(
    tmp_path: Path, table: str, column: str, action: str, told: str
) -> None:
    bomb(tmp_path / "out", table, column)
    words = (sys.executable, "-c", _MEASURE, action, str(tmp_path / "out"))
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    more_mib, _, message = found.strip().partition(" ")
    assert int(more_mib) < MOST_MIB
    assert told in message
