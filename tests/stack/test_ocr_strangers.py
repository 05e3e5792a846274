"""`invoke ocr` on a run folder from somebody else: a line, and no file outside is touched."""

import os
import shutil
import sqlite3
import stat
import struct
import threading
from contextlib import closing
from pathlib import Path

import pytest
from deployments import Stack
from ocr_runs import ocr, write
from page_stubs import PageStub, page_stub

PRECIOUS = "what the user wrote"


@pytest.fixture
def evil(user: Stack, stub: PageStub, tmp_path: Path) -> Path:
    """A finished run folder with the documents `a` and `s/b`."""
    for name in ("a.pdf", "s/b.pdf"):
        write(tmp_path / "in", name)
    ocr(user, stub, tmp_path / "in")
    return user.state / "out"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    for name in ("project/thesis.txt", "site/index.md", "site/b.md"):
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PRECIOUS)
    return made


def assert_untouched(home: Path) -> None:
    content = {str(path.relative_to(home)): path.read_text() for path in home.rglob("*.*")}
    assert content == dict.fromkeys(("project/thesis.txt", "site/index.md", "site/b.md"), PRECIOUS)


def change(evil: Path, *statements: str) -> None:
    with closing(sqlite3.connect(evil / "ledger.sqlite", isolation_level=None)) as base:
        for statement in statements:
            base.execute(statement)


def test_a_forged_journal_removes_nothing(user: Stack, evil: Path, home: Path) -> None:
    """SQLite removes the file that a rollback journal names as its super-journal."""
    victim = os.fsencode(home / "project" / "thesis.txt")
    with closing(sqlite3.connect(evil / "ledger.sqlite")) as base:
        base.execute("PRAGMA journal_mode = DELETE")
        (size,) = base.execute("PRAGMA page_size").fetchone()
        (pages,) = base.execute("PRAGMA page_count").fetchone()
    magic = bytes.fromhex("d9d505f920a163d7")
    head = (magic + struct.pack(">IIIII", 0, 1, pages, 512, size)).ljust(512, b"\0")
    name = struct.pack(">I", 0x40000000 // size + 1) + victim
    check = struct.pack(">II", len(victim), sum(victim) & 0xFFFFFFFF) + magic
    (evil / "ledger.sqlite-journal").write_bytes(head + name + check)
    for words in (("--status",), ("--retry-failed",)):
        said = user.invoke("ocr", *words, "--out", str(evil), "--url", "http://127.0.0.1:9", code=8)
        assert "ledger.sqlite-journal` is there" in said.stderr
        assert_untouched(home)


def test_a_quarantine_elsewhere_is_not_emptied(
    user: Stack, stub: PageStub, evil: Path, home: Path, tmp_path: Path
) -> None:
    (evil / "quarantine").symlink_to(home)
    change(
        evil,
        "UPDATE documents SET target = 'project', sha256 = '00', signature = 'x' "
        "WHERE name = 'a.pdf'",
    )
    said = ocr(user, stub, tmp_path / "in", code=8).stderr
    assert "out/quarantine` is a link, expected a folder" in said
    assert_untouched(home)


def test_a_folder_elsewhere_is_not_written_into(
    user: Stack, stub: PageStub, evil: Path, home: Path, tmp_path: Path
) -> None:
    shutil.rmtree(evil / "s")
    (evil / "s").symlink_to(home / "site")
    change(
        evil,
        "UPDATE documents SET target = 's/index' WHERE name = 'a.pdf'",
        "DELETE FROM written",
    )
    said = ocr(user, stub, tmp_path / "in", code=8).stderr
    assert "out/s` is a link, expected a folder" in said
    assert_untouched(home)


def test_a_dangling_ledger_makes_no_file_elsewhere(
    user: Stack, stub: PageStub, evil: Path, home: Path, tmp_path: Path
) -> None:
    (evil / "ledger.sqlite").unlink()
    (evil / "ledger.sqlite").symlink_to(home / "made")
    said = ocr(user, stub, tmp_path / "in", code=8).stderr
    assert "out/ledger.sqlite` is a link, expected a file" in said
    assert not (home / "made").exists()
    said = user.invoke("ocr", "--status", "--out", str(evil), code=8).stderr
    assert "out/ledger.sqlite` is a link, expected a file" in said


def test_a_view_without_an_end_is_not_asked(user: Stack, evil: Path) -> None:
    change(
        evil,
        "ALTER TABLE documents RENAME TO theirs",
        "CREATE VIEW documents AS "
        "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) "
        "SELECT n.id, key, path, name, target, signature, sha256, 1 AS pages, error, begun, "
        "finished, run FROM n, theirs",
    )
    said = user.invoke("ocr", "--status", "--out", str(evil), code=8, timeout_s=60).stderr
    assert "has other tables than Cloister makes" in said


@pytest.mark.parametrize(
    "odd", ["key = char(0) || id", "pages = 'many'", "finished = 1e300", "target = id || char(0)"]
)
def test_odd_values_are_a_line(user: Stack, stub: PageStub, evil: Path, odd: str) -> None:
    change(
        evil,
        f"UPDATE documents SET {odd}",  # noqa: S608  # the test's own
        "DELETE FROM written",
    )
    said = user.invoke("ocr", "--out", str(evil), "--url", stub.url, code=8).stderr
    assert "the ledger's" in said


def test_texts_follow_the_umask(user: Stack, stub: PageStub, tmp_path: Path) -> None:
    source = write(tmp_path, "a.pdf")
    before = os.umask(0o077)
    try:
        ocr(user, stub, source)
    finally:
        os.umask(before)
    names = ("a.md", "ledger.sqlite")
    modes = [stat.S_IMODE((user.state / "out" / name).stat().st_mode) for name in names]
    assert modes == [0o600, 0o600]


def test_a_folder_that_becomes_a_link_while_a_run_writes_is_not_followed(
    user: Stack, home: Path, tmp_path: Path
) -> None:
    for number in range(6):
        write(tmp_path / "in", f"s/{number}.pdf")
    out, over = user.state / "out", threading.Event()

    def swap() -> None:
        while not over.wait(0.01):
            if list(out.glob("s/*.md")):
                (out / "s").rename(out / "away")
                (out / "s").symlink_to(home / "site")
                return

    second = threading.Thread(target=swap)
    second.start()
    try:
        with page_stub(delay_ms=500) as slow:
            said = ocr(user, slow, tmp_path / "in", "--concurrency", "1", code=8).stderr
    finally:
        over.set()
        second.join()
    assert "out/s` is a link, expected a folder" in said
    assert_untouched(home)
