"""Hostile clients: every answer is a documented error, nothing dies, and good pages still read."""

import json
import socket
import time
from contextlib import suppress
from http.client import HTTPResponse

import hostile
import psutil
import pytest
import requests
from deployments import Stack
from pages import data_url, encoded, page, request

BODIES = list(hostile.bodies())
STREAMS = list(hostile.streams())


def _assert_error(name: str, status: int, request_id: str | None, body: bytes) -> None:
    assert 400 <= status < 600, f"{name}: {status}"
    error = json.loads(body)["error"]
    assert error["message"], name
    assert error["type"] in {"invalid_request_error", "server_error", "rate_limit_error"}, name
    assert set(error) == {"message", "type", "param", "code"}, name
    assert request_id, name
    # The worst words of a program that did not expect this.
    assert "Traceback" not in error["message"], name


def test_there_are_two_hundred_of_them() -> None:
    assert len(BODIES) + len(STREAMS) >= 200
    names = [name for name, _ in BODIES + STREAMS]
    assert len(set(names)) == len(names)


def test_every_hostile_body_gets_a_documented_error_and_nothing_dies(fresh: Stack) -> None:
    fresh.invoke("up")  # of a stack that has been idle for five minutes, workers end by themselves
    before = fresh.pids()
    workers = _workers(before["tesseract-1"])
    session = requests.Session()
    for name, body in BODIES:
        answer = session.post(
            f"{fresh.url}/v1/chat/completions",
            data=body,
            headers={"Content-Type": "application/json"},
            timeout=30,
        )
        _assert_error(name, answer.status_code, answer.headers.get("X-Request-ID"), answer.content)
    assert fresh.pids() == before
    assert _workers(before["tesseract-1"]) == workers
    _read_a_page(fresh)


@pytest.mark.parametrize(("name", "sent"), STREAMS, ids=[name for name, _ in STREAMS])
def test_every_hostile_stream_gets_a_documented_error(stack: Stack, name: str, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", stack.port), timeout=10) as client:
        client.sendall(sent)
        answer = HTTPResponse(client, method="POST")
        answer.begin()
        _assert_error(name, answer.status, answer.headers["X-Request-ID"], answer.read())


def test_a_sender_that_stalls_is_cut_off_and_logged_as_408(stack: Stack) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
    for sent in (head, head + b'{"messages"'):
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", stack.port), timeout=20) as client:
            client.sendall(sent)
            with suppress(ConnectionResetError):  # or the end of the stream: both are a cut
                assert client.recv(1) == b""
        assert time.monotonic() - started < 19
    assert '"status":408' in stack.log("access")
    _read_a_page(stack)


def test_slow_senders_do_not_keep_others_waiting(stack: Stack) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{"
    slow = [socket.create_connection(("127.0.0.1", stack.port), timeout=20) for _ in range(50)]
    try:
        for client in slow:
            client.sendall(head)
        _read_a_page(stack)
    finally:
        for client in slow:
            client.close()


def test_a_body_above_the_limit_is_a_413_that_names_the_limit(stack: Stack) -> None:
    answer = requests.post(f"{stack.url}/v1/chat/completions", data=b"a" * (51 << 20), timeout=30)
    assert answer.status_code == 413
    assert "50 MiB" in answer.json()["error"]["message"]


def _read_a_page(stack: Stack) -> None:
    body = request(data_url(encoded(page("Still here 2345"))))
    answer = requests.post(f"{stack.url}/v1/chat/completions", json=body, timeout=30)
    assert answer.status_code == 200, answer.text
    assert "Still here 2345" in answer.json()["choices"][0]["message"]["content"]


def _workers(engine: int) -> set[int]:
    return {child.pid for child in psutil.Process(engine).children()}
