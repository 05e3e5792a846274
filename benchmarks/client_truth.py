"""What the load test's client says of a server whose times are known, and what it costs.

The stub's first text comes 100 ms after the page, then one chunk every 20 ms.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stubs import stub

from benchmarks.metering import processor_s
from cloister import config, console
from cloister.chat import Pass
from cloister.loadtest import client, documents, shapes, stages, statistics, workload
from cloister.loadtest.client import Client, Crew
from cloister.loadtest.documents import Question
from cloister.loadtest.target import Target

_FIRST_MS, _CHUNK_MS = 100, 20
_SETTLED_S = 10.0


def measured(
    folder: Path, streams: tuple[int, ...], chunks: int, seconds: float
) -> Iterator[tuple[object, ...]]:
    """Yield a row a number of streams."""
    mix = workload.load("quick")
    documents.draw(mix, 1, folder / "pages")
    question = Question("stub", "Read it.", 100, 0, mix.output_tokens)
    settings = config.load().settings
    for number in streams:
        with stub(first_ms=_FIRST_MS, chunk_ms=_CHUNK_MS, chunks=chunks) as served:
            target = Target(Pass(served.url), settings, "stub")
            run = folder / str(number)
            with client.started(run, target, folder / "pages", question, Crew(), 1) as locust:
                used = _Used(locust)
                load, clock = shapes.closed(number, seconds), stages.Clock(seconds)
                records, begun_s, _ = stages.sent(locust, load, 0, clock, used.note)
        settled = [one for one in records if one.sent_s > begun_s + _SETTLED_S]
        first = sorted(one.first_s * 1000 for one in settled if one.first_s)
        chunk = sorted((one.tpot_s or 0) * 1000 for one in settled)
        yield (
            number,
            len(settled),
            sum(one.fault is not None for one in settled),
            _off(statistics.percentile(first, 0.5), _FIRST_MS),
            _off(statistics.percentile(first, 0.95), _FIRST_MS),
            _off(statistics.percentile(chunk, 0.5), _CHUNK_MS),
            f"{used.cores:.0%}",
            f"{used.cores / len(settled) * (seconds - _SETTLED_S) * 1000:.2f} ms",
        )


class _Used:
    """The processor time of a client's processes, once it has settled."""

    def __init__(self, locust: Client) -> None:
        self._processes = locust.processes()
        self._notes: list[tuple[float, float]] = []

    def note(self, _pages: int, elapsed_s: float) -> None:
        if elapsed_s > _SETTLED_S:
            self._notes.append((elapsed_s, processor_s(self._processes)))

    @property
    def cores(self) -> float:
        (begin_s, before), *_, (end_s, after) = self._notes
        return (after - before) / (end_s - begin_s)


def _off(found: float, true: float) -> str:
    return f"{found:.1f} ({found / true - 1:+.1%})"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="nox -s bench-client --", description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 64, 128, 256, 512])
    parser.add_argument("--chunks", type=int, default=250, help="of each page")
    parser.add_argument("--seconds", type=float, default=30)
    chosen = parser.parse_args()
    columns = ("streams", "pages", "faults", "TTFT p50, ms", "TTFT p95, ms", "between chunks, ms")
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(Path(folder), tuple(chosen.streams), chosen.chunks, chosen.seconds)
        console.table((*columns, "of a core", "CPU a page"), list(rows))


if __name__ == "__main__":
    main()
