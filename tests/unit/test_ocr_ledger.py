"""The ledger: what is finished stays so, and nothing else is told."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import OcrError
from cloister.folders import Folder
from cloister.ocr import background, watching
from cloister.ocr import folder as run_folder
from cloister.ocr.documents import Document, restored, stored
from cloister.ocr.ledger import Ledger
from cloister.ocr.results import PageResult
from cloister.ocr.schema import MIGRATIONS, VERSION


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    with Folder.open(tmp_path, OcrError) as held:
        yield held


@pytest.fixture
def ledger(folder: Folder) -> Iterator[Ledger]:
    made = Ledger(folder)
    made.begin()
    yield made
    made.close()


def named(*names: str) -> list[Document]:
    return [Document(Path("in") / name, Path(name)) for name in names]


def result(page: int, text: str | None = "Text", error: str | None = None) -> PageResult:
    return PageResult("in/a.pdf", page, text, error, attempts=2, completion_tokens=7, sha256="f00")


def test_what_was_told_as_finished_is_finished_after_a_power_cut(ledger: Ledger) -> None:
    """No test can cut the power: SQLite syncs each commit of a WAL with `FULL`, which is 2."""
    asked = (ledger._base.execute(f"PRAGMA {name}") for name in ("journal_mode", "synchronous"))
    assert [row.fetchone()[0] for row in asked] == ["wal", 2]


def test_documents_keep_their_order_and_their_places(ledger: Ledger) -> None:
    assert ledger.register(named("b.pdf", "a.pdf", "a.png", "a.tiff")) == 4
    assert ledger.register(named("c.pdf", "a.pdf")) == 1
    found = ledger.entries()
    assert [str(entry.document.name) for entry in found] == [
        *("b.pdf", "a.pdf", "a.png", "a.tiff", "c.pdf"),
    ]
    assert [str(entry.target) for entry in found] == ["b", "a", "a.png", "a.tiff", "c"]
    assert [entry.id for entry in ledger.entries(after=found[1].id, limit=2)] == [
        entry.id for entry in found[2:4]
    ]


def test_a_further_run_has_its_own_documents_and_knows_the_others(ledger: Ledger) -> None:
    ledger.register(named("a.pdf", "b.pdf"))
    (a, _) = ledger.entries()
    ledger.opened(a.id, "signature", "hash", 1)
    ledger.finish(a.id, result(1), 1)
    ledger.begin()
    ledger.register(named("a.pdf"))
    (again,) = ledger.entries()
    assert (again.id, again.pages, again.signature) == (a.id, 1, "signature")
    assert (ledger.summary().documents, ledger.summary(everything=True).documents) == (1, 2)


def test_a_page_is_open_until_it_is_finished_and_ends_its_document(ledger: Ledger) -> None:
    ledger.register(named("a.pdf"))
    (entry,) = ledger.entries()
    assert not ledger.opened(entry.id, "signature", "hash", 2)
    assert ledger.open_pages(entry.id) == [1, 2]
    assert not ledger.finish(entry.id, result(2), 1)
    assert ledger.open_pages(entry.id) == [1]
    assert (ledger.summary().read, ledger.summary().unfinished) == (1, 1)
    assert ledger.finish(entry.id, result(1, None, "the reason"), 1)
    for tokens in (7, 20):
        ledger.asked(entry.id, 2, {"tokens": tokens})
    (entry,) = ledger.entries()
    assert entry.finished
    assert [(page.page, page.text, page.error) for page in ledger.pages(entry)] == [
        (1, None, "the reason"),
        (2, "Text", None),
    ]
    found = ledger.summary()
    assert (found.whole, found.read, found.failed) == (0, 1, 1)
    assert (found.requests, found.tokens, found.wasted_tokens) == (2, 27, 20)
    assert [page.document for page in ledger.failed(10)] == ["in/a.pdf"]


def test_another_content_begins_anew_and_the_same_does_not(ledger: Ledger) -> None:
    ledger.register(named("a.pdf"))
    (entry,) = ledger.entries()
    ledger.opened(entry.id, "one", "hash", 1)
    ledger.finish(entry.id, result(1), 1)
    ledger.wrote(entry.id, "html", "style")
    assert not ledger.opened(entry.id, "two", "hash", 1)
    assert ledger.written(entry.id) == {"html": "style"}
    assert ledger.opened(entry.id, "three", "another", 2)
    assert ledger.open_pages(entry.id) == [1, 2]
    assert ledger.written(entry.id) == {"html": ""}  # the file is there, of the old content


def test_failed_pages_are_opened_again_and_documents_that_could_not_be(ledger: Ledger) -> None:
    ledger.register(named("a.pdf", "b.pdf"))
    a, b = ledger.entries()
    ledger.opened(a.id, "one", "hash", 2)
    ledger.finish(a.id, result(1), 1)
    ledger.finish(a.id, result(2, None, "no"), 1)
    ledger.opened(b.id, "one", "other", 0)
    ledger.finish(b.id, result(0, None, "a damaged PDF"), 1)
    assert ledger.retry_failed() == 2
    assert ledger.open_pages(a.id) == [2]
    assert ledger.entry(b.id).pages is None
    assert ledger.summary().failed == 0


def test_the_same_image_is_known_when_it_was_read_in_the_same_way(ledger: Ledger) -> None:
    ledger.register(named("a.pdf"))
    (entry,) = ledger.entries()
    ledger.opened(entry.id, "one", "hash", 1)
    first, _ = ledger.recipe("first")
    second, others = ledger.recipe("second")
    assert not others
    ledger.finish(entry.id, result(1), first)
    assert ledger.same_image("f00", second) is None
    known = ledger.same_image("f00", first)
    assert known is not None
    assert known.text == "Text"
    assert ledger.recipe("second") == (second, True)


def test_what_was_not_committed_did_not_happen(ledger: Ledger, folder: Folder) -> None:
    def interrupted() -> None:
        with ledger.together():
            ledger.register(named("a.pdf"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert ledger.entries() == []
    ledger.register(named("a.pdf"))
    other = Ledger(folder, look=True)  # as `--status` does while the first one writes
    assert other.summary(everything=True).documents == 1
    other.close()


def test_a_file_that_is_no_ledger_or_anothers_is_refused(folder: Folder, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(OcrError, match="is no ledger of pages"):
        Ledger(folder)
    path.unlink()
    base = sqlite3.connect(path)
    base.execute("PRAGMA user_version = 99")
    base.close()
    with pytest.raises(OcrError, match="another version of Cloister"):
        Ledger(folder)


@given(st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name))
def test_any_name_of_a_file_comes_back_as_it_was(name: bytes) -> None:
    path = restored(name)
    assert restored(stored(path)) == path


def test_a_document_can_be_read_anew_after_all_others(ledger: Ledger) -> None:
    ledger.register(named("a.pdf", "b.pdf"))
    a, b = ledger.entries()
    assert ledger.again(a.document) == 0  # it is not finished
    ledger.opened(a.id, "one", "hash", 1)
    ledger.finish(a.id, result(1), 1)
    last = ledger.again(a.document)
    assert [entry.id for entry in ledger.entries(after=b.id)] == [last]
    again = ledger.entry(last)
    assert (again.target, again.pages, again.finished) == (a.target, None, None)


def test_a_document_that_changed_while_it_was_read_is_read_again_when_that_is_over(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_LOOK_S", "_SETTLED_S"):
        monkeypatch.setattr(watching, name, 0.0)

    def at_once(states: Callable[[], object]) -> "Future[object]":
        future: Future[object] = Future()
        future.set_result(states())
        return future

    monkeypatch.setattr(background, "begin", at_once)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    watch = watching.Watch(inbox, tmp_path / "out", ledger, None)

    def change(content: str) -> list[int]:
        (inbox / "a.pdf").write_text(content)
        for _ in range(3):
            watch.look()
        return [entry.id for entry in ledger.entries()]

    (first,) = change("some")
    ledger.opened(first, "one", "hash", 1)
    assert change("all of it") == [first]
    ledger.finish(first, result(1), 1)
    watch.look()
    (again,) = ledger.entries()
    assert (again.id > first, again.finished) == (True, None)
    watch.look()
    assert [entry.id for entry in ledger.entries()] == [again.id]


@pytest.mark.parametrize("target", ["/etc/passwd", "../out", "a/../../b", "quarantine/a", ""])
def test_a_ledger_from_elsewhere_cannot_name_a_place_outside(
    ledger: Ledger, tmp_path: Path, target: str
) -> None:
    ledger.register(named("a.pdf"))
    base = sqlite3.connect(tmp_path / "ledger.sqlite")
    with base:
        base.execute("UPDATE documents SET target = ?", (target,))
    base.close()
    with pytest.raises(OcrError, match="outside its folder"):
        ledger.entries()


def test_names_stay_in_the_folder_and_out_of_its_own_parts(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    long = "x" * 251
    names = (
        *("..pdf", "...pdf", "quarantine/a.pdf", ".partial/b.pdf", "quarantine.pdf"),
        *(f"{long}.pdf", "mine.pdf", "Case.pdf", "case.pdf"),
    )
    ledger.register(named(*names))
    targets = [str(entry.target) for entry in ledger.entries()]
    assert targets[:5] == ["..pdf", "...pdf", "quarantine_/a", ".partial_/b", "quarantine"]
    assert len(targets[5]) < 230
    assert targets[6:] == ["mine.pdf", "Case", "case.pdf"]


def test_no_pages_are_counted_as_none(ledger: Ledger) -> None:
    found = ledger.summary()
    assert (found.pages, found.requests, found.tokens, found.wasted_tokens) == (0, 0, 0, 0)


def test_what_another_program_wrote_is_left_alone(folder: Folder, tmp_path: Path) -> None:
    base = sqlite3.connect(tmp_path / "ledger.sqlite")
    with base:
        base.execute("CREATE TABLE theirs (id INTEGER)")
    base.close()
    with pytest.raises(OcrError, match="another program's"):
        Ledger(folder)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A run folder that version 1 wrote: page 1 of a.pdf has escapes in it."""
    base = sqlite3.connect(tmp_path / "ledger.sqlite")
    base.executescript(Path(__file__).with_name("golden").joinpath("ledger-1.sql").read_text())
    base.close()
    return tmp_path


