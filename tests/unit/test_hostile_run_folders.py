"""Run folders and ledgers that somebody else made: a line and a code, and nothing outside touched.

Each is tried as `invoke ocr --status` and as a run that goes on with it, without a service: all its
pages are told as failed first, and then as read.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import sqlite3
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloister.errors import CloisterError, OcrError
from cloister.folders import Folder
from cloister.ocr import command, database, folder
from cloister.ocr.command import Wish
from cloister.ocr.documents import Document
from cloister.ocr.events import DocumentDone, DocumentOpened, PageDone
from cloister.ocr.folder import Writer
from cloister.ocr.results import PageResult
from cloister.output import Style
from cloister.rendering import Drawn

FILES, SWAPS = 1_000, 100
STRANGER = 12_345
LONGEST_LINE = 500
ENDLESS = """CREATE VIEW documents AS
WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n)
SELECT id, '' AS key, '' AS path, '' AS name, '' AS target, '' AS signature, '' AS sha256,
1 AS pages, '' AS error, 0 AS begun, 0 AS finished, 1 AS run FROM n"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's files: one folder of each name that a run folder could lead to, and many others."""
    made = tmp_path_factory.mktemp("home")
    for name in ("project", "site", "photos", "page-0001.json"):
        (made / name).mkdir()
    for number in range(FILES - 3):
        (made / "photos" / f"{number}.jpg").write_bytes(b"%d" % number)
    for name in ("index.md", "letter.md", "page-0001.json"):
        (made / "site" / name).write_text("mine")
    (made / "ledger").touch()
    return made


def look_at(place: Path) -> dict[str, tuple[object, ...]]:
    """Return what is in a folder: kinds, modes, times, and hashes of contents."""
    found: dict[str, tuple[object, ...]] = {}
    for path in place.rglob("*"):
        about = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(place))] = (about.st_mode, about.st_mtime_ns, content)
    return found


