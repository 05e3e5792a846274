"""What one request comes to, whatever the engine answers."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers

from cloister import chat
from cloister.cleaning import LONGEST_MESSAGE
from cloister.ocr import asking
from cloister.ocr.asking import Outcome

STOP = b'data: {"choices": [{"delta": {"content": "Page"}, "finish_reason": "stop"}]}\n\n'


def answering(*pieces: bytes, status: int = 200, kind: str = "", **headers: str) -> Any:
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
    answer.encoding = get_encoding_from_headers(CaseInsensitiveDict({"Content-Type": kind}))
    answer.headers = CaseInsensitiveDict({"Content-Type": kind, **headers})
    return SimpleNamespace(post=lambda *_, **__: answer)


def asked(*pieces: bytes, status: int = 200, kind: str = "", **headers: str) -> Outcome:
    return asking.ask(
        answering(*pieces, status=status, kind=kind, **headers),
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
    page = {
        "choices": [{"message": {"content": "Page"}, "finish_reason": "stop"}],
        "model": "m",
        "usage": usage,
    }
    session = answering(json.dumps(page).encode())
    assert chat.complete(session, "http://a", {}, timeout_s=1) == chat.Reading(
        "Page", "stop", "m", None, 0.0
    )


def test_json_that_nests_deeply_is_no_traceback() -> None:
    deep = b"[" * 200_000
    with pytest.raises(chat.RefusedError, match="does not answer like the OpenAI API"):
        chat.complete(answering(deep), "http://a", {}, timeout_s=1)
    with pytest.raises(chat.RefusedError, match=r"HTTP 500: \[\["):
        chat.complete(answering(deep, status=500), "http://a", {}, timeout_s=1)


ORDERS = "\x1b]0;owned\x07\u202eline one\r\nline two\t\x00\U000e0041" + "x" * 100_000
SAID = ORDERS.encode()
JSON = b'{"error": {"message": %s}}' % json.dumps(ORDERS).encode()


def assert_is_a_message(text: str | None) -> None:
    assert text
    assert len(text) <= LONGEST_MESSAGE
    assert text.isprintable()
    assert "one" in text


@pytest.mark.parametrize("kind", ["text/plain", "text/plain; charset=idna", "text/x; charset=hex"])
@pytest.mark.parametrize("body", [SAID, JSON, b'{"error": "line one\x9b"}', b'["line one"]'])
def test_what_an_engine_says_of_an_error_is_one_line(body: bytes, kind: str) -> None:
    outcome = asked(body, status=500, kind=kind)
    assert_is_a_message(outcome.message)
    fault = outcome.fault()
    assert fault is not None
    assert_is_a_message(fault.reason)
    for status in (200, 500):
        session = answering(body, status=status, kind=kind)
        with pytest.raises(chat.RefusedError) as refused:
            chat.complete(session, "http://a", {}, timeout_s=1)
        assert_is_a_message(refused.value.message)


def test_what_an_engine_says_of_itself_is_one_line() -> None:
    event = {"model": ORDERS, "choices": [{"delta": {"content": "a"}, "finish_reason": ORDERS}]}
    outcome = asked(b"data: " + json.dumps(event).encode() + b"\n\n")
    assert_is_a_message(outcome.engine)
    assert_is_a_message(outcome.finish_reason)
    told: Any = {"X-Cloister-Engine": "one " * 9_000, "X-Request-ID": "one\x9b" * 9_000}
    outcome = asked(STOP, **told)
    assert_is_a_message(outcome.engine)
    assert_is_a_message(outcome.request_id)


def test_what_a_connection_ended_with_is_one_line() -> None:
    error = requests.ConnectionError(f"BadStatusLine: {ORDERS}")
    assert_is_a_message(chat.reason(error))
