"""The reader: documents to pages to requests to results, with a bounded number of each at once.

One thread decides. Renderers and senders work beside it, and tell it by one queue what came of
their work; whatever they told is in the ledger before anybody hears of it.
"""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from queue import Empty, SimpleQueue
from typing import cast

from cloister.cleaning import Cleaned, clean
from cloister.errors import OcrError
from cloister.ocr import ladder
from cloister.ocr.asking import Outcome
from cloister.ocr.events import Event, PageDone
from cloister.ocr.intake import Intake
from cloister.ocr.job import Job
from cloister.ocr.judging import Fault
from cloister.ocr.ledger import Ledger
from cloister.ocr.openers import Openers
from cloister.ocr.patience import Patience
from cloister.ocr.pending import Pending
from cloister.ocr.rules import Rules
from cloister.ocr.senders import Senders
from cloister.ocr.window import Window
from cloister.rendering import Drawn, Renderers, UnreadableError

_LOOK_FOR_MORE_S = 1.0
_TEXT_LAYER = "text layer"  # an engine that is none
# What a service says that would say the same of every page.
_CLOSED = frozenset({401, 403, 404, 405, 421})
_OK, _BUSY = 200, frozenset({0, 408, 429, 502, 503})


class Reader:
    """Reads the open pages of a ledger's run, `ahead` of them drawn before they can be sent.

    `more` is asked for further documents at the end: it registers them in the ledger, and returns
    whether it may ever have others.
    """

    def __init__(  # noqa: PLR0913  # its parts, each of which a test replaces
        self,
        ledger: Ledger,
        renderers: Renderers,
        openers: Openers,
        senders: Senders,
        window: Window,
        rules: Rules,
        *,
        ahead: int,
        more: Callable[[], bool] = lambda: False,
    ) -> None:
        self._ledger, self._renderers, self._senders = ledger, renderers, senders
        self._window, self._rules = window, rules
        self._ahead, self._more = ahead, more
        self._patience = Patience()
        self._told: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._events: deque[Event] = deque()
        self._intake = Intake(ledger, renderers, openers, self._told, self._events, rules.recipe)
        self._jobs = 0
        self._idle_s = 0.0
        self._ready: deque[Job] = deque()
        self._pending = Pending(senders.timeout_s)
        self._leaders: dict[str, Job] = {}

    def events(self) -> Iterator[Event]:
        """Read until nothing is left; raises OcrError when the service is gone or shut."""
        try:
            more = True
            while more or self._events:
                with self._ledger.together():
                    self._listen()
                    more = self._fill()
                # One at a time: while somebody writes a document, pages come and others have to go.
                if self._events:
                    yield self._events.popleft()
        finally:
            self._senders.stop()
            self._intake.stop()

    def _listen(self) -> None:
        """Wait until something happened or is due, and take in all that happened."""
        wait_s = None if self._jobs or self._intake.busy else self._idle_s
        self._idle_s = _LOOK_FOR_MORE_S
        if self._events:
            wait_s = 0.0
        if wait_s is None:
            resumes_s = self._window.resumes_s if self._ready else 0.0
            wait_s = self._pending.wait_s(time.monotonic(), [*self._intake.due_s, resumes_s])
        try:
            self._told.get(timeout=wait_s)()
            while True:
                self._told.get_nowait()()
        except Empty:
            return

    def _fill(self) -> bool:
        """Give work to whoever has none; return whether there is any left."""
        now_s = time.monotonic()
        self._ready.extend(self._pending.due(now_s))
        if (wait := self._pending.waiting(now_s)) is not None:
            self._events.append(wait)
        while self._jobs < int(self._window.limit) + self._ahead and (page := self._intake.next()):
            self._jobs += 1
            self._draw(Job(*page))
        self._send_ready()
        return bool(self._jobs or self._intake.busy) or self._more()

    def _draw(self, job: Job) -> None:
        drawing = job.drawing(self._rules.drawing)
        future = self._renderers.draw(self._intake.path(job.entry), job.number, drawing)
        future.add_done_callback(lambda done: self._told.put(partial(self._drawn, job, done)))

    def _drawn(self, job: Job, future: "Future[Drawn]") -> None:
        try:
            drawn = future.result()
        except UnreadableError as error:
            if job.fault is None:
                self._close(job, None, error.message)
            else:  # only this way of drawing it is too much
                self._climb(job, job.fault)
            return
        job.drawn = drawn
        if job.first is not None or self._is_wanted(job, drawn):
            self._ready.append(job)

    def _is_wanted(self, job: Job, drawn: Drawn) -> bool:
        """Tell whether a page has to be asked for: it has no text, and no other page its image."""
        job.first = drawn
        if drawn.text is not None:
            self._close(job, clean(drawn.text), None, engine=_TEXT_LAYER)
            return False
        if (leader := self._leaders.get(drawn.sha256)) is not None:
            leader.followers.append(job)
            return False
        if (known := self._ledger.same_image(drawn.sha256, self._rules.recipe)) is not None:
            self._close(job, known.cleaned, None, reused=True, engine=known.engine)
            return False
        self._leaders[drawn.sha256] = job
        return True

    def _send_ready(self) -> None:
        room = self._window.room(self._senders.under_way, time.monotonic())
        for _ in range(min(len(self._ready), room)):
            self._send(self._ready.popleft())

    def _send(self, job: Job) -> None:
        drawn, rules = cast("Drawn", job.drawn), self._rules  # nothing else is ready
        temperature = max(rules.temperature, job.step.temperature)
        self._pending.sent(job, time.monotonic())
        self._senders.send(
            partial(rules.question.body, drawn.image, drawn.mime, temperature),
            lambda outcome: self._told.put(partial(self._answered, job, outcome)),
            job.hears,
        )

    def _answered(self, job: Job, outcome: Outcome | Exception) -> None:
        under_way = self._senders.under_way
        self._senders.answered()
        self._pending.answered(job)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome.status == _OK:
            self._send_ready()  # before anything else: the engine has a free seat
        job.note(outcome)
        self._ledger.asked(job.entry.id, job.number, job.facts(outcome))
        if outcome.status in _CLOSED:
            raise OcrError(f"the service refuses every page: {outcome.message}")
        if outcome.status in _BUSY or outcome.broken:
            self._put_off(job, outcome)
            return
        self._window.answered(under_way)
        self._patience.answered(job, time.monotonic())
        self._pending.taken()
        fault = outcome.fault()
        if fault is None:
            self._take(job, outcome)
        elif fault.kind == "empty":
            part = job.drawing(self._rules.drawing).part
            looked = self._renderers.blank(self._intake.path(job.entry), job.number, part)
            looked.add_done_callback(
                lambda done: self._told.put(partial(self._looked, job, outcome, fault, done))
            )
        else:
            self._fail(job, fault)

    def _put_off(self, job: Job, outcome: Outcome) -> None:
        """Ask again later; raises OcrError when the service is gone."""
        now_s = time.monotonic()
        wait_s = self._patience.wait_s(job, outcome, now_s)
        if wait_s is None:
            self._fail(job, Fault("torn", outcome.message))
            return
        if outcome.status in {429, 503}:
            self._window.refused(now_s, wait_s)
        self._pending.put_off(job, outcome, now_s, wait_s)

    def _take(self, job: Job, outcome: Outcome) -> None:
        job.useful += outcome.tokens
        self._go_on(job, outcome.page)

    def _fail(self, job: Job, fault: Fault) -> None:
        """Try a page in another way, but first read its other pieces: something may be kept."""
        if job.step.pieces == 1:
            self._climb(job, fault)
        else:
            job.piece_fault = job.piece_fault or fault
            self._go_on(job, fault.kept or Cleaned(""))

    def _go_on(self, job: Job, text: Cleaned) -> None:
        if not job.take(text):
            self._draw(job)
        elif job.piece_fault is None:
            self._close(job, job.text, None)
        else:
            self._climb(job, replace(job.piece_fault, kept=job.text or None))

    def _looked(self, job: Job, outcome: Outcome, fault: Fault, future: "Future[bool]") -> None:
        """Take an empty text for what it is, if nothing is on the page."""
        try:
            blank = future.result()
        except UnreadableError as error:
            self._close(job, None, error.message)
            return
        if blank:
            self._take(job, outcome)
        else:
            self._fail(job, fault)

    def _climb(self, job: Job, fault: Fault) -> None:
        """Try a page in another way, or give it up with what there is of it."""
        job.fault = fault
        if len(fault.kept or "") > len(job.kept or ""):
            job.kept = fault.kept
        rules = self._rules
        step = ladder.following(
            fault.kind, job.tried, attempts=rules.attempts, samples=rules.samples
        )
        if step is None:
            self._give_up(job, fault)
            return
        job.begin(step)
        if job.drawn is None:
            self._draw(job)
        else:
            self._ready.append(job)

    def _give_up(self, job: Job, fault: Fault) -> None:
        if not self._rules.falls_back:
            self._close(job, job.kept, fault.reason)
            return
        drawing = replace(self._rules.drawing, text_layer=True)
        future = self._renderers.draw(self._intake.path(job.entry), job.number, drawing)
        future.add_done_callback(
            lambda done: self._told.put(partial(self._fall_back, job, fault, done))
        )

    def _fall_back(self, job: Job, fault: Fault, future: "Future[Drawn]") -> None:
        """Take the page's own text, if it has a good one, and say so in it."""
        with contextlib.suppress(UnreadableError):
            if (text := future.result().text) is not None:
                note = f"> **This is the file's own text, not the model's:** {fault.reason}"
                job.useful = 0
                self._close(job, clean(f"{note}\n\n{text}"), None, engine=_TEXT_LAYER)
                return
        self._close(job, job.kept, fault.reason)

    def _close(
        self,
        job: Job,
        text: Cleaned | None,
        error: str | None,
        *,
        reused: bool = False,
        engine: str | None = None,
    ) -> None:
        result = job.result(text, error, reused=reused, engine=engine)
        if job.first is not None and self._leaders.get(job.first.sha256) is job:
            del self._leaders[job.first.sha256]
        self._jobs -= 1
        whole = self._ledger.finish(job.entry.id, result, self._rules.recipe)
        self._events.append(PageDone(job.entry, result, job.first))
        if whole:
            self._intake.end(self._ledger.entry(job.entry.id))
        for follower in job.followers:
            self._close(follower, text, error, reused=True, engine=result.engine)
