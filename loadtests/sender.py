"""One page out and its answer back, measured at the socket."""

import itertools
import time
from random import Random
from typing import Any

import gevent
from gevent.pool import Pool
from locust.contrib.fasthttp import FastHttpSession

from cloister import scoring
from cloister.loadtest import faults
from cloister.loadtest.documents import Letter
from cloister.loadtest.record import Record
from cloister.sse import Answer, of_connection
from loadtests.course import Course, Order
from loadtests.listener import Listener

PATH = "/v1/chat/completions"
_WORKER_BITS, _RUN_BITS = 24, 32
_OK = 200
_BEGIN_PER_S = 100
_numbers = itertools.count()


class Sender:
    """Sends the pages of a course through one of Locust's sessions."""

    def __init__(self, client: FastHttpSession, course: Course) -> None:
        self._client = client
        self._course = course
        self._random = Random(f"{course.run.seed}/{course.worker}/{next(_numbers)}")  # noqa: S311
        self._pages = self._shuffled()
        self._order: Order | None = None

    def begin(self, order: Order) -> None:
        """Wait a moment before a load's first page: clients that begin in step would stay in it."""
        if order is not self._order:
            self._order = order
            spread_s = max(1.0, (order.users or 1) / _BEGIN_PER_S)
            gevent.sleep(self._random.random() * spread_s)

    def ask(self, order: Order) -> None:
        """Send one page now, and wait for its answer."""
        gevent.sleep(self._send(order, None).pause_s)

    def follow(self, order: Order) -> None:
        """Send pages at their times, whatever becomes of those before."""
        pool = Pool()
        for offset_s in order.offsets_s or ():
            due_s = order.begin_s + offset_s
            gevent.sleep(max(0.0, due_s - time.time()))
            pool.spawn(self._send, order, due_s)
        pool.join()

    def _send(self, order: Order, due_s: float | None) -> Record:
        letter = next(self._pages)
        body = letter.body(self._number(), self._random)
        sent_s, answer = time.time(), Answer(time.perf_counter())
        url = self._direct() if order.direct else PATH
        with self._client.post(
            url,
            data=body,
            headers=self._course.run.headers,
            stream=True,
            catch_response=True,
            name="page",
        ) as response:
            self._follow(response, answer)
            record = self._record(order, letter, answer, response, (due_s or sent_s, sent_s))
            response.request_meta["response_time"] = answer.end_s * 1000
            if record.fault is None:
                response.success()
            else:
                response.failure(record.fault)
        self._course.done(record)
        return record

    def _follow(self, response: Any, answer: Answer) -> None:
        kind = (response.headers or {}).get("Content-Type") or ""
        if response.status_code == 0:
            answer.broken = of_connection(response.error)
        elif response.status_code == _OK and kind.startswith("text/event-stream"):
            stream = response._response  # noqa: SLF001  # iter_lines holds tokens back
            answer.follow(Listener(stream, self._course.run.timeout_s))
            return
        elif response.status_code == _OK:
            answer.broken = "not a stream"
        answer.end_s = time.perf_counter() - answer.start

    def _record(
        self,
        order: Order,
        letter: Letter,
        answer: Answer,
        response: Any,
        times_s: tuple[float, float],
    ) -> Record:
        text, sheet = answer.page.text, letter.sheet
        noise = self._course.run.question.lengths is not None
        fault = faults.fault(response.status_code, answer, blank=letter.blank, length_wanted=noise)
        scored = fault is None and not noise
        headers = response.headers or {}
        return Record(
            stage=order.number,
            kind=sheet.kind,
            scheduled_s=times_s[0],
            sent_s=times_s[1],
            first_s=answer.first_s,
            end_s=answer.end_s,
            chunks=answer.chunks,
            gap_s=answer.gap_s,
            status=response.status_code,
            fault=fault,
            finish_reason=answer.finish_reason,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            cached_tokens=answer.cached_tokens,
            request_id=headers.get("X-Request-ID"),
            replica=headers.get("X-Cloister-Replica"),
            cer=scoring.cer(sheet.truth, text) if scored and sheet.truth else None,
            fields=scoring.field_recall(sheet.fields, text) if scored and sheet.fields else None,
            facts=len(sheet.fields),
        )

    def _shuffled(self) -> Any:
        """Yield the pages forever, each as often as any other, in an order of our own."""
        while True:
            letters = list(self._course.letters)
            self._random.shuffle(letters)
            yield from letters

    def _number(self) -> int:
        """Return a number that no other copy has, of this run or, nearly always, of another."""
        own = next(_numbers) % (1 << _WORKER_BITS)
        worker = self._course.worker << _WORKER_BITS
        return own | worker | self._course.run.run_id << _RUN_BITS

    def _direct(self) -> str:
        return self._random.choice(self._course.run.direct) + PATH
