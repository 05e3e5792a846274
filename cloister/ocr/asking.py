"""One request for one page, and what came of it: nothing is decided here."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import requests

from cloister import chat
from cloister.cleaning import Cleaned, on_one_line
from cloister.ocr import judging
from cloister.ocr.judging import Fault
from cloister.sse import Answer

_LOOK_CHARACTERS = 1_000  # how much more text there is from one look for a loop to the next
_CONNECT_S = 5
_OK, _TOO_LARGE, _SERVER = 200, 413, 500
_CHARACTERS_A_TOKEN = 3.5  # of Markdown with HTML tables; only for answers that were cut by us
# Exact repetitions of 8 to 64 tokens. A row of a blank table has 4 tokens a cell and 4 more, and a
# page up to a hundred of them.
_ENGINE_DETECTION = {"max_pattern_size": 64, "min_pattern_size": 8, "min_count": 120}


@dataclass(frozen=True)
class Question:
    """What is asked of every page; `detects` tells that the engine looks for loops itself."""

    model: str
    prompt: str
    max_tokens: int
    detects: bool

    def body(self, image: bytes, mime: str, temperature: float) -> bytes:
        """Return the request's body."""
        body = chat.body(
            image,
            mime,
            model=self.model,
            prompt=self.prompt,
            max_tokens=self.max_tokens,
            temperature=temperature,
        )
        body |= chat.STREAMED
        if self.detects:
            body["repetition_detection"] = _ENGINE_DETECTION
        return orjson.dumps(body)


@dataclass(frozen=True)
class Outcome:
    """What a request came to.

    `status` is the HTTP status, 0 when there was no answer; `message` is what an error said.
    `broken` tells that the answer ended before its end, `looped` that we ended it, `odd` that it
    has what the API does not have.
    """

    status: int
    seconds: float
    page: Cleaned = Cleaned("")  # noqa: RUF009  # frozen
    finish_reason: str | None = None
    message: str = ""
    retry_after_s: float | None = None
    broken: bool = False
    looped: bool = False
    odd: bool = False
    tokens: int = 0
    engine: str | None = None
    request_id: str | None = None
    replica: str | None = None

    def fault(self) -> Fault | None:
        """Return why a whole answer is not a page's text, None if it is."""
        if self.odd:
            return Fault("engine", self.message)
        if self.status == _OK:
            return judging.fault(self.page, self.finish_reason)
        if self.status == _TOO_LARGE:
            return Fault("too large", self.message)
        return Fault("engine" if self.status >= _SERVER else "rejected", self.message)


def ask(
    session: requests.Session,
    url: str,
    body: bytes,
    *,
    timeout_s: float,
    stopped: Callable[[], bool],
    noticed: Callable[[], None],
) -> Outcome:
    """Send one page and listen until its end, a loop, or until `stopped`.

    `timeout_s` is the longest silence, not the longest page; `noticed` is called where one ends.
    """
    start = time.perf_counter()
    try:
        with session.post(
            f"{url}/v1/chat/completions",
            data=body,
            headers={"Content-Type": "application/json"},
            timeout=(_CONNECT_S, timeout_s),
            stream=True,
        ) as response:
            if not response.ok:
                return _refused(response, time.perf_counter() - start)
            return _heard(response, _Listener(response, Answer(start), stopped, noticed))
    except requests.RequestException as error:
        message = f"`{url}` cannot be reached: {chat.reason(error)}"
        return Outcome(0, time.perf_counter() - start, message=message, broken=True)


def _refused(response: requests.Response, seconds: float) -> Outcome:
    return Outcome(
        response.status_code,
        seconds,
        message=on_one_line(f"HTTP {response.status_code}: {chat.message(response)}"),
        retry_after_s=chat.retry_after_s(response),
        request_id=_said(response.headers.get("X-Request-ID")),
        replica=_said(response.headers.get("X-Cloister-Replica")),
    )


class _Listener:
    """Hears an answer and hangs up on a loop; what a page is to say has an end."""

    def __init__(
        self,
        response: requests.Response,
        answer: Answer,
        stopped: Callable[[], bool],
        noticed: Callable[[], None],
    ) -> None:
        self._response, self.answer = response, answer
        self._stopped, self._noticed = stopped, noticed
        self.looped = False

    def listen(self, hear: Callable[[bytes], None]) -> None:
        heard = looked = 0
        for piece in self._response.iter_content(None):
            hear(piece)
            self._noticed()
            heard = self.answer.characters
            if heard - looked >= _LOOK_CHARACTERS:
                looked = heard
                if judging.repeated(self.answer.raw) is not None:
                    self.looped = True
                    return
            if self._stopped():
                return


def _heard(response: requests.Response, listener: _Listener) -> Outcome:
    answer = listener.answer
    answer.follow(listener.listen)
    cut = listener.looped
    odd = answer.odd and not cut
    broken = not (cut or odd) and (answer.broken is not None or answer.finish_reason is None)
    tokens = answer.completion_tokens
    if tokens is None:
        tokens = round(answer.characters / _CHARACTERS_A_TOKEN)
    headers: Mapping[str, Any] = response.headers
    return Outcome(
        status=response.status_code,
        seconds=answer.end_s,
        page=answer.page,
        finish_reason="repetition" if cut else _said(answer.finish_reason),
        message=_what_broke(answer, odd=odd) if broken or odd else "",
        broken=broken,
        looped=cut,
        odd=odd,
        tokens=tokens,
        engine=_said(headers.get("X-Cloister-Engine") or answer.model),
        request_id=_said(headers.get("X-Request-ID")),
        replica=_said(headers.get("X-Cloister-Replica")),
    )


def _what_broke(answer: Answer, *, odd: bool) -> str:
    if odd:
        return f"the answer is not of the API: {answer.broken}"
    return f"the answer broke off ({answer.broken or 'no end'})"


def _said(word: object) -> str | None:
    """Return what an engine says of itself as text for people, whatever it is."""
    return None if word is None else on_one_line(str(word))
