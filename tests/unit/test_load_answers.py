"""Streams as they come, whole and broken: what is measured, and what is called a fault."""

import json
import time
from collections.abc import Callable

import pytest
from geventhttpclient.response import HTTPConnectionClosed

from cloister.loadtest import faults
from cloister.sse import Answer

DONE = b"data: [DONE]\n\n"


def event(text: str | None = None, reason: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text is not None else {}}
    choice["finish_reason"] = reason
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"


def heard(*pieces: bytes | Exception) -> Answer:
    answer = Answer(time.perf_counter())

    def listen(tell: Callable[[bytes], None]) -> None:
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
            tell(piece)

    answer.follow(listen)
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
        event(""), event("One"), b": a comment\n\n", event(" two"), event(reason="stop"),
        b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n", DONE,
    )  # fmt: skip
    assert answer.raw == "One two"
    assert (answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens) == (9, 4, 2)
    assert answer.chunks == 2, "an empty first chunk is none"
    assert answer.first_s is not None
    assert 0 < answer.first_s <= answer.end_s
    assert faults.fault(200, answer, blank=False, length_wanted=False) is None


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_wherever_the_network_cuts_it(newline: bytes, size: int) -> None:
    whole = b"".join((b": hello\n\n", event("One"), event(" two"), event(reason="stop"), DONE))
    whole = whole.replace(b"\n", newline)
    answer = heard(*(whole[at : at + size] for at in range(0, len(whole), size)))
    assert (answer.raw, answer.chunks, answer.broken) == ("One two", 2, None)
    assert faults.fault(200, answer, blank=False, length_wanted=False) is None


def test_an_end_without_an_empty_line_is_read_too() -> None:
    answer = heard(event("One"), event(reason="stop"), DONE.strip())
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
        ((event("Total due 12.00 " * 300), event(reason="stop"), DONE), "repeats itself"),
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


def test_half_a_character_costs_no_answer() -> None:
    answer = Answer(time.perf_counter())
    content = rb"\ud83d\ude00 \ud83d\ud83d\ude00 \udc00x\ud800"
    line = b'data: {"choices": [{"delta": {"content": "%s"}, "finish_reason": "stop"}]}\n' % content
    answer.follow(lambda hear: hear(line))
    assert answer.broken is None
    assert answer.page.text == "\U0001f600 \U0001f600 x"
