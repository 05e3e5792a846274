"""docs/openapi.yaml as tests use it: its operations, its examples, and answers held against it."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

PATH = Path(__file__).parents[1] / "docs" / "openapi.yaml"
_METHODS = ("get", "head", "post", "put", "delete", "options", "trace", "patch")


@cache
def document() -> dict[str, Any]:
    """Return the document."""
    loaded: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    return loaded


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    """Return what the document describes by method and path."""
    return {
        (method.upper(), path): item[method]
        for path, item in document()["paths"].items()
        for method in _METHODS
        if method in item
    }


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference, if it is one."""
    while "$ref" in value:
        found = document()
        for step in value["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        value = found
    return value


def answers(operation: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Return the answers of an operation by their status."""
    return {int(status): resolved(one) for status, one in operation["responses"].items()}


def examples() -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield name, status and value of every example of a refusal."""
    statuses = {
        one["$ref"].rpartition("/")[2]: int(status)
        for operation in operations().values()
        for status, one in operation["responses"].items()
        if "$ref" in one
    }
    for name, one in document()["components"]["responses"].items():
        for example in one["content"]["application/json"]["examples"].values():
            yield name, statuses[name], example["value"]


def example_request() -> dict[str, Any]:
    """Return the request that the document shows."""
    operation = operations()["POST", "/v1/chat/completions"]
    example: dict[str, Any] = operation["requestBody"]["content"]["application/json"]["example"]
    return example


def validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    """Return a validator for a schema that stands in the document."""
    # References lead into the whole document, so it has to be around them.
    return Draft202012Validator({**schema, "components": document()["components"]})


@cache
def _validator(method: str, path: str, status: int, kind: str) -> Draft202012Validator:
    answer = answers(operations()[method, path])[status]
    return validator(answer["content"][kind]["schema"])


def problem(
    operation: tuple[str, str], status: int, headers: Mapping[str, str], body: Any
) -> str | None:
    """Say what is wrong with an answer, by the document; `headers` have names in lower case.

    `body` is what was parsed from the body, None for one that is not looked at.
    """
    told = answers(operations()[operation]).get(status)
    if told is None:
        return f"{operation} has no status {status}"
    kind = headers.get("content-type", "").partition(";")[0]
    if kind not in told["content"]:
        return f"{operation} has no {kind} for {status}"
    for name, one in told["headers"].items():
        header = resolved(one)
        value = headers.get(name.lower())
        if value is None:
            if header.get("required"):
                return f"no {name} with {status}"
            continue
        typed = int(value) if header["schema"].get("type") == "integer" else value
        if not validator(header["schema"]).is_valid(typed):
            return f"{name}: {value}"
    error = (
        None if body is None else best_match(_validator(*operation, status, kind).iter_errors(body))
    )
    return error and f"{error.json_path}: {error.message}"
