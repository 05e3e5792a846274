"""A document is finished once its file is known to be what was read."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

import hung_opener
import pytest

from cloister.ocr import descriptors, openers
from cloister.ocr.documents import Document, Entry
from cloister.ocr.events import DocumentDone, DocumentGone, Event, PageDone
from cloister.ocr.intake import Intake
from cloister.ocr.ledger import Ledger
from cloister.ocr.openers import FileLimits, Openers
from cloister.ocr.results import PageResult
from cloister.rendering import Renderers

TIMEOUT_S = 60


class OnePage:
    """Renderers for which each file has one page."""

    def count(self, path: Path) -> "Future[int]":
        assert path.read_bytes()
        found: Future[int] = Future()
        found.set_result(1)
        return found


class Desk:
    """A reader without an engine: all that is read is taken from an intake by hand."""

    def __init__(self, limits: FileLimits) -> None:
        self.ledger = Ledger(None)
        self.ledger.begin()
        self.events: deque[Event] = deque()
        self.told: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.openers = Openers(limits)
        renderers = cast("Renderers", OnePage())
        self.intake = Intake(self.ledger, renderers, self.openers, self.told, self.events, 1)

    def until(self, ready: Callable[[], Any]) -> Any:
        """Take in what the intake is told until something is there, and return that."""
        while not (found := ready()):
            self.told.get(timeout=TIMEOUT_S)()
        return found

    def page(self) -> Entry:
        """Return the document of the next page."""
        entry, _ = self.until(self.intake.next)
        return cast("Entry", entry)

    def finish(self, entry: Entry) -> list[Event]:
        """Read the only page of a document; return what is told at its end."""
        self.ledger.finish(entry.id, PageResult("in", 1, "Text"), 1)
        self.events.clear()
        self.intake.end(self.ledger.entry(entry.id))
        self.until(lambda: not self.intake._ending)
        return list(self.events)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(openers, "_PROGRAM", Path(hung_opener.__file__))
    made = Desk(FileLimits(most_mib=1))
    yield made
    made.intake.stop()
    made.ledger.close()


def begun(desk: Desk, path: Path) -> Entry:
    path.write_bytes(b"x")
    desk.ledger.register([Document(path, Path(path.name))])
    return desk.page()


def reasons(desk: Desk) -> list[str | None]:
    return [page.error for page in desk.ledger.failed(limit=10)]


def test_a_document_whose_file_stayed_is_done(desk: Desk, tmp_path: Path) -> None:
    told = desk.finish(begun(desk, tmp_path / "a.pdf"))
    assert [type(event) for event in told] == [DocumentDone]
    assert not desk.intake.next()


def test_a_document_whose_file_is_gone_is_done(desk: Desk, tmp_path: Path) -> None:
    entry = begun(desk, tmp_path / "a.pdf")
    (tmp_path / "a.pdf").unlink()
    assert [type(event) for event in desk.finish(entry)] == [DocumentDone]


def test_a_document_that_grew_beyond_the_bound_is_not_done(desk: Desk, tmp_path: Path) -> None:
    entry = begun(desk, tmp_path / "a.pdf")
    os.truncate(tmp_path / "a.pdf", 15 << 40)
    assert desk.finish(entry) == []
    desk.until(lambda: desk.intake.next() or reasons(desk))
    assert reasons(desk) == ["larger than 1 MiB, which `ocr.max_file_mib` allows"]


def test_a_document_that_is_written_while_it_is_compared_is_not_done(
    desk: Desk, tmp_path: Path
) -> None:
    entry = begun(desk, tmp_path / "late-longer.pdf")
    os.utime(tmp_path / "late-longer.pdf", ns=(1, 1))
    assert desk.finish(entry) == []
    assert desk.page().sha256 != entry.sha256


def test_a_document_that_cannot_be_compared_is_told_and_read_again_and_then_failed(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish_in_vain(entry: Entry) -> list[Event]:
        with monkeypatch.context() as patience:
            patience.setattr(openers, "_STALLED_S", 0.2)  # nothing would come in any time
            return desk.finish(entry)

    entry = begun(desk, tmp_path / "late-hung.pdf")
    (gone,) = finish_in_vain(entry)
    assert isinstance(gone, DocumentGone)
    assert "it is read again" in gone.reason
    again = desk.page()
    assert again.id != entry.id
    failed, done = finish_in_vain(again)
    assert isinstance(failed, PageDone)
    assert isinstance(done, DocumentDone)
    (reason,) = reasons(desk)
    assert "it hangs" in str(reason)
    assert not desk.intake.next()


def test_few_descriptors_mean_few_open_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "most", lambda: 8)
    desk = Desk(FileLimits())
    for number in range(6):
        (tmp_path / f"{number}.pdf").write_bytes(b"x")
    desk.ledger.register([Document(path, Path(path.name)) for path in sorted(tmp_path.iterdir())])
    with closing(desk.ledger):
        for number in range(6):
            entry = desk.page()
            assert entry.document.path.name == f"{number}.pdf"
            assert desk.intake._under_way <= 2
            desk.finish(entry)
        assert not desk.intake.next()
        desk.intake.stop()


def test_nothing_is_left_open(desk: Desk, tmp_path: Path) -> None:
    with closing(desk.ledger):
        desk.finish(begun(desk, tmp_path / "a.pdf"))
        assert desk.intake._files == {}