def dump(path: Path) -> list[str]:
    base = sqlite3.connect(path)
    try:
        (version,) = base.execute("PRAGMA user_version").fetchone()
        return [f"version {version}", *base.iterdump()]
    finally:
        base.close()


def test_a_ledger_of_version_1_is_read_as_it_is_by_who_only_looks(old: Path) -> None:
    before = dump(old / "ledger.sqlite")
    with run_folder.existing(old) as ledger:
        a, b = ledger.entries()
        assert [page.text for page in ledger.pages(a)] == ["Total 5\nEUR", None]
        assert ledger.pages(a)[0].engine == "e\ufffd"
        assert ledger.pages(a)[1].error == "HTTP 500: \ufffd]0;x\ufffd"
        assert ledger.pages(b)[0].removed_characters == 0
        assert ledger.summary().read == 2
    assert dump(old / "ledger.sqlite") == before


def test_a_ledger_of_version_1_is_cleaned_when_somebody_writes_into_it(old: Path) -> None:
    before = dump(old / "ledger.sqlite")
    with run_folder.opened(old) as (_, ledger):
        a, b = ledger.entries()
        (page, _) = ledger.pages(a)
        assert (page.text, page.removed_characters) == ("Total 5\nEUR", 10)
        assert ledger.summary().removed_characters == 10
        # Its file was written with the escapes in it; the other one stays as it is.
        assert (ledger.written(a.id), ledger.written(b.id)) == ({"markdown": ""}, {"markdown": "s"})
    after = dump(old / "ledger.sqlite")
    assert (before[0], after[0]) == ("version 1", f"version {VERSION}")
    assert len(before) == len(after)
    assert "\x1b" not in "".join(after)
    changed = [line for line, was in zip(after, before, strict=True) if line != was]
    assert [line.split("(")[0] for line in changed if "version" not in line] == [
        *('INSERT INTO "pages" VALUES', 'INSERT INTO "written" VALUES')
    ]
    with run_folder.opened(old) as (_, ledger):
        assert ledger.summary().removed_characters == 10
    assert dump(old / "ledger.sqlite") == after


