"""Pages that are not at the reader: sent and not answered, or to be sent again later."""

import heapq
import itertools
from collections.abc import Iterable

from cloister.ocr.asking import Outcome
from cloister.ocr.events import Waiting
from cloister.ocr.job import Job
from cloister.ocr.patience import PATIENCE_S

_SILENT_S = 2.0  # a wait that is told
_EVERY_S = 1.0


class Pending:
    """Keeps those pages, and tells of the longest silence; times are seconds of one clock.

    `silence_s` is how long an engine may say nothing.
    """

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self._sent: dict[int, Job] = {}
        self._later: list[tuple[float, int, Job, str]] = []
        self._order = itertools.count()
        self._refused_s: float | None = None
        self._told_s = float("-inf")

    def sent(self, job: Job, now_s: float) -> None:
        """Note that a page was sent."""
        job.sent_s = job.heard_s = now_s
        self._sent[id(job)] = job

    def answered(self, job: Job) -> None:
        """Note that there is an answer, or none any more."""
        del self._sent[id(job)]

    def taken(self) -> None:
        """Note that the service takes pages."""
        self._refused_s = None

    def put_off(self, job: Job, outcome: Outcome, now_s: float, wait_s: float) -> None:
        """Keep a page that the service did not take until it is to be sent again."""
        self._refused_s = now_s if self._refused_s is None else self._refused_s
        later = (now_s + wait_s, next(self._order), job, outcome.message)
        heapq.heappush(self._later, later)

    def due(self, now_s: float) -> list[Job]:
        """Take out the pages that are to be sent again now."""
        jobs = []
        while self._later and self._later[0][0] <= now_s:
            jobs.append(heapq.heappop(self._later)[2])
        return jobs

    def wait_s(self, now_s: float, due_s: Iterable[float]) -> float | None:
        """Return how long nothing is to be done or told, None when there is no end to that.

        At those of `due_s` that are still to come there is.
        """
        times = [self._later[0][0]] if self._later else []
        if self._sent or self._later:
            times.append(now_s + _EVERY_S)
        times += [one_s for one_s in due_s if one_s > now_s]
        return max(0.0, min(times) - now_s) if times else None

    def waiting(self, now_s: float) -> Waiting | None:
        """Return the longest wait, once a second, None when nothing is waited for for long."""
        found = self._silent(now_s) or self._refused(now_s)
        if found is None or found.seconds < _SILENT_S or now_s - self._told_s < _EVERY_S:
            return None
        self._told_s = now_s
        return found

    def _silent(self, now_s: float) -> Waiting | None:
        if not self._sent or (self._refused_s is not None and self._later):
            return None
        job = min(self._sent.values(), key=lambda one: one.heard_s)
        what = f"page {job.number} of {job.entry.document.shown}"
        return Waiting(what, now_s - job.heard_s, self._silence_s)

    def _refused(self, now_s: float) -> Waiting | None:
        if not self._later or self._refused_s is None:
            return None
        message = self._later[0][3]
        what = f"the service, which takes no page ({message}),"
        return Waiting(what, now_s - self._refused_s, PATIENCE_S)
