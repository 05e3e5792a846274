"""The stub engine does what the tests that use it believe."""

import json
import time
from collections.abc import Iterator

import pytest
import requests
from deployments import eventually
from requests.exceptions import ChunkedEncodingError
from stubs import Stub, stub

BODY = json.dumps({"messages": [], "image": "x" * 500_000})
STREAM = json.dumps({"stream": True, "image": "x" * 500_000})


@pytest.fixture(scope="module")
def replica() -> Iterator[Stub]:
    with stub("one") as running:
        yield running


def post(replica: Stub, body: str = BODY, *, stream: bool = False) -> requests.Response:
    headers = {"X-Request-ID": "abc", "Content-Type": "application/json"}
    url = f"{replica.url}/v1/chat/completions"
    return requests.post(url, data=body, headers=headers, timeout=5, stream=stream)


def events(answer: requests.Response) -> list[str]:
    return [line.decode() for line in answer.iter_lines() if line]


def test_a_page_and_a_stream_say_the_same_and_are_counted() -> None:
    with stub("counted", chunks=3) as replica:
        whole, streamed = post(replica), events(post(replica, STREAM))
        assert whole.json()["system_fingerprint"] == "counted"
        assert whole.json()["id"].endswith("0abc")
        pieces = [json.loads(line.removeprefix("data: ")) for line in streamed[:-1]]
        text = "".join(piece["choices"][0]["delta"]["content"] for piece in pieces)
        assert whole.json()["choices"][0]["message"]["content"] == text == "word0 word1 word2 "
        assert streamed[-1] == "data: [DONE]"
        counts = replica.counts()
        assert counts["POST /v1/chat/completions"] == counts["completed"] == 2
        assert counts["bytes"] == len(BODY) + len(STREAM)
        assert (counts["in_flight"], counts["max_in_flight"]) == (0, 1)


def test_other_routes_answer_and_chunked_bodies_are_counted(replica: Stub) -> None:
    before = replica.counts()["bytes"]
    pieces = (b"x" * size for size in (1, 70_000, 3, 300_000))
    assert requests.post(f"{replica.url}/pause", data=pieces, timeout=5).status_code == 200
    assert replica.counts()["bytes"] == before + 370_004
    assert replica.counts()["POST /pause"] == 1
    assert "vllm:num_requests_running" in requests.get(f"{replica.url}/metrics", timeout=5).text
    assert requests.head(f"{replica.url}/health", timeout=5).status_code == 200
    shown = {"Authorization": "Bearer sk-secret"}
    assert requests.get(f"{replica.url}/health", headers=shown, timeout=5).status_code == 200
    assert replica.counts()["keys"] == 1


def test_one_connection_serves_many(replica: Stub) -> None:
    before = replica.counts()["connections"]
    with requests.Session() as session:
        for _ in range(3):
            answer = session.get(f"{replica.url}/v1/models", timeout=5)
            assert answer.json()["data"][0]["id"] == "stub"
    assert replica.counts()["connections"] == before + 1


@pytest.mark.parametrize("mode", ["503", "500"])
def test_an_error_comes_as_often_as_ordered(replica: Stub, mode: str) -> None:
    replica.behave(mode, times=1)
    refused = post(replica)
    assert str(refused.status_code) == mode
    assert refused.json()["error"]["type"] == "server_error"
    assert post(replica).status_code == 200


def test_refusing_and_listening_again(replica: Stub) -> None:
    replica.behave("refuse")
    with pytest.raises(requests.ConnectionError, match="refused"):
        post(replica)
    replica.behave("ok")
    assert post(replica).status_code == 200


def test_half_open_swallows_a_request_and_sees_the_client_leave(replica: Stub) -> None:
    replica.behave("half-open", times=1)
    before = replica.counts()
    with pytest.raises(requests.ReadTimeout):
        requests.post(f"{replica.url}/v1/chat/completions", data=BODY, timeout=1)

    def gone() -> None:
        assert replica.counts()["aborted"] == before["aborted"] + 1

    eventually(gone)
    assert replica.counts()["in_flight"] == before["in_flight"]


def test_reset_before_the_first_byte(replica: Stub) -> None:
    replica.behave("reset-early", times=1)
    with pytest.raises(requests.ConnectionError, match="reset"):
        post(replica)
    assert requests.get(f"{replica.url}/health", timeout=5).status_code == 200


@pytest.mark.parametrize("mode", ["reset-mid", "close-mid"])
@pytest.mark.parametrize("body", [BODY, STREAM])
def test_half_an_answer(replica: Stub, mode: str, body: str) -> None:
    replica.behave(mode, times=1)
    answer, received = post(replica, body, stream=True), b""

    def read_all() -> None:
        nonlocal received
        for piece in answer.iter_content(64):
            received += piece

    with pytest.raises((requests.ConnectionError, ChunkedEncodingError)) as why:
        read_all()
    assert answer.status_code == 200
    assert b"word2" in received
    assert b"word49" not in received
    assert ("reset" in str(why.value)) == (mode == "reset-mid")


def test_slow_answers_and_paced_streams_take_their_time(replica: Stub) -> None:
    replica.behave("slow", times=1, first_ms=200)
    assert post(replica).elapsed.total_seconds() >= 0.2
    replica.behave("ok", times=1, first_ms=0, chunk_ms=4)
    started = time.perf_counter()
    assert len(events(post(replica, STREAM))) == 51
    assert time.perf_counter() - started >= 0.2


def test_orders_that_make_no_sense_are_refused(replica: Stub) -> None:
    for order in ({"mode": "nonsense"}, {"mode": "refuse", "times": 1}, {"speed": 1}):
        url = f"http://127.0.0.1:{replica.control}/behave"
        assert requests.post(url, json=order, timeout=5).status_code == 400
