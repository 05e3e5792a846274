"""The engine's answers, with a pool whose pages are known."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from cloister.engines.tesseract import api
from cloister.engines.tesseract.api import ApiError, ChatRequest
from cloister.engines.tesseract.app import Server
from cloister.engines.tesseract.options import Options

MODEL = "nanonets/Nanonets-OCR2-3B"


class Pages:
    """Stands for the pool: a URL's text after `data:` says what its page has."""

    running = waiting = 0

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.held = False

    async def warm(self) -> None:
        """Nothing to start."""

    def close(self) -> None:
        """Nothing to end."""

    async def read(self, url: str, name: str) -> tuple[str, ...]:
        if self.held:
            self.entered.set()
            await asyncio.Event().wait()
        if "broken" in url:
            raise ApiError(400, f"{name} is broken", code="invalid_image")
        return tuple(part for part in url.removeprefix("data:").split("|") if part)


@contextmanager
def served(**options: Any) -> Iterator[tuple[TestClient, Server]]:
    server = Server(Options(listen="127.0.0.1:1", **options))
    server.pool = Pages()  # type: ignore[assignment]
    with TestClient(server.app(), raise_server_exceptions=False) as client:
        yield client, server


def request(*texts: str, **fields: Any) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": f"data:{text}"}} for text in texts
    ]
    content = [*parts, {"type": "text", "text": "Read this, please."}]
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **fields}


def events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_whole_answer_names_the_engine_and_counts_its_words() -> None:
    with served() as (client, server):
        answer = client.post(
            "/v1/chat/completions", json=request("One two.|Three"), headers={"X-Request-ID": "7"}
        )
    body = answer.json()
    assert answer.headers["X-Cloister-Engine"].startswith("tesseract/")
    assert body["model"] == server.model != MODEL
    assert body["id"] == "chatcmpl-7"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "One two.\n\nThree"}
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}


def test_images_come_out_in_their_order_and_a_blank_page_adds_nothing() -> None:
    with served() as (client, _):
        body = client.post("/v1/chat/completions", json=request("One", "", "Two")).json()
    assert body["choices"][0]["message"]["content"] == "One\n\nTwo"


def test_a_stream_is_the_whole_answer_in_blocks() -> None:
    with served() as (client, server):
        answer = client.post("/v1/chat/completions", json=request("One|Two", "Three", stream=True))
        chunks = events(answer.text)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert {chunk["model"] for chunk in chunks} == {server.model}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert [delta.get("content") for delta in deltas[1:-1]] == ["One", "\n\nTwo", "\n\nThree"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["completion_tokens"] == 3


def test_usage_has_a_chunk_of_its_own_when_asked_for() -> None:
    with served() as (client, _):
        asked = request("One", stream=True, stream_options={"include_usage": True})
        chunks = events(client.post("/v1/chat/completions", json=asked).text)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 6
    assert "usage" not in chunks[-2]


@pytest.mark.parametrize("stream", [False, True])
def test_max_tokens_cuts_and_says_so(stream: bool) -> None:  # noqa: FBT001
    with served() as (client, _):
        cut = request("One two|three four", max_tokens=3, stream=stream)
        text = client.post("/v1/chat/completions", json=cut).text
    if stream:
        chunks = events(text)
        parts = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
        assert "".join(parts) == "One two\n\nthree"
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    else:
        choice = json.loads(text)["choices"][0]
        assert choice["message"]["content"] == "One two\n\nthree"
        assert choice["finish_reason"] == "length"


def test_a_stream_whose_first_page_fails_is_a_plain_error() -> None:
    with served() as (client, _):
        answer = client.post("/v1/chat/completions", json=request("broken", stream=True))
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_image"


def test_a_stream_whose_second_page_fails_ends_with_the_error() -> None:
    with served() as (client, _):
        answer = client.post("/v1/chat/completions", json=request("One", "broken", stream=True))
    chunks = events(answer.text)
    assert chunks[-1]["error"]["message"] == "image 2 is broken"
    assert not any(chunk.get("usage") for chunk in chunks)


@pytest.mark.parametrize("model", [MODEL, "tesseract", None])
def test_the_configured_model_is_an_alias(model: str | None) -> None:
    with served() as (client, server):
        answer = client.post("/v1/chat/completions", json=request("One", model=model))
        names = [card["id"] for card in client.get("/v1/models").json()["data"]]
    assert answer.json()["model"] == server.model
    assert names == [server.model, MODEL]


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (request("One", model="gpt-4"), 404, "model_not_found"),
        (request(), 400, "no_image"),
        (request(*["One"] * 17), 400, "too_many_images"),
        (request("One", n=2), 400, None),
        (request("One", messages=[]), 400, None),
        ("not an object", 400, None),
    ],
)
def test_refusals_are_in_openais_shape(sent: Any, status: int, code: str | None) -> None:
    with served() as (client, _):
        answer = client.post("/v1/chat/completions", json=sent)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", code)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/x", 404), ("PUT", "/health", 405)]
)
def test_other_routes_and_methods_are_refused_in_the_same_shape(
    method: str, path: str, status: int
) -> None:
    with served() as (client, _):
        answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_bug_is_a_500_that_points_to_the_log() -> None:
    with served() as (client, server):
        server.pool.read = None  # type: ignore[assignment]
        answer = client.post("/v1/chat/completions", json=request("One"))
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"


