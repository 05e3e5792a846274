"""Pages to the service and back: bounded, parallel, patient with a full queue."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay

from cloister import chat
from cloister.config import OcrSettings
from cloister.errors import OcrError
from cloister.ocr.documents import Page, Unreadable

# Worth another try: not reached, too many requests, a replica that died, a full queue.
_PASSING = {0, 429, 502, 503}
_PATIENCE_S = 120.0
_WAIT_S = (0.5, 5.0)  # first and longest wait when the service names none


@dataclass(frozen=True)
class PageResult:
    """What became of one page: `text`, or the reason why there is none in `error`.

    `page` is 0 for a document that could not be opened; `seconds` is the last attempt's.
    """

    document: str
    page: int
    text: str | None
    error: str | None
    finish_reason: str | None = None
    engine: str | None = None
    completion_tokens: int = 0
    seconds: float = 0.0
    attempts: int = 0


class Client:
    """Reads pages at one service with a connection a thread."""

    def __init__(
        self, enter: chat.Pass, settings: OcrSettings, *, model: str, timeout_s: float
    ) -> None:
        self._enter = enter
        self._url = enter.url
        self._settings = settings
        self._model = model
        self._timeout_s = timeout_s
        self._threads = threading.local()

    def require_healthy(self) -> None:
        """Raise OcrError at once when no service answers at the address."""
        try:
            answer = self._session().get(f"{self._url}/health", timeout=5)
        except requests.RequestException as error:
            if isinstance(error, requests.exceptions.SSLError):
                raise OcrError(
                    f"the certificate of `{self._url}` is not trusted",
                    hint="name its authority by SSL_CERT_FILE",
                ) from error
            raise OcrError(f"no service answers at `{self._url}`", hint="invoke up") from error
        if not answer.ok:
            raise OcrError(
                f"the service at `{self._url}` has no engine that answers "
                f"(HTTP {answer.status_code} on /health)",
                hint="invoke status",
            )

    def read_all(
        self, pages: Iterable[Page | Unreadable], concurrency: int
    ) -> Iterator[PageResult]:
        """Yield the results in the order of the pages, at most `concurrency` at a time.

        Twice as many pages are held in memory, so that the service never waits for the next one.
        """
        window: deque[Future[PageResult]] = deque()
        threads = ThreadPoolExecutor(concurrency, thread_name_prefix="ocr")
        try:
            for page in pages:
                window.append(threads.submit(self.read, page))
                if len(window) >= 2 * concurrency:
                    yield window.popleft().result()
            while window:
                yield window.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)

    def read(self, page: Page | Unreadable) -> PageResult:
        """Return one page's result; a failure is a result too."""
        name = str(page.document.path)
        if isinstance(page, Unreadable):
            return PageResult(name, page.number or 0, None, page.reason)
        request = chat.body(
            page.image,
            page.mime,
            model=self._model,
            prompt=self._settings.prompt,
            max_tokens=self._settings.max_tokens,
            temperature=self._settings.temperature,
        )
        attempts = 0
        try:
            for attempt in Retrying(
                retry=retry_if_exception(_passes),
                stop=stop_after_delay(_PATIENCE_S),
                wait=_wait_s,
                reraise=True,
            ):
                attempts = attempt.retry_state.attempt_number
                with attempt:
                    reading = chat.complete(
                        self._session(), self._url, request, timeout_s=self._timeout_s
                    )
        except chat.RefusedError as error:
            return PageResult(name, page.number, None, error.message, attempts=attempts)
        return _result(name, page.number, reading, attempts)

    def _session(self) -> requests.Session:
        # A requests.Session is not safe to share between threads.
        if not hasattr(self._threads, "session"):
            self._threads.session = chat.session(self._enter)
        session: requests.Session = self._threads.session
        return session


def _result(name: str, number: int, reading: chat.Reading, attempts: int) -> PageResult:
    cut = reading.finish_reason != "stop"
    return PageResult(
        document=name,
        page=number,
        text=reading.text,
        error=f"the text was cut off (finish_reason `{reading.finish_reason}`)" if cut else None,
        finish_reason=reading.finish_reason,
        engine=reading.engine,
        completion_tokens=reading.completion_tokens,
        seconds=round(reading.seconds, 3),
        attempts=attempts,
    )


def _passes(error: BaseException) -> bool:
    return isinstance(error, chat.RefusedError) and error.status in _PASSING


def _wait_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, chat.RefusedError) else None
    first, longest = _WAIT_S
    return asked if asked is not None else min(longest, first * 2.0 ** (state.attempt_number - 1))
