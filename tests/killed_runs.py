"""Runs of `invoke ocr` that are killed again and again, and what may not come of it."""

import json
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from deployments import ROOT, Stack, eventually, program
from page_stubs import document

# After the page that a kill waits for: about one page's time, so that kills fall between a request,
# its answer and what is written of it.
_LONGER_S = 0.2


def write_documents(folder: Path, files: int, pages: int, seed: int) -> None:
    """Write so many files with so many pages in all, each file with one page or more."""
    sizes = Counter(random.Random(seed).choices(range(files), k=pages - files))
    folder.mkdir(parents=True)
    for number in range(files):
        name = f"document-{number:04}"
        (folder / f"{name}.pdf").write_bytes(document(name, [None] * (1 + sizes[number])))


def finished(ledger: Path) -> dict[tuple[str, int], str]:
    """Return the hashes of the images of the pages that a ledger says are read."""
    if not ledger.exists():
        return {}
    with closing(sqlite3.connect(ledger)) as base:
        try:
            rows = base.execute(
                "SELECT name, number, pages.sha256 FROM pages JOIN documents ON id = document "
                "WHERE state = 'read'"
            ).fetchall()
        except sqlite3.OperationalError:
            return {}  # killed before there were tables
    return {(name, number): sha256 for name, number, sha256 in rows}


@dataclass
class KilledRuns:
    """One folder of documents, read by runs that are killed."""

    user: Stack
    source: Path
    out: Path
    flags: tuple[str, ...]
    rng: random.Random
    requests: Callable[[], int]  # how many pages the service was asked for, by all runs
    kills: int = 0
    outputs: dict[Path, tuple[int, bytes]] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)

    @property
    def ledger(self) -> Path:
        return self.out / "ledger.sqlite"

    def command(self) -> list[str]:
        words = (str(self.source), "--out", str(self.out), *self.flags)
        return [sys.executable, "-m", "invoke", "ocr", *words]

    def kill_once(self, after: int) -> None:
        """Start a run, kill it once it asked for so many pages, and check what it wrote.

        With no page at all it is killed as soon as there is a ledger.
        """
        wanted = self.requests() + after
        with program(self.command(), env=self.user.environment, stderr=subprocess.DEVNULL) as run:
            eventually(lambda: self._require_begun(wanted), within_s=120)
            time.sleep(self.rng.uniform(0, _LONGER_S))
            run.send_signal(signal.SIGKILL)
            assert run.wait() == -signal.SIGKILL, "it was over before it was killed: more pages"
        self.kills += 1
        self.check_outputs()

    def _require_begun(self, wanted: int) -> None:
        assert self.ledger.exists()
        assert self.requests() >= wanted

    def check_outputs(self) -> None:
        """No output is half of a document, and none is ever written twice."""
        for path in self.out.rglob("*.md"):
            now = path.stat().st_mtime_ns, path.read_bytes()
            assert self.outputs.setdefault(path, now) == now, path

    def check_requests(self, asked: Mapping[str, int]) -> None:
        """Nothing that was finished before was asked for since; `asked` counts by image."""
        assert all(asked[sha256] == times for sha256, times in self.asked.items())
        self.asked = {sha256: asked[sha256] for sha256 in finished(self.ledger).values()}

    def finish(self) -> None:
        """Let a run come to its end."""
        subprocess.run(
            self.command(), cwd=ROOT, env=self.user.environment, check=True, capture_output=True
        )
        self.check_outputs()


def check_every_page_once(
    out: Path, source: Path, is_text: Callable[[str, str, int], bool], count: int
) -> None:
    """Assert that each page of each file is in its output once, with its own text.

    `is_text` tells of a text whether it is that of the page of this file and number.
    """
    total = 0
    for path in sorted(source.glob("*.pdf")):
        text = (out / f"{path.stem}.md").read_text()
        pages = re.split(r'<a id="page-(\d+)"></a>', text)[1:]
        numbers = [int(number) for number in pages[::2]]
        assert numbers == list(range(1, len(numbers) + 1)), path
        for number, said in zip(numbers, pages[1::2], strict=True):
            assert is_text(said.strip(), path.name, number), (path, number, said)
        total += len(numbers)
    assert total == count


def repeated(asked: Mapping[str, int]) -> int:
    """Return how many requests were for a page that had been asked for before."""
    return sum(count - 1 for count in asked.values())


def summary(run: KilledRuns) -> dict[str, int]:
    """Return what `--status` says."""
    done = run.user.invoke("ocr", "--status", "--out", str(run.out), "--json")
    told: dict[str, int] = json.loads(done.stdout)
    return told