@pytest.fixture(scope="module")
def before(home: Path) -> dict[str, tuple[object, ...]]:
    return look_at(home)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of ours, with a document that was read and one that was not."""
    made = tmp_path_factory.mktemp("run") / "out"
    names = ("s/letter.pdf", "bad.pdf")
    with folder.opened(made) as (held, ledger):
        ledger.begin()
        ledger.register([Document(Path("in") / name, Path(name)) for name in names])
        writer = Writer(held, ledger, Style(), None, None)
        for entry in ledger.entries():
            error = None if entry.id == 1 else "no text"
            result = PageResult("in", 1, "Text", error, attempts=1, sha256="f00")
            ledger.opened(entry.id, "1:2:3:4", "f00", 1)
            ledger.asked(entry.id, 1, {"tokens": 3})
            ledger.finish(entry.id, result, 1)
            assert writer.heard(PageDone(entry, result, None)) is None
            assert writer.heard(DocumentDone(ledger.entry(entry.id)))
    return made


@pytest.fixture
def evil(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "evil"))


def status(out: Path) -> None:
    command.status(Wish(out=out))


def resume(out: Path) -> None:
    """Do all that a run does with what a folder already has."""
    with folder.opened(out) as (held, ledger):
        ledger.begin()
        ledger.register(ledger.documents(None))
        ledger.summary(everything=True)
        writer = Writer(held, ledger, Style(), None, None)
        for entry in ledger.entries():
            ledger.open_pages(entry.id)
            ledger.same_image("f00", 1)
            ledger.opened(entry.id, "5:6:7:8", "another", entry.pages or 1)
            writer.heard(DocumentOpened(entry, 1, 1, first=False, changed=True))
            for error in ("no text", None):
                result = PageResult("in", 1, "Text", error, sha256="f00")
                ledger.finish(entry.id, result, 1)
                writer.heard(PageDone(entry, result, Drawn(b"image", "image/png", 1, 1, "f00")))
            writer.heard(DocumentDone(ledger.entry(entry.id)))
        ledger.retry_failed()
        ledger.failed(100)
        writer.require_all_written()


def refused(action: Callable[[Path], None], out: Path) -> str:
    """Return the error of one, `` for none; anything but a line and a code fails the test."""
    told: CloisterError | None = None
    try:
        action(out)
    except CloisterError as error:
        told = error
    if told is None:
        return ""
    assert told.exit_code == OcrError.exit_code
    assert all(sign.isprintable() for sign in told.message)
    assert len(told.message) < LONGEST_LINE
    return told.message


def forge_journal(evil: Path, home: Path) -> None:
    """As case 301: a rollback journal of which SQLite takes a file's name, and removes the file."""
    with closing(sqlite3.connect(evil / "ledger.sqlite")) as base:
        base.execute("PRAGMA journal_mode = DELETE")
        (size,) = base.execute("PRAGMA page_size").fetchone()
        (pages,) = base.execute("PRAGMA page_count").fetchone()
    magic, victim = bytes.fromhex("d9d505f920a163d7"), os.fsencode(home / "site" / "index.md")
    head = (magic + struct.pack(">IIIII", 0, 1, pages, 512, size)).ljust(512, b"\0")
    name = struct.pack(">I", 0x40000000 // size + 1) + victim
    check = struct.pack(">II", len(victim), sum(victim) & 0xFFFFFFFF) + magic
    (evil / "ledger.sqlite-journal").write_bytes(head + name + check)


def sql(*statements: str) -> Callable[[Path, Path], None]:
    """Return what changes a ledger by SQL."""

    def change(evil: Path, _: Path) -> None:
        with closing(sqlite3.connect(evil / "ledger.sqlite", isolation_level=None)) as base:
            for statement in statements:
                base.execute(statement)

    return change


def document(**values: str) -> Callable[[Path, Path], None]:
    """Return what changes the first document's values to SQL expressions."""
    return sql(
        *(f"UPDATE documents SET {name} = {value} WHERE id = 1" for name, value in values.items())  # noqa: S608
    )


def page(**values: str) -> Callable[[Path, Path], None]:
    return sql(*(f"UPDATE pages SET {name} = {value}" for name, value in values.items()))  # noqa: S608


def link(name: str, target: str) -> Callable[[Path, Path], None]:
    """Return what puts a link to something of the user's in the place of a part."""

    def change(evil: Path, home: Path) -> None:
        clear(evil / name)
        (evil / name).symlink_to(home / target)

    return change


def clear(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)


def hard(name: str) -> Callable[[Path, Path], None]:
    """Return what gives a file of the user's the name of a part, which is his other one."""

    def change(evil: Path, _: Path) -> None:
        clear(evil / name)
        # A hard link changes the other file's count of names, so it is not one of those at home.
        other = evil.parent / "other"
        shutil.copy(evil / "ledger.sqlite", other) if name != "ledger.sqlite" else other.touch()
        (evil / name).hardlink_to(other)

    return change


def odd(name: str, kind: str) -> Callable[[Path, Path], None]:
    """Return what makes something else than a file in the place of a part."""

    def change(evil: Path, _: Path) -> None:
        path = evil / name
        clear(path)
        if kind == "folder":
            path.mkdir()
            (path / "inner").touch()
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(str(path))
        elif kind == "device" and os.geteuid() == 0:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        else:
            os.mkfifo(path)

    return change


def owned(name: str) -> Callable[[Path, Path], None]:
    """Return what gives a part to another user; only root can, and for others it is his already."""

    def change(evil: Path, _: Path) -> None:
        path = evil / name
        path.touch() if not path.exists() else None
        os.chown(path, STRANGER, STRANGER)

    return change


def both(*changes: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    def change(evil: Path, home: Path) -> None:
        for one in changes:
            one(evil, home)

    return change


@dataclass(frozen=True)
class Hostile:
    """How a folder is changed, and which commands have to refuse it."""

    change: Callable[[Path, Path], None]
    by: tuple[Callable[[Path], None], ...] = (status, resume)


BIG = "'{\"tokens\": ' || printf('%.*c', 100000, '[') || '}'"
AT_ONCE = {
    "journal that names a file": forge_journal,
    "journal that is a link": link("ledger.sqlite-journal", "site/index.md"),
    "journal that is empty": lambda evil, _: (evil / "ledger.sqlite-journal").touch(),
    **{
        f"link for {name or 'nothing'} {part}": link(f"ledger.sqlite{part}", name)
        for part in ("", "-wal", "-shm")
        for name in ("site/index.md", "nowhere")
    },
    **{f"hard link for {part}": hard(f"ledger.sqlite{part}") for part in ("", "-wal", "-shm")},
    **{
        f"{kind} for the ledger{part}": odd(f"ledger.sqlite{part}", kind)
        for part in ("", "-wal", "-shm")
        for kind in ("pipe", "socket", "device", "folder")
    },
    "view for a table": sql("ALTER TABLE documents RENAME TO theirs", ENDLESS),
    "trigger": sql("CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM pages; END"),
    "another table": sql("CREATE TABLE t (a)"),
    "another index": sql("CREATE INDEX i ON documents (path)"),
    "generated column": sql("ALTER TABLE runs ADD COLUMN x AS (length(zeroblob(900000000)))"),
    "statistics": sql("ANALYZE"),
    "virtual table": sql("CREATE VIRTUAL TABLE f USING fts5(a)"),
    "not a database": lambda evil, _: (evil / "ledger.sqlite").write_bytes(b"x" * 8_192),
    "another version": sql("PRAGMA user_version = 99"),
    "a negative version": sql("PRAGMA user_version = -1"),
}
WHEN_COUNTED = {
    "facts that are no JSON": page(facts="'{'"),
    "facts that nest": sql(f"UPDATE requests SET facts = {BIG}"),  # noqa: S608
    "facts that are huge": page(facts="json_set(facts, '$.x', printf('%.*c', 2000000, 'x'))"),
    "requests that are huge": sql(
        "UPDATE requests SET facts = json_set(facts, '$.x', printf('%.*c', 2000000, 'x'))",
    ),
    "facts that are no object": page(facts="'[]'"),
    "facts that are a number": page(facts="7"),
    "a page of no number": page(number="'x' || document"),
    "a page below none": page(number="-3"),
    "facts that are missing": page(facts="NULL"),
    "seconds that are none": page(facts="json_set(facts, '$.seconds', 'soon')"),
    "a path that is a number": sql("UPDATE documents SET path = zeroblob(100000) WHERE id = 2"),
    "a path with a NUL": sql("UPDATE documents SET path = 'a' || char(0) || 'b' WHERE id = 2"),
    "a path that is no text": sql("UPDATE documents SET path = CAST(x'ff' AS TEXT) WHERE id = 2"),
}
WHEN_READ = {
    "target above": document(target="'../site/index'"),
    "target that is absolute": document(target="'/site/index'"),
    "target with a NUL": document(target="'s' || char(0) || '/index'"),
    "target in the quarantine": document(target="'quarantine/x'"),
    "target in the staging": document(target="'.partial/x'"),
    "target that is empty": document(target="''"),
    "target that is a number": document(target="x'00'"),
    "target of a very long part": document(target="printf('%.*c', 5000, 'x')"),
    "target that is huge": document(target="printf('%.*c', 50000000, 'x/')"),
    "name with a NUL": document(name="'a' || char(0) || 'b'"),
    "key with a NUL": document(key="'/a' || char(0) || 'b'"),
    "pages of no count": document(pages="'many'"),
    "pages below none": document(pages="-1"),
    "pages without an end": document(pages="4611686018427387904"),
    "an end beyond the calendar": document(finished="1e300"),
    "an end before it": document(finished="-1e300"),
    "a hash that is huge": document(sha256="printf('%.*c', 5000000, 'x')"),
    "a signature that is bytes": document(signature="x'00ff'"),
    "a format that is bytes": sql("UPDATE written SET format = x'00ff'"),
    "requests that are no JSON": sql("UPDATE requests SET facts = '7'"),
    "lock that is a link": link(".lock", "ledger"),
    "lock that is a dangling link": link(".lock", "nowhere"),
    "lock that is a hard link": hard(".lock"),
    "lock that is a device": odd(".lock", "device"),
    "staging that is a link": link(".partial", "photos"),
    "staging that is a pipe": odd(".partial", "pipe"),
    "quarantine that is a link": link("quarantine", ""),
    "quarantine of a document that is a link": both(
        document(target="'project'"), link("quarantine/project", "project")
    ),
    "quarantine that is a link, and a target": both(
        document(target="'project'"), link("quarantine", "")
    ),
    "quarantine that is a pipe": odd("quarantine", "pipe"),
    "folder that is a link": both(link("s", "site"), sql("DELETE FROM written")),
    "output that is a link": both(
        link("s/letter.md", "site/letter.md"), sql("DELETE FROM written")
    ),
    "output that is a folder": both(odd("s/letter.md", "folder"), sql("DELETE FROM written")),
    "output that is a device": both(odd("s/letter.md", "device"), sql("DELETE FROM written")),
}
# What is replaced or removed as any file of ours would be, and what has none of ours yet.
NOT_FOLLOWED = {
    "page of the quarantine that is a link": link("quarantine/bad/page-0001.json", "site/index.md"),
    "link in the staging": link(".partial/x", "photos"),
    **{
        f"target that is called {name}": document(target=f"'{name}'")
        for name in ("ledger.sqlite", ".lock", "quarantine", ".partial")
    },
}
# What an engine could tell before its counts were bounded: the rest of the ledger is as good.
UNKNOWN = {
    "tokens without a sum": sql(
        "UPDATE requests SET facts = '{\"tokens\": 9223372036854775807}'",
    ),
    "tokens of less than none": sql("UPDATE requests SET facts = '{\"tokens\": -5}'"),
    "tokens that are text": sql('UPDATE requests SET facts = \'{"tokens": "1e999"}\''),
    "tokens of a page without an end": page(facts="json_set(facts, '$.completion_tokens', 1e30)"),
    "tokens of a page below none": page(facts="json_set(facts, '$.completion_tokens', -5)"),
    "tokens of a page that are text": page(facts="json_set(facts, '$.wasted_tokens', 'many')"),
}
OF_OTHERS = {
    **{
        f"another's {name}": Hostile(owned(name))
        for name in (*("", "ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"),)
    },
    **{
        f"another's {name}": Hostile(owned(name), (resume,))
        for name in (".lock", "s", "quarantine")
    },
}
CASES = {
    **{name: Hostile(change) for name, change in AT_ONCE.items()},
    **{name: Hostile(change, (status,)) for name, change in WHEN_COUNTED.items()},
    **{name: Hostile(change, (resume,)) for name, change in WHEN_READ.items()},
    **{name: Hostile(change, ()) for name, change in NOT_FOLLOWED.items()},
    "no tables": Hostile(lambda evil, _: os.truncate(evil / "ledger.sqlite", 0), (status,)),
    **(OF_OTHERS if os.geteuid() == 0 else {}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_folder_is_a_line_and_a_code_and_touches_nothing(
    evil: Path, home: Path, before: dict[str, tuple[object, ...]], name: str
) -> None:
    CASES[name].change(evil, home)
    inside = look_at(evil)
    told = {"status": refused(status, evil)}
    assert look_at(evil) == inside  # it only looked
    told["resume"] = refused(resume, evil)
    assert look_at(home) == before
    assert [action for action in CASES[name].by if not told[action.__name__]] == []


@pytest.mark.parametrize("name", UNKNOWN)
def test_tokens_that_can_be_none_are_unknown_and_the_rest_is_read(
    evil: Path, home: Path, name: str
) -> None:
    UNKNOWN[name](evil, home)
    assert [action.__name__ for action in (status, resume) if refused(action, evil)] == []


def swap(evil: Path, home: Path) -> None:
    """Move the run folder away, and lead its name to one of the user's."""
    evil.rename(evil.parent / "away")
    evil.symlink_to(home / "site")


def swap_inside(evil: Path, home: Path) -> None:
    (evil / "s").rename(evil / "away")
    (evil / "s").symlink_to(home / "site")
    clear(evil / "quarantine")
    (evil / "quarantine").symlink_to(home)


@pytest.mark.parametrize("action", [status, resume])
@pytest.mark.parametrize("change", [swap, swap_inside, forge_journal])
def test_what_is_swapped_after_the_check_leads_nowhere(
    evil: Path,
    home: Path,
    before: dict[str, tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path, Path], None],
    action: Callable[[Path], None],
) -> None:
    """SQLite opens the ledger by its path, and whatever lies beside that, after it was checked."""
    checked = database._require_ours

    def check(held: Folder, *, look: bool) -> None:
        checked(held, look=look)
        change(evil, home)

    monkeypatch.setattr(database, "_require_ours", check)
    refused(action, evil)
    assert look_at(home) == before


def test_a_second_program_that_swaps_all_the_time_leads_nowhere(
    evil: Path, home: Path, before: dict[str, tuple[object, ...]]
) -> None:
    over = threading.Event()
    swaps = 0

    def swap_all() -> None:
        nonlocal swaps
        for name, target in (("s", "site"), ("quarantine", ""), (".partial", "photos")):
            path, away = evil / name, evil / f"{name}.away"
            shutil.rmtree(away, ignore_errors=True)
            path.rename(away)
            path.symlink_to(home / target)
            swaps += 1
            path.unlink()
            away.rename(path)

    def keep_swapping() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):  # the run was quicker
                swap_all()

    thread = threading.Thread(target=keep_swapping)
    thread.start()
    try:
        while swaps < SWAPS:
            refused(resume, evil)
    finally:
        over.set()
        thread.join()
    assert look_at(home) == before


@pytest.fixture
def base(tmp_path: Path) -> Iterator[database.Database]:
    with (
        Folder.open(tmp_path, OcrError) as held,
        closing(database.Database(held, look=False)) as made,
    ):
        yield made


COUNTING = (
    "WITH RECURSIVE n(i) AS (SELECT begun() UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
)


def test_a_query_without_an_end_is_ended_by_ctrl_c(base: database.Database) -> None:
    begun = threading.Event()

    def begin() -> int:
        begun.set()
        return 1

    base.create_function("begun", 0, begin)

    def interrupt() -> None:
        begun.wait()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        base.execute(COUNTING)
    thread.join()


def test_a_query_without_an_end_has_a_limit(
    base: database.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_LONGEST_S", 0.0)
    base.create_function("begun", 0, lambda: 1)
    with pytest.raises(OcrError, match="took more than 0 s to answer"):
        base.execute(COUNTING)


def test_modes_follow_the_umask_and_the_ledger_is_private(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        with folder.opened(tmp_path / "out") as (held, ledger):
            ledger.begin()
            ledger.register([Document(Path("in/a.pdf"), Path("b/a.pdf"))])
            (entry,) = ledger.entries()
            ledger.opened(entry.id, "1:2:3:4", "f00", 1)
            ledger.finish(entry.id, PageResult("in", 1, "Text"), 1)
            Writer(held, ledger, Style(), None, None).heard(DocumentDone(ledger.entry(entry.id)))
            names = ("ledger.sqlite", "ledger.sqlite-wal", "b", "b/a.md")
            modes = [stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) for name in names]
    finally:
        os.umask(mask)
    assert modes == [0o600, 0o600, 0o750, 0o640]


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """What is on the disk while a run is under way, which a killed one leaves."""
    out = tmp_path / "live"
    with folder.opened(out) as (_, ledger):
        ledger.begin()
        ledger.register([Document(Path("in/a.pdf"), Path("a.pdf"))])
        copy = Path(shutil.copytree(out, tmp_path / "killed"))
        assert (copy / "ledger.sqlite-wal").stat().st_size
        assert "documents                1" in console_of(out)  # by another connection
    return copy


def console_of(out: Path) -> str:
    with folder.existing(out) as ledger:
        return f"documents{ledger.summary(everything=True).documents:>17}"


@pytest.mark.parametrize("index", ["there", "gone", "empty"])
def test_what_a_killed_run_left_is_looked_at_and_gone_on_with(killed: Path, index: str) -> None:
    shared = killed / "ledger.sqlite-shm"
    if index == "gone":
        shared.unlink()
    elif index == "empty":
        os.truncate(shared, 0)
    inside = look_at(killed)
    assert "documents                1" in console_of(killed)
    assert look_at(killed) == inside
    assert refused(resume, killed) == ""
    assert not (killed / "ledger.sqlite-wal").exists()
    assert (killed / "a.md").exists()


def test_a_ledger_with_a_log_that_changes_while_it_is_looked_at_is_told(killed: Path) -> None:
    (killed / "ledger.sqlite-shm").unlink()

    def look() -> None:
        with folder.existing(killed) as ledger:
            ledger.summary()
            assert refused(resume, killed) == ""

    with pytest.raises(OcrError, match="changed while it was read"):
        look()


def test_a_ledger_that_changes_while_it_is_looked_at_is_told(evil: Path) -> None:
    def look() -> None:
        with folder.existing(evil) as ledger:
            ledger.summary()
            refused(resume, evil)

    with pytest.raises(OcrError, match="changed while it was read"):
        look()
