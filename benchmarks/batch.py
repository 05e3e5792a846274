"""`invoke ocr` against the closed-loop load test, on the same engine at the same concurrency.

By turns in one run. Both send the same pages, no two of which are alike; the load test makes its
copies as it goes, `invoke ocr` finds files and keeps its ledger. Pages a second are those of the
middle of each turn.
"""

import argparse
import base64
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import mean, median

from PIL import Image
from stubs import stub

from cloister import config, console, corpus
from cloister.chat import Pass
from cloister.config import Settings, project_root
from cloister.loadtest import client, documents, shapes, stages, target, unique, workload
from cloister.loadtest.client import Crew
from cloister.loadtest.target import Target

_EDGE = 0.15  # of a turn, at either end, is not counted
_FIRST_MS, _CHUNK_MS, _CHUNKS = 300, 20, 60  # 1.5 s a page


class Bench:
    """Pages, and the two ways to have them read."""

    def __init__(self, folder: Path, service: Target, concurrency: int, seconds: float) -> None:
        self._folder, self._service = folder, service
        self._concurrency, self._seconds = concurrency, seconds
        self._turn = 0
        mix = workload.load("quick")
        documents.draw(mix, 1, folder / "pages")
        self._question = documents.question(
            service.settings, mix.output_tokens, synthetic=False, model=service.settings.model.name
        )

    def by_load_test(self) -> float:
        """Return pages a second of a closed loop."""
        self._turn += 1
        run, pages = self._folder / f"{self._turn}", self._folder / "pages"
        with client.started(run, self._service, pages, self._question, Crew(), 1) as locust:
            load = shapes.closed(self._concurrency, self._seconds)
            records, _, _ = stages.sent(locust, load, 0, stages.Clock(self._seconds))
        done_s = [record.done_s for record in records if record.fault is None]
        return _rate(done_s, self._concurrency)

    def by_client(self, pages: int, draw: Callable[[Path, int], None]) -> float:
        """Return pages a second of `invoke ocr` over a folder of so many pages."""
        self._turn += 1
        inputs, out = self._folder / f"{self._turn}-in", self._folder / f"{self._turn}"
        inputs.mkdir()
        draw(inputs, pages)
        words = ("--out", str(out), "--url", self._service.enter.url)
        subprocess.run(
            [
                *(sys.executable, "-m", "invoke", "ocr", str(inputs), *words),
                *("--concurrency", str(self._concurrency)),
            ],
            cwd=project_root(),
            env={**os.environ, "CLOISTER_CONFIG": os.devnull},
            stderr=subprocess.DEVNULL,
            check=True,
        )
        with closing(sqlite3.connect(out / "ledger.sqlite")) as base:
            done_s = [at for (at,) in base.execute("SELECT at FROM pages")]
        return _rate(done_s, self._concurrency)

    def images(self, folder: Path, count: int) -> None:
        """Write files that are sent as they are."""
        copies = [
            (unique.png if sheet.codec == "png" else unique.jpeg)(_opened(self._folder, sheet.file))
            for sheet in documents.sheets(self._folder / "pages")
        ]
        for number in range(count):
            made = copies[number % len(copies)]
            suffix = made.mime.rpartition("/")[2]
            content = base64.b64decode(made.copy(self._turn * 1_000_000 + number))
            (folder / f"{number:06}.{suffix}").write_bytes(content)

    def pdfs(self, folder: Path, count: int) -> None:
        """Write documents of pages that have to be rendered and encoded."""
        kinds = [kind for kind in corpus.KINDS if kind != "blank"]
        for number in range(count):
            made = corpus.generate(kinds[number % len(kinds)], self._turn * 1_000_000 + number)
            (folder / f"{number:06}.pdf").write_bytes(made.pdf)


def _opened(folder: Path, name: str) -> Image.Image:
    with Image.open(folder / "pages" / name) as image:
        image.load()
        return image


def _rate(times_s: list[float], concurrency: int) -> float:
    """Return pages a second from when they were done.

    By how long it takes until as many more are done as are under way: pages that are sent together
    are done together, and a count between two moments would depend on the moments.
    """
    times_s.sort()
    edge = int(len(times_s) * _EDGE)
    inner = times_s[edge : len(times_s) - edge]
    rounds = [later - sooner for sooner, later in zip(inner, inner[concurrency:], strict=False)]
    return concurrency / mean(rounds)


@contextmanager
def service(kind: str, settings: Settings) -> Iterator[Target]:
    """Bring up what reads the pages."""
    if kind == "stub":
        with stub(first_ms=_FIRST_MS, chunk_ms=_CHUNK_MS, chunks=_CHUNKS) as served:
            yield Target(Pass(served.url), settings, "stub")
        return
    with target.for_the_occasion(settings, console.say) as made:
        yield made


def main() -> None:
    """Print a table of turns, and the ratio of the medians."""
    parser = argparse.ArgumentParser(prog="nox -s bench-batch --", description=__doc__)
    parser.add_argument("--engine", choices=("stub", "embedded"), default="stub")
    parser.add_argument("--input", choices=("images", "pdfs"), default="images")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=30, help="of a turn")
    parser.add_argument("--turns", type=int, default=3)
    chosen = parser.parse_args()
    settings = config.load().settings
    rows: list[tuple[str, ...]] = []
    ratios = []
    with (
        tempfile.TemporaryDirectory() as folder,
        service(chosen.engine, settings) as reached,
    ):
        bench = Bench(Path(folder), reached, chosen.concurrency, chosen.seconds)
        for _ in range(chosen.turns):
            load = bench.by_load_test()
            pages = max(20, round(load * chosen.seconds))
            read = bench.by_client(pages, getattr(bench, chosen.input))
            ratios.append(read / load)
            rows.append((f"{load:.2f}", f"{read:.2f}", f"{read / load:.3f}"))
            console.say("  ".join(rows[-1]))
    console.table(("load test, pages/s", "invoke ocr, pages/s", "ratio"), rows)
    console.show(f"median ratio: {median(ratios):.3f}")


if __name__ == "__main__":
    main()
