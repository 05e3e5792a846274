"""Every key of the schema as plain facts, for the sources, the errors and the documents."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from cloister.config.fields import Expected
from cloister.config.schema import Settings


@dataclass(frozen=True)
class Leaf:
    """One key of the schema: how its text is parsed and how it is described."""

    key: str
    kind: Literal["int", "float", "bool", "list", "text"]
    optional: bool
    default: object
    expected: str
    description: str

    @property
    def variable(self) -> str:
        """The environment variable that sets the key."""
        return "CLOISTER_" + self.key.upper().replace(".", "_")


@functools.cache
def leaves() -> dict[str, Leaf]:
    """Return every key, dotted, in the order of the schema."""
    return {leaf.key: leaf for leaf in _walk(Settings, "")}


@functools.cache
def sections() -> dict[str, str]:
    """Return the name of every section with what it is about, in the order of the schema."""
    return {
        name: section.__doc__ or ""
        for name, field in Settings.model_fields.items()
        if (section := _section(field))
    }


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _walk(model: type[BaseModel], prefix: str) -> Iterator[Leaf]:
    for name, field in model.model_fields.items():
        if section := _section(field):
            yield from _walk(section, f"{prefix}{name}.")
        else:
            yield _leaf(prefix + name, field)


def _leaf(key: str, field: FieldInfo) -> Leaf:
    arguments = get_args(field.annotation)
    optional = NoneType in arguments
    base = arguments[0] if optional else get_origin(field.annotation) or field.annotation
    kinds: dict[object, Literal["int", "float", "bool", "list"]] = {
        int: "int",
        float: "float",
        bool: "bool",
        tuple: "list",
    }
    return Leaf(
        key=key,
        kind=kinds.get(base, "text"),
        optional=optional,
        default=to_jsonable_python(field.default),
        expected=_expected(base, field) + (", or null" if optional else ""),
        description=field.description or "",
    )


def _expected(base: object, field: FieldInfo) -> str:
    if base is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(field.annotation))
    if base is bool:
        return "true or false"
    if base in {int, float}:
        limits = {n: getattr(m, n) for m in field.metadata for n in ("ge", "le") if hasattr(m, n)}
        kind = "whole number" if base is int else "number"
        return f"a {kind} from {limits['ge']} to {limits['le']}"
    return next(item.words for item in field.metadata if isinstance(item, Expected))
