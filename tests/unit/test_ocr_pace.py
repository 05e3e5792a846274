"""How many pages are under way, and how long one waits."""

from pathlib import Path

import pytest

from cloister.errors import OcrError
from cloister.ocr.asking import Outcome
from cloister.ocr.documents import Document, Entry
from cloister.ocr.job import Job
from cloister.ocr.patience import Patience
from cloister.ocr.window import Window


def job() -> Job:
    document = Document(Path("a.pdf"), Path("a.pdf"))
    return Job(Entry(1, document, Path("a"), None, None, 1, None), 1)


def test_a_window_grows_by_one_in_a_round_and_only_when_it_is_used_up() -> None:
    window = Window(4, most=6)
    for _ in range(4):
        window.answered(under_way=3)
    assert window.limit == 4
    for _ in range(5):
        window.answered(under_way=int(window.limit))
    assert 5 <= window.limit < 5.3
    for _ in range(100):
        window.answered(under_way=int(window.limit))
    assert window.limit == 6


def test_a_window_shrinks_once_for_refusals_that_come_together_and_waits() -> None:
    window = Window(20, most=40)
    for _ in range(10):
        window.refused(now_s=100.0, wait_s=2.0)
    assert window.limit == pytest.approx(14)
    assert window.room(0, 101.9) == 0
    assert window.room(4, 102.0) == 10
    for number in range(50):
        window.refused(now_s=200.0 + 2 * number, wait_s=0)
    assert window.limit == 1


def test_a_fixed_window_stays() -> None:
    window = Window(8, most=8, least=8)
    window.refused(1.0, 0.0)
    window.answered(8)
    assert window.limit == 8


def test_waits_grow_unless_the_service_names_one() -> None:
    patience, page = Patience(), job()
    full = Outcome(503, 0.0, message="HTTP 503: full")
    waits = [patience.wait_s(page, full, now_s=1.0) for _ in range(5)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 5.0]
    asked = Outcome(503, 0.0, message="", retry_after_s=7.0)
    assert patience.wait_s(page, asked, now_s=1.0) == 7.0
    patience.answered(page, now_s=2.0)
    assert patience.wait_s(page, full, now_s=3.0) == 0.5


def test_a_service_that_is_away_for_two_minutes_ends_the_run() -> None:
    patience, page = Patience(), job()
    away = Outcome(0, 0.0, message="`u` cannot be reached: refused", broken=True)
    page.sent_s = 0.0
    assert patience.wait_s(page, away, now_s=1.0)
    page.sent_s = 119.0
    assert patience.wait_s(page, away, now_s=119.5)
    page.sent_s = 122.0
    other = job()  # one clock for all pages: a fresh one does not begin anew
    with pytest.raises(OcrError, match="for 121 s now: the pages that are left were not read"):
        patience.wait_s(other, away, now_s=122.0)


def test_a_page_that_breaks_the_service_is_given_up_while_others_are_read() -> None:
    patience, page, other = Patience(), job(), job()
    torn = Outcome(200, 0.0, message="the answer broke off", broken=True)
    waits = []
    for now_s in range(10, 100, 10):
        page.sent_s = now_s
        patience.answered(other, now_s + 1)
        waits.append(patience.wait_s(page, torn, now_s + 2))
        if waits[-1] is None:
            break
    assert len(waits) == 5


def test_a_page_that_is_refused_for_long_waits_while_others_are_read() -> None:
    patience, page, other = Patience(), job(), job()
    full = Outcome(503, 0.0, message="HTTP 503: full")
    for now_s in range(0, 600, 10):
        page.sent_s = now_s
        patience.answered(other, now_s + 1)
        assert patience.wait_s(page, full, now_s + 2) is not None