def test_a_body_above_the_limit_is_a_413() -> None:
    with served(max_body_mib=1) as (client, _):
        answer = client.post("/v1/chat/completions", json=request("x" * (2 << 20)))
    assert answer.status_code == 413


def test_the_next_request_after_a_full_house_is_refused_and_the_place_comes_back() -> None:
    server = Server(Options(listen="127.0.0.1:1", workers=1, queue_depth=0))
    pages = Pages()
    server.pool = pages  # type: ignore[assignment]
    app = server.app()
    body = json.dumps(request("One")).encode()

    async def call(gone: asyncio.Event) -> list[Any]:
        sent: list[Any] = []
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/chat/completions",
            "headers": [],
            "query_string": b"",
        }
        await app(scope, receive, send)
        return sent

    async def scenario() -> tuple[list[Any], list[Any]]:
        pages.held = True
        leaves, stays = asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(call(leaves))
        await pages.entered.wait()
        # One that is let in waits behind the first.
        refused = await asyncio.wait_for(call(stays), 20)
        leaves.set()  # the first client goes: its page is cancelled, its place free
        await first
        pages.held = False
        return refused, await call(stays)

    refused, answered = asyncio.run(scenario())
    assert refused[0]["status"] == 503
    assert (b"retry-after", b"1") in refused[0]["headers"]
    assert answered[0]["status"] == 200


def test_metrics_have_vllms_names() -> None:
    with served() as (client, _):
        client.post("/v1/chat/completions", json=request("One two"))
        text = client.get("/metrics").text
    assert 'vllm:request_success_total{engine="0",finished_reason="stop"' in text
    assert "vllm:generation_tokens_total{" in text
    assert "vllm:num_requests_waiting{" in text
    assert "vllm:time_to_first_token_seconds_bucket{" in text


@given(st.text(max_size=300), st.integers(1, 20))
def test_truncation_gives_a_prefix_of_that_many_tokens(text: str, tokens: int) -> None:
    cut = api.truncate(text, tokens)
    assert text.startswith(cut)
    assert api.count_tokens(cut) == min(tokens, api.count_tokens(text))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_an_error_of_ours(body: bytes) -> None:
    try:
        ChatRequest.parse(body)
    except ApiError as error:
        assert error.status == 400  # noqa: PT017  # both ways out are right


def test_options_survive_the_command_line() -> None:
    options = Options("unix:/run/a/sock", languages="eng+deu", page_timeout_s=1.5, max_images=3)
    assert Options.parse(options.flags()) == options


def test_a_body_of_more_values_than_any_request_has_is_refused_before_it_is_parsed() -> None:
    with served() as (client, _):
        answer = client.post("/v1/chat/completions", content=b"[" + b"{}," * 100_000 + b"{}]")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "body_too_complex"
    assert answer.headers["X-Cloister-Engine"].startswith("tesseract/")


def test_of_many_wrong_messages_only_the_first_is_described(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = []
    describe = api._first_problem

    def count(error: Any) -> str:
        counts.append(error.error_count())
        return describe(error)

    monkeypatch.setattr(api, "_first_problem", count)
    parts = {"messages": [{"role": "user", "content": [0] * 1000}] * 2}
    for body in ({"messages": [0] * 1000}, parts):
        with pytest.raises(ApiError, match=r"`messages\.0"):
            ChatRequest.parse(json.dumps(body).encode())
    assert counts == [1, 2]  # a content is a string or a list