def test_a_migration_that_fails_leaves_version_1(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dump(old / "ledger.sqlite")
    step = MIGRATIONS[1] + "DROP TABLE nothing"
    monkeypatch.setitem(MIGRATIONS, 1, step)
    with pytest.raises(OcrError, match="no ledger of pages"), run_folder.opened(old):
        pass
    assert dump(old / "ledger.sqlite") == before


def test_texts_of_a_ledger_from_elsewhere_are_cleaned_when_they_are_read(ledger: Ledger) -> None:
    ledger.register(named("a.pdf"))
    (entry,) = ledger.entries()
    ledger.opened(entry.id, "signature", "hash", 1)
    ledger.finish(entry.id, result(1, "a\x1b[31mb\u202e", "why\x07\n"), 1)
    (page,) = ledger.pages(entry)
    assert (page.text, page.error, page.removed_characters) == ("ab", "why\ufffd", 6)
    assert "\x07" not in str(ledger.failed(limit=1)[0].error)


def test_what_an_engine_says_of_itself_is_kept_in_a_bounded_length(ledger: Ledger) -> None:
    ledger.register(named("a.pdf"))
    (entry,) = ledger.entries()
    ledger.opened(entry.id, "signature", "hash", 1)
    long = "x" * (2 << 20)
    ledger.asked(entry.id, 1, {"message": long, "tokens": 3})
    ledger.finish(entry.id, replace(result(1, long, long), engine=long), 1)
    (page,) = ledger.pages(entry)
    assert (page.text, page.engine) == (long, long[:499] + "…")
    assert ledger.requests(entry.id, 1) == [{"message": long[:2_000], "tokens": 3}]
    assert ledger.summary().tokens == 3


def test_an_answer_of_all_that_a_ledger_has_is_whole(ledger: Ledger) -> None:
    """Its bound is for rows that share their pages, and holds for no ledger that we wrote."""
    ledger.register(named("a.pdf"))
    (entry,) = ledger.entries()
    ledger.opened(entry.id, "signature", "hash", 60)
    with ledger.together():
        for number in range(1, 61):
            ledger.finish(entry.id, result(number, "\U0001f600" * (1 << 18)), 1)  # 60 MiB
    assert len(ledger.pages(entry)) == 60
    assert ledger.retry_failed() == 0
