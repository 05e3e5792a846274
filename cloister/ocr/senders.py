"""Threads that each hold one connection and send one page at a time."""

import threading
from collections.abc import Callable
from queue import SimpleQueue

import requests

from cloister import chat
from cloister.ocr.asking import Outcome, ask


class Senders:
    """Sends bodies and gives what came of each to `heard`, from threads of its own.

    The threads are as many as pages were ever under way at once. Nobody waits for them at the end:
    a page that nobody wants any more is dropped with its connection.
    """

    def __init__(self, enter: chat.Pass, timeout_s: float) -> None:
        self._enter, self.timeout_s = enter, timeout_s
        self._work: SimpleQueue[Callable[[requests.Session], None] | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._threads = 0
        self.under_way = 0

    def send(
        self,
        body: Callable[[], bytes],
        heard: Callable[[Outcome | Exception], None],
        noticed: Callable[[], None],
    ) -> None:
        """Send a page; its body is made by the thread that sends it.

        `noticed` is called there for each piece of the answer.
        What a page comes to is heard in that thread, and so is a bug, which must not be silence.
        """
        self.under_way += 1
        if self.under_way > self._threads:
            threading.Thread(target=self._run, daemon=True, name="ocr-sender").start()
            self._threads += 1

        def work(session: requests.Session) -> None:
            try:
                heard(self._ask(session, body(), noticed))
            except Exception as error:  # noqa: BLE001  # raised again by who hears it
                heard(error)

        self._work.put(work)

    def answered(self) -> None:
        """Count a page off, in the thread that counts them."""
        self.under_way -= 1

    def stop(self) -> None:
        """Let the threads go: those that listen hang up at the next piece of text."""
        self._stopped.set()
        for _ in range(self._threads):
            self._work.put(None)

    def _ask(self, session: requests.Session, body: bytes, noticed: Callable[[], None]) -> Outcome:
        url, stopped = self._enter.url, self._stopped.is_set
        return ask(session, url, body, timeout_s=self.timeout_s, stopped=stopped, noticed=noticed)

    def _run(self) -> None:
        with chat.session(self._enter) as session:
            while (work := self._work.get()) is not None and not self._stopped.is_set():
                work(session)
