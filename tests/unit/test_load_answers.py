"""Streams as they come, whole and broken: what is measured, and what is called a fault."""

import json
import time
from collections.abc import Iterator

import pytest
from geventhttpclient.response import HTTPConnectionClosed

from cloister.loadtest import faults
from cloister.loadtest.sse import Answer

DONE = b"data: [DONE]\n"


def event(text: str | None = None, reason: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text is not None else {}}
    choice["finish_reason"] = reason
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n"


def heard(*lines: bytes | Exception) -> Answer:
    answer = Answer(time.perf_counter())
    pending: Iterator[bytes | Exception] = iter((*lines, b""))

    def readline() -> bytes:
        line = next(pending)
        if isinstance(line, Exception):
            raise line
        return line

    answer.follow(readline)
    return answer


def judged(*lines: bytes | Exception, status: int = 200, blank: bool = False) -> str | None:
    return faults.fault(status, heard(*lines), blank=blank, length_wanted=False)


def test_a_whole_answer() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    answer = heard(
        event(""), event("One"), b"\n", b": a comment\n", event(" two"), event(reason="stop"),
        b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n", DONE,
    )  # fmt: skip
    assert answer.text == "One two"
    assert (answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens) == (9, 4, 2)
    assert answer.chunks == 2, "an empty first chunk is none"
    assert answer.first_s is not None
    assert 0 < answer.first_s <= answer.end_s
    assert faults.fault(200, answer, blank=False, length_wanted=False) is None


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ((event("One"),), "cut short"),
        ((event("One"), event(reason="stop")), "cut short"),
        ((event("One"), DONE), "cut short"),
        ((event("One"), ConnectionResetError()), "reset"),
        ((event("One"), HTTPConnectionClosed("closed")), "cut short"),
        ((event("One"), TimeoutError()), "timed out"),
        ((event("One"), b"data: {broken\n"), "JSONDecodeError"),
        ((event(""), event(reason="stop"), DONE), "empty"),
        ((event(" \n"), event(reason="stop"), DONE), "empty"),
        ((event("One"), event(reason="length"), DONE), "truncated"),
        ((event("One"), event(reason="abort"), DONE), "ended by abort"),
        ((b'{"error": {"message": "no"}}\n',), "not a stream"),
        ((b'data: {"error": {"message": "no"}}\n', DONE), "an error in the answer"),
        ((event("Total due 12.00 " * 30), event(reason="stop"), DONE), "repeats itself"),
        ((event("Page " + "." * 300), event(reason="stop"), DONE), None),
        ((event("| - | - |\n" * 3), event(reason="stop"), DONE), None),
    ],
)
def test_what_is_no_good_page(lines: tuple[bytes | Exception, ...], fault: str | None) -> None:
    assert judged(*lines) == fault


def test_a_status_is_a_fault_and_a_blank_page_may_be_empty() -> None:
    assert judged(status=503) == "HTTP 503"
    assert judged(event(reason="stop"), DONE, blank=True) is None


def test_the_length_is_no_fault_where_it_was_asked_for() -> None:
    answer = heard(event("x " * 500), event(reason="length"), DONE)
    assert faults.fault(200, answer, blank=False, length_wanted=True) is None


def test_our_own_mistakes_are_not_called_the_server_s() -> None:
    with pytest.raises(RuntimeError):
        heard(RuntimeError("ours"))
