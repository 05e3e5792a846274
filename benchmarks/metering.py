"""What a page costs a client: its processor time beside the pages that the server counts."""

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psutil

_LOOK_S = 0.25


def processor_s(processes: Iterable[psutil.Process]) -> float:
    """Return the processor time that processes have used, in seconds."""
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)


class Counts(NamedTuple):
    """What the server has counted: pages, and the seconds of all their TTFTs and E2Es."""

    pages: float
    ttft_s: float = math.nan
    e2e_s: float = math.nan


class Meter:
    """The processor time of a client's processes and the pages answered, over time."""

    def __init__(self, pid: int, counts: Callable[[], Counts]) -> None:
        self._client, self._counts = psutil.Process(pid), counts
        self._notes: list[tuple[float, float]] = []
        self._over = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure as long as the block runs."""
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    @property
    def ms_a_page(self) -> float:
        """Milliseconds of a core between the first and the last tenth of the pages."""
        first, last = self._notes[0][0], self._notes[-1][0]
        tenth = (last - first) / 10
        inner = [note for note in self._notes if first + tenth <= note[0] <= last - tenth]
        (pages, before), *_, (more, after) = inner
        return (after - before) / (more - pages) * 1000

    def _run(self) -> None:
        while not self._over.wait(_LOOK_S):
            try:
                used = processor_s((self._client, *self._client.children(recursive=True)))
                self._notes.append((self._counts().pages, used))
            except (psutil.NoSuchProcess, LookupError):
                continue  # a process, or the server's answer, that was gone
