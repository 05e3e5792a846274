"""One replica under watch: what is known of it, what it suffers from, what is done about it."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from cloister import canary, chat
from cloister.deployment.gauges import KV_USE, READ, RUNNING, TOKENS, WAITING
from cloister.engines import Patience
from cloister.errors import CloisterError
from cloister.watchdog.backoff import Failures
from cloister.watchdog.judgement import Chart, Sighting, Verdict, judge

_RATE_S = 10.0
_REFUSALS = 2  # one may be a page that came at the wrong moment
_FULL = 503


@dataclass(frozen=True)
class Vitals:
    """A replica as `invoke status` shows it; rates are over the last ten seconds.

    `kv_use` is the part of the KV cache in use, from 0 to 1.
    """

    verdict: str
    restarts: int
    running: int | None
    waiting: int | None
    kv_use: float | None
    tokens_per_s: float | None
    pages_per_s: float | None
    memory_mib: int | None


@dataclass
class Ward:
    """One replica; times are of the monotonic clock, in seconds.

    One that is `unrecorded` was found sick and is treated, and the record could not be written.
    `taken` is how often commands had taken it in hand when it was last looked at.
    """

    name: str
    chart: Chart | None = None
    taken: int = 0
    verdict: Verdict = "starting"
    seen: Sighting | None = None
    restarts: int = 0
    died: bool = False
    stuck: bool = False
    failures: Failures = field(default_factory=Failures)
    sick_since_s: float | None = None
    treatment: Future[None] | None = None
    proven: bool = False
    unrecorded: bool = False
    _canary: Future[None] | None = None
    _canary_s: float = field(default_factory=time.monotonic)
    _refusals: int = 0
    _history: deque[Sighting] = field(default_factory=deque)

    def see(self, seen: Sighting, patience: Patience, ready_s: float) -> None:
        """Take in one look."""
        before = self.chart.run if self.chart else ""
        self.verdict, self.chart = judge(self.chart, seen, patience, ready_s)
        self.seen = seen
        self.died = bool(before) and before != self.chart.run
        self.restarts += self.died
        if self.verdict in {"new", "gone"}:
            self._history.clear()
            self._forget_canary()
        if seen.told is not None:
            self._history.append(seen)
        while self._history and seen.at_s - self._history[0].at_s > _RATE_S:
            self._history.popleft()

    def ask(
        self, page: Callable[[], chat.Reading], every_s: float, threads: ThreadPoolExecutor
    ) -> None:
        """Let it read a test page, unless one is under way or the last was not long ago."""
        now = time.monotonic()
        answers = self.verdict in {"idle", "busy"}
        if self._canary is None and answers and now - self._canary_s >= every_s:
            self._canary = threads.submit(lambda: _read(page))
            self._canary_s = now

    def complaint(self, patience: Patience) -> str | None:
        """Return why it is sick, None when it is not known to be."""
        chart, seen = self.chart, self.seen
        if chart is None or seen is None:
            return None
        since_s = seen.at_s - (chart.answered_s or chart.since_s)
        if self.died:
            return "its process ended"
        said = {
            "gone": "it has no process",
            "silent": f"it has not answered for {since_s:.0f} s",
            "stalled": f"{seen.load} pages without progress for "
            f"{seen.at_s - chart.progressed_s:.0f} s",
        }
        return said.get(self.verdict) or self._canary_complaint(patience)

    def vitals(self) -> Vitals:
        """Return what is to be shown."""
        told = (self.seen.told if self.seen else None) or {}
        kv_use = told.get(KV_USE)
        return Vitals(
            verdict=self.verdict,
            restarts=self.restarts,
            running=int(told[RUNNING]) if RUNNING in told else None,
            waiting=int(told[WAITING]) if WAITING in told else None,
            kv_use=None if kv_use is None else round(kv_use, 3),
            tokens_per_s=self._rate(TOKENS),
            pages_per_s=self._rate(READ),
            memory_mib=self.seen.memory_mib if self.seen else None,
        )

    def fail(self, *, stuck: bool) -> None:
        """Count a failure, after which it has to be proven again; `stuck` needs a restart."""
        now = time.monotonic()
        self.failures = self.failures.failed(now)
        self.sick_since_s = self.sick_since_s or now
        self.stuck = stuck
        self._forget_canary()

    def look_away(self) -> None:
        """Forget what was seen of a process that is ended on purpose, or may be."""
        self.chart, self.seen, self.verdict = None, None, "starting"
        self.died = self.stuck = False
        self._history.clear()
        self._forget_canary()

    def _canary_complaint(self, patience: Patience) -> str | None:
        under_way, since_s = self._canary, time.monotonic() - self._canary_s
        if under_way is None:
            return None
        if not under_way.done():
            # Its numbers say that it has nothing to do, so the test page is not in a queue.
            idle = self.verdict == "idle" and since_s > patience.stall_s
            return f"it does not read a test page, for {since_s:.0f} s" if idle else None
        self._canary = None
        error = under_way.exception()
        if error is None:
            self._refusals, self.proven = 0, True
            return None
        if isinstance(error, canary.MisreadError):
            return error.message
        if not isinstance(error, CloisterError):
            raise error
        if isinstance(error, chat.RefusedError) and error.status not in {0, _FULL}:
            self._refusals += 1
            if self._refusals >= _REFUSALS:
                # Its own words may be text of pages, and this is logged.
                return f"it refuses test pages with HTTP status {error.status}"
        return None

    def _forget_canary(self) -> None:
        self._canary, self._refusals, self.proven = None, 0, False

    def _rate(self, name: str) -> float | None:
        if len(self._history) < 2:  # noqa: PLR2004  # a rate is of two looks
            return None
        first, last = self._history[0], self._history[-1]
        grown = (last.told or {}).get(name, 0.0) - (first.told or {}).get(name, 0.0)
        return round(max(0.0, grown) / (last.at_s - first.at_s), 2)


def _read(page: Callable[[], chat.Reading]) -> None:
    page()
