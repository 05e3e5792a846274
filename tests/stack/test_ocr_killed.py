"""`invoke ocr`, killed at any moment: no page is lost, none is asked for twice for nothing."""

import random
from pathlib import Path

from deployments import Stack
from killed_runs import (
    KilledRuns,
    check_every_page_once,
    finished,
    repeated,
    summary,
    write_documents,
)
from page_stubs import page_stub
from repetitions import REPETITIONS

_CONCURRENCY = 8
# After how many requests a run is killed: before its first one, with its first one, with the first
# file under way, and in the middle of things.
_MOMENTS = (0, 1, 6, 30)
_MOST = 40
_LATER = 20  # pages that are answered after the one that a kill waits for, and no more


def test_killed_runs_lose_and_repeat_nothing(tmp_path: Path) -> None:
    """`nox -s bench-survival` does it with 2,000 pages and 30 kills."""
    chance = random.Random(2)
    more = (chance.randrange(_MOST) for _ in range(REPETITIONS.random_kills))
    moments = (*_MOMENTS, *more)
    pages = sum(moments) + len(moments) * (_LATER + _CONCURRENCY)
    write_documents(tmp_path / "in", files=pages // 12, pages=pages, seed=1)
    (tmp_path / "cloister.yaml").touch()
    with page_stub(delay_ms=150) as stub:
        flags = ("--url", stub.url, "--concurrency", str(_CONCURRENCY))
        user, out = Stack(tmp_path, 9), tmp_path / "out"
        run = KilledRuns(user, tmp_path / "in", out, flags, chance, stub.requests)
        for after in moments:
            # However late the kill comes on a busy machine, pages are left for the next one.
            stub.behave(hold=stub.requests() + after + _LATER)
            run.kill_once(after)
            run.check_requests(stub.counts()["asked"])
        assert 0 < len(finished(run.ledger)) < pages, "all or nothing was read before the last kill"
        stub.behave(hold=None)
        run.finish()
        asked = stub.counts()["asked"]
    run.check_requests(asked)
    assert repeated(asked) <= run.kills * _CONCURRENCY
    hashes = finished(run.ledger)

    def is_text(said: str, name: str, number: int) -> bool:
        return said == f"page {hashes[name, number]}"

    check_every_page_once(out, run.source, is_text, count=pages)
    assert summary(run)["read"] == pages
    assert not list(out.glob(".partial"))
