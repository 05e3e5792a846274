"""How long a page waits for a service that does not take it."""

from dataclasses import dataclass

from cloister.errors import OcrError
from cloister.ocr.asking import Outcome
from cloister.ocr.job import Job

PATIENCE_S = 120.0
_WAIT_S = (0.5, 5.0)  # first and longest wait when the service names none
_LONGEST_ASKED_S = 60.0
_STRIKES = 5
_UNREACHED = 0


@dataclass
class Patience:
    """Tells a service that is away from a page that breaks it; seconds are of one clock."""

    _read_s: float = float("-inf")
    _refused_s: float | None = None

    def answered(self, job: Job, now_s: float) -> None:
        """Note that a page was answered: the service is there."""
        self._read_s, self._refused_s = now_s, None
        job.refusals = 0

    def wait_s(self, job: Job, outcome: Outcome, now_s: float) -> float | None:
        """Return how long to wait before it is asked again, None when it is its own fault.

        That it is when the service broke off again and again while it answered other pages.
        Raises OcrError when it has not answered any for two minutes.
        """
        job.refusals += 1
        if self._refused_s is None:
            self._refused_s = now_s
        others_read = self._read_s > job.sent_s
        broke = outcome.broken or outcome.status == 502  # noqa: PLR2004
        if broke and outcome.status != _UNREACHED and others_read:
            job.strikes += 1
            if job.strikes >= _STRIKES:
                return None
        away_s = now_s - self._refused_s
        if away_s > PATIENCE_S:
            raise OcrError(
                f"{outcome.message}, for {away_s:.0f} s now: the pages that are left were not read",
                hint="invoke status",
            )
        first, longest = _WAIT_S
        if outcome.retry_after_s is not None:
            return min(outcome.retry_after_s, _LONGEST_ASKED_S)
        return min(longest, first * 2.0 ** (job.refusals - 1))
