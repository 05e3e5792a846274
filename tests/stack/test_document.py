"""What nginx and Tesseract answer together is what docs/openapi.yaml says."""

import json
from typing import Any

import api_document
import pytest
import requests
from deployments import Stack
from pages import data_url, encoded, page, request

PAGE = ("POST", "/v1/chat/completions")
READABLE = data_url(encoded(page("Documented 2345")))


def ask(stack: Stack, method: str, path: str, body: Any = None) -> requests.Response:
    return requests.request(method, f"{stack.url}{path}", json=body, timeout=30)


def wrong(operation: tuple[str, str], answer: requests.Response, body: Any) -> str | None:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return api_document.problem(operation, answer.status_code, headers, body)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (request(READABLE), 200, None),
        (api_document.example_request(), 400, "invalid_image"),
        (request(), 400, "no_image"),
        (request(*[READABLE] * 17), 400, "too_many_images"),
        (request("https://example.org/a.png"), 400, "invalid_image"),
        ({"messages": "a"}, 400, None),
        (request(READABLE, model="gpt-4"), 404, "model_not_found"),
    ],
)
def test_a_page(stack: Stack, body: Any, status: int, code: str | None) -> None:
    answer = ask(stack, *PAGE, body)
    assert (answer.status_code, answer.json().get("error", {}).get("code")) == (status, code)
    assert wrong(PAGE, answer, answer.json()) is None


@pytest.mark.parametrize("usage", [True, False])
def test_a_stream(stack: Stack, usage: bool) -> None:  # noqa: FBT001
    body = request(READABLE, stream=True, stream_options={"include_usage": usage})
    answer = ask(stack, *PAGE, body)
    *events, last = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert last == "[DONE]"
    chunk = api_document.validator(
        api_document.document()["components"]["schemas"]["ChatCompletionChunk"]
    )
    for event in events:
        assert wrong(PAGE, answer, {"data": event}) is None
        assert list(chunk.iter_errors(json.loads(event))) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", "/v1/models"), ("GET", "/health"), ("GET", "/metrics")),
        *(("HEAD", "/v1/models"), ("HEAD", "/health")),
    ],
)
def test_the_other_routes(stack: Stack, method: str, path: str) -> None:
    answer = ask(stack, method, path)
    assert answer.status_code == 200
    kind = answer.headers["Content-Type"].partition(";")[0]
    body = answer.json() if kind == "application/json" and method == "GET" else None
    assert wrong((method, path), answer, body) is None


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/health", "/metrics"])
def test_another_method(stack: Stack, path: str) -> None:
    told = next(name for name in api_document.operations() if name[1] == path)
    answer = ask(stack, "DELETE", path)
    assert answer.status_code == 405
    assert wrong(told, answer, answer.json()) is None
