"""What one request comes to, whatever the engine answers."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from requests.structures import CaseInsensitiveDict

from cloister import chat
from cloister.ocr import asking
from cloister.ocr.asking import Outcome

STOP = b'data: {"choices": [{"delta": {"content": "Page"}, "finish_reason": "stop"}]}\n\n'


def answering(*pieces: bytes, status: int = 200, **headers: str) -> Any:
    """Return a session in which every page is answered so."""

    class Response(requests.Response):
        def iter_content(self, *_: object, **__: object) -> Iterator[Any]:
            return iter(pieces)

        def close(self) -> None:
            """Close nothing: there is no connection."""

        @property
        def content(self) -> bytes:
            return b"".join(pieces)

    answer = Response()
    answer.status_code = status
    answer.headers = CaseInsensitiveDict(headers)
    return SimpleNamespace(post=lambda *_, **__: answer)


def asked(*pieces: bytes, status: int = 200, **headers: str) -> Outcome:
    return asking.ask(
        answering(*pieces, status=status, **headers),
        "http://a",
        b"{}",
        timeout_s=1,
        stopped=lambda: False,
        noticed=lambda: None,
    )


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b"data: nonsense\n", "an event is no JSON"),
        (b"data: 7\n", "an event is no object"),
        (b'data: {"choices": {"a": 7}}\n', "`choices` is no list"),
        (b'data: {"choices": [{"delta": {"content": 7}}]}\n', "`content` is no text"),
    ],
)
def test_an_odd_event_is_the_fault_of_its_page(line: bytes, named: str) -> None:
    """The service is there: nothing waits for it, and the page is tried in another way."""
    outcome = asked(line, STOP)
    assert not outcome.broken
    fault = outcome.fault()
    assert fault is not None
    assert (fault.kind, fault.reason) == ("engine", f"the answer is not of the API: {named}")


def test_an_answer_that_ends_in_half_an_event_was_cut() -> None:
    outcome = asked(STOP, b'data: {"choi')
    assert outcome.broken
    assert outcome.message == "the answer broke off (cut short)"


@pytest.mark.parametrize("count", [b"-5", b"1" + b"0" * 30, b'"x"', b"null", b"true", b"1.5"])
def test_tokens_that_an_engine_does_not_tell_are_counted_by_us(count: bytes) -> None:
    usage = b'data: {"choices": [], "usage": {"completion_tokens": %s}}\n\n' % count
    assert asked(STOP, usage, b"data: [DONE]\n\n").tokens == 1
    assert asked(STOP, usage.replace(count, b"9"), b"data: [DONE]\n\n").tokens == 9


@pytest.mark.parametrize("usage", [None, 7, {}, {"completion_tokens": -1}])
def test_a_whole_answer_needs_no_count(usage: object) -> None:
    answer = SimpleNamespace(
        ok=True,
        headers={},
        elapsed=SimpleNamespace(total_seconds=lambda: 1.0),
        json=lambda: {
            "choices": [{"message": {"content": "Page"}, "finish_reason": "stop"}],
            "model": "m",
            "usage": usage,
        },
    )
    session: Any = SimpleNamespace(post=lambda *_, **__: answer)
    assert chat.complete(session, "http://a", {}, timeout_s=1) == chat.Reading(
        "Page", "stop", "m", None, 1.0
    )


def test_json_that_nests_deeply_is_no_traceback() -> None:
    deep = b"[" * 200_000
    with pytest.raises(chat.RefusedError, match="does not answer like the OpenAI API"):
        chat.complete(answering(deep), "http://a", {}, timeout_s=1)
    with pytest.raises(chat.RefusedError, match=r"HTTP 500: \[\["):
        chat.complete(answering(deep, status=500), "http://a", {}, timeout_s=1)
