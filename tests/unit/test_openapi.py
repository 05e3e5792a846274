"""docs/openapi.yaml says what the gateway's configuration and the engine say."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from api_document import PATH, answers, document, examples, operations, resolved, validator
from openapi_spec_validator import validate

from cloister import VERSION
from cloister.config import GatewaySettings
from cloister.endpoint import Listener, parse
from cloister.engines import AnswerLimits, Replica, json_bounds
from cloister.engines.tesseract.api import ChatRequest
from cloister.gateway import Door, Place, Upstream, render
from cloister.gateway.refusals import refusals

ANSWER = AnswerLimits(64, 3600)
ROOT = PATH.parents[1]
_ENGINE = ROOT / "cloister" / "engines" / "tesseract"
_REFUSED = re.compile(r"ApiError\((\d+), [^\n]*code=\"(\w+)\"")
_BOUNDS = {(400, json_bounds.CODE)}
# A bug, and a body against the schema: `_bug` in app.py and `ChatRequest.parse`.
_UNNAMED = {(500, "internal_error"), (400, None)}


def blocks(text: str, word: str) -> list[tuple[str, str]]:
    """Return the blocks of nginx' configuration that begin with a word, each with its title."""
    found = []
    for start in re.finditer(rf"^ *{word}([^{{\n]*) \{{\n", text, re.MULTILINE):
        indent = len(start[0]) - len(start[0].lstrip())
        end = text.index("\n" + " " * indent + "}", start.end() - 1)
        found.append((start[1].strip(), text[start.end() : end]))
    return found


def allowed(settings: GatewaySettings) -> dict[str, set[str]]:
    """Return the methods of each route that the configuration lets pass."""
    nowhere = parse("127.0.0.1:8099")
    door = Door(
        settings, (Upstream(Replica("a", Listener.at(nowhere))),), ANSWER, 310, nowhere, nowhere
    )
    _, main = blocks(render(door, Place(Path("/state"), None)), "server")[-1]
    found = {}
    for title, text in blocks(main, "location"):
        if title.startswith("@") or "internal;" in text:
            continue
        if title == "/":
            assert text.split() == ["return", "404;"], "everything else"
            continue
        match, path = title.split()
        assert match == "=", title
        methods = re.search(r"\$request_method !(?:= (\w+)|~ \^\(([\w|]+)\)\$)", text)
        assert methods, title
        found[path] = set((methods[1] or methods[2]).split("|"))
    return found


def test_it_is_an_openapi_document() -> None:
    validate(document())
    assert document()["openapi"].startswith("3.1.")
    assert document()["info"]["version"] == VERSION


@pytest.mark.parametrize(
    "settings", [GatewaySettings(), GatewaySettings(cors_origins=("https://a.example",))]
)
def test_its_routes_are_those_that_the_configuration_lets_pass(settings: GatewaySettings) -> None:
    told: dict[str, set[str]] = {}
    for method, path in operations():
        told.setdefault(path, set()).add(method)
    assert told == allowed(settings)


def test_it_has_every_refusal_word_for_word() -> None:
    wanted = set()
    for refusal in refusals(GatewaySettings(), ANSWER):
        wanted.add((refusal.status, _words(json.loads(refusal.body))))
        for variant in refusal.variants:
            wanted.add((variant.status, _words(json.loads(variant.body))))
    told = {(status, _words(value)) for _, status, value in examples()}
    assert wanted <= told
    codes = {(status, json.loads(words)["code"]) for status, words in told - wanted}
    assert codes == engine_refusals() - {(413, "request_too_large")}, "the engine's is the same"


def _words(body: dict[str, Any]) -> str:
    return json.dumps(body["error"], sort_keys=True)


def engine_refusals() -> set[tuple[int, str | None]]:
    """Return status and code of each of the engine's own errors."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in _ENGINE.glob("*.py"))
    return {(int(status), code) for status, code in _REFUSED.findall(text)} | _UNNAMED | _BOUNDS


def test_its_statuses_are_those_of_the_refusals() -> None:
    told = {status for one in operations().values() for status in answers(one)}
    statuses = {refusal.status for refusal in refusals(GatewaySettings(), ANSWER)}
    assert told == statuses | {200}


def test_every_example_and_every_refusal_fits_the_schema() -> None:
    error = validator(document()["components"]["schemas"]["Error"])
    for name, _, value in examples():
        assert error.is_valid(value), name
    told = document()["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]
    body = told["application/json"]
    assert validator(body["schema"]).is_valid(body["example"])
    assert not error.is_valid({"error": {"message": "no code"}})


def test_headers_stand_where_the_configuration_sends_them() -> None:
    for one in operations().values():
        for status, answer in answers(one).items():
            headers = set(answer["headers"])
            assert "X-Request-ID" in headers
            assert ("Retry-After" in headers) == (status in {429, 500, 502, 503}), status
            assert ("WWW-Authenticate" in headers) == (status == 401), status


def test_a_key_is_asked_for_where_a_401_stands() -> None:
    for name, one in operations().items():
        schemes = one.get("security", document()["security"])
        assert ({"key": []} in schemes) == (401 in answers(one)), name


def test_the_request_has_the_fields_that_the_engine_reads() -> None:
    told: dict[str, Any] = resolved({"$ref": "#/components/schemas/ChatRequest"})
    read = ChatRequest.model_json_schema()
    assert set(read["properties"]) <= set(told["properties"])
    assert set(told["required"]) == set(read["required"])
    roles = read["$defs"]["Message"]["properties"]["role"]["enum"]
    assert resolved({"$ref": "#/components/schemas/Message"})["properties"]["role"]["enum"] == roles
