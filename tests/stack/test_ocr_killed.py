"""`invoke ocr`, killed at any moment: no page is lost, none is asked for twice for nothing."""

import random
from pathlib import Path

import pytest
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

_CONCURRENCY = 8
_PAGES = 700  # more than can be read in what the six runs have, of 150 ms a page


@pytest.mark.alone
def test_killed_runs_lose_and_repeat_nothing(tmp_path: Path) -> None:
    """`nox -s bench-survival` does it with 2,000 pages and 30 kills."""
    write_documents(tmp_path / "in", files=60, pages=_PAGES, seed=1)
    (tmp_path / "cloister.yaml").touch()
    with page_stub(delay_ms=150) as stub:
        flags = ("--url", stub.url, "--concurrency", str(_CONCURRENCY))
        user, out = Stack(tmp_path, 9), tmp_path / "out"
        run = KilledRuns(user, tmp_path / "in", out, flags, random.Random(2))
        for _ in range(6):
            run.kill_once()
            run.check_requests(stub.counts()["asked"])
        assert len(finished(run.ledger)) < _PAGES, "all was read before the last kill"
        run.finish()
        asked = stub.counts()["asked"]
    run.check_requests(asked)
    assert repeated(asked) <= run.kills * _CONCURRENCY
    hashes = finished(run.ledger)

    def is_text(said: str, name: str, number: int) -> bool:
        return said == f"page {hashes[name, number]}"

    check_every_page_once(out, run.source, is_text, count=_PAGES)
    assert summary(run)["read"] == _PAGES
    assert not list(out.glob(".partial"))
