"""Streams as they come, whole and broken: what is measured, and what is called a fault."""

import json
import time
from collections.abc import Callable

import pytest
from geventhttpclient.response import HTTPConnectionClosed
from hypothesis import given
from hypothesis import strategies as st

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
        ((event("One"), b"data: {broken\n"), "an event is no JSON"),
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


DEEP = b"data: " + b'{"choices":' * 5_000 + b"[" * 5_000 + b"\n"
ODD = {
    b"data: nonsense\n": "an event is no JSON",
    b"data: \xff\xfe\n": "an event is no JSON",
    b"data:\n": "an event is no JSON",
    DEEP: "an event is no JSON",
    b"data: 7\n": "an event is no object",
    b"data: null\n": "an event is no object",
    b'data: ["error"]\n': "an event is no object",
    b'data: {"choices": 7}\n': "`choices` is no list",
    b'data: {"choices": {"delta": {}}}\n': "`choices` is no list",
    b'data: {"choices": "text"}\n': "`choices` is no list",
    b'data: {"choices": [null]}\n': "a choice is no object",
    b'data: {"choices": [7]}\n': "a choice is no object",
    b'data: {"choices": [{"delta": []}]}\n': "`delta` is no object",
    b'data: {"choices": [{"delta": 7}]}\n': "`delta` is no object",
    b'data: {"choices": [{"delta": {"content": 7}}]}\n': "`content` is no text",
    b'data: {"choices": [{"delta": {"content": ["a"]}}]}\n': "`content` is no text",
    b'data: {"choices": [{"delta": {"content": true}}]}\n': "`content` is no text",
    b'data: {"choices": [{"finish_reason": {"a": 1}}]}\n': "`finish_reason` is no text",
    b'data: {"choices": [{"finish_reason": 7}]}\n': "`finish_reason` is no text",
    b"data: " + b" " * (1 << 20): "an event is larger than 1 MiB",
}


@pytest.mark.parametrize(("line", "fault"), ODD.items(), ids=range(len(ODD)))
def test_an_odd_event_ends_its_answer_with_a_name(line: bytes, fault: str) -> None:
    answer = heard(event("One"), line, event("two", "stop"), DONE)
    assert (answer.broken, answer.odd, answer.raw) == (fault, True, "One")
    assert faults.fault(200, answer, blank=False, length_wanted=False) == fault


@pytest.mark.parametrize(
    "line",
    [
        b'data: {"choices": null}\n',
        b'data: {"choices": [], "usage": 7, "model": {"a": 1}}\n',
        b'data: {"choices": [{"delta": null, "finish_reason": null}]}\n',
        b'data: {"choices": [{"delta": {"content": null}}]}\n',
        b'data: {"choices": [{}], "usage": {"prompt_tokens_details": "x"}}\n',
        b"data: {}\n",
    ],
)
def test_what_an_event_leaves_out_is_no_fault(line: bytes) -> None:
    answer = heard(event("One"), line, event(reason="stop"), DONE)
    assert (answer.broken, answer.odd, answer.raw, answer.model) == (None, False, "One", None)


@pytest.mark.parametrize(
    "count", [-1, 10**30, 1 << 25, 7.0, 7.5, "7", None, True, [7], float("nan"), {"a": 7}]
)
def test_a_count_of_tokens_that_can_be_none_is_unknown(count: object) -> None:
    usage = dict.fromkeys(("prompt_tokens", "completion_tokens"), count)
    usage["prompt_tokens_details"] = {"cached_tokens": count}
    line = b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
    if count != count:  # noqa: PLR0124  # JSON has no NaN
        assert heard(event("One"), line).broken == "an event is no JSON"
        return
    answer = heard(event("One"), event(reason="stop"), line, DONE)
    assert answer.broken is None
    assert {answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens} == {None}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ("choices", "delta", "content", "usage", "model", "error", "finish_reason", "x")
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_no_event_ends_more_than_its_answer(value: object) -> None:
    answer = heard(b"data: " + json.dumps(value).encode() + b"\n\n", event("a", "stop"), DONE)
    faults.fault(200, answer, blank=False, length_wanted=False)
    assert isinstance(answer.raw, str)
    assert isinstance(answer.model, str | None)
    assert isinstance(answer.finish_reason, str | None)


WHOLE = b"".join((event("One"), event(" two"), event(reason="stop"), DONE.strip()))


@given(st.integers(1, len(WHOLE) - len(b" [DONE]")))
def test_a_stream_that_ends_in_the_middle_of_an_event_is_told_as_cut(end: int) -> None:
    answer = heard(WHOLE[:end])
    assert faults.fault(200, answer, blank=False, length_wanted=False) == "cut short"
    assert not answer.odd
    half = WHOLE[:end].rpartition(b"\n")[2]
    is_half = half not in WHOLE.split(b"\n")
    assert answer.broken == ("cut short" if is_half else None)
