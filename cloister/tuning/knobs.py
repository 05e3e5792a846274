"""What is tuned: tables by engine in loadtests/knobs.yaml, so that another knob is another line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, model_validator

from cloister import config, datafiles
from cloister.datafiles import DataError
from cloister.errors import TuningError

# What limits a server, in the words of the load test's verdict.
Limit = Literal["host CPU", "prefill", "decode", "KV memory", "queue limit"]
Role = Literal["sequences", "memory", "replicas"]
Value = int | str
Configuration = Mapping[str, Value]

FLAG = "--"  # what begins so is a flag of `vllm serve`, the rest are keys of cloister.yaml


class Knob(BaseModel):
    """A setting, its values in ascending order of what they cost, and the one to begin with.

    `moves` are the limits that it moves. `stride` is how many values a first step up passes. With
    `only_up` smaller values are not tried. One that `costs` something is tried when asked for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    setting: str
    values: tuple[Value, ...] = Field(min_length=1)
    first: Value
    moves: frozenset[Limit] = frozenset()
    role: Role | None = None
    stride: int = Field(default=1, ge=1)
    only_up: bool = False
    costs: str | None = None

    @model_validator(mode="after")
    def _known(self) -> "Knob":
        if self.first not in self.values:
            raise ValueError(f"`first` of {self.setting} is none of its values")
        if self.role and not all(isinstance(value, int) for value in self.values):
            raise ValueError(f"{self.setting} has a role, so its values must be whole numbers")
        return self

    def neighbours(self, value: Value) -> tuple[Value, ...]:
        """Return the values to try from one: above it, the farthest first, then the one below."""
        at = self.values.index(value)
        above = self.values[at + 1 : at + 1 + self.stride]
        below = () if self.only_up else self.values[max(0, at - 1) : at]
        return (*reversed(above), *below)


class Space(RootModel[tuple[Knob, ...]]):
    """All knobs of an engine."""

    model_config = ConfigDict(frozen=True)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """In the order of the table."""
        return self.root

    @property
    def first(self) -> dict[str, Value]:
        """The configuration to begin with."""
        return {knob.setting: knob.first for knob in self.knobs}

    def of(self, role: Role) -> Knob | None:
        """Return the knob of a role, None where the engine has none."""
        return next((knob for knob in self.knobs if knob.role == role), None)

    def number(self, configuration: Configuration, role: Role) -> int:
        """Return the value of a role's knob, 1 where the engine has none."""
        knob = self.of(role)
        return int(configuration[knob.setting]) if knob else 1

    def above(self, one: Configuration, other: Configuration) -> bool:
        """Tell whether a configuration asks for as much of everything as another, or more."""
        return all(
            knob.values.index(one[knob.setting]) >= knob.values.index(other[knob.setting])
            for knob in self.knobs
        )

    def without_costs(self, wanted: tuple[str, ...] = ()) -> "Space":
        """Return the knobs that change nothing but speed, and those that are `wanted` anyway.

        Raises TuningError for one that is not in the table.
        """
        unknown = set(wanted) - {knob.setting for knob in self.knobs}
        if unknown:
            known = ", ".join(knob.setting for knob in self.knobs if knob.costs)
            raise TuningError(f"no knob `{min(unknown)}`", hint=f"one of {known}")
        return Space(tuple(k for k in self.knobs if not k.costs or k.setting in wanted))

    def with_values(self, changes: Configuration) -> "Space":
        """Return the knobs with values of a user's own, each to begin with.

        A setting that no knob turns becomes one of a single value.
        """
        known = {knob.setting for knob in self.knobs}
        others = tuple(
            Knob(setting=name, values=(value,), first=value)
            for name, value in changes.items()
            if name not in known
        )
        return Space((*(_with(knob, changes) for knob in self.knobs), *others))


def _with(knob: Knob, changes: Configuration) -> Knob:
    value = changes.get(knob.setting, knob.first)
    numbers = all(isinstance(one, int) for one in (*knob.values, value))
    values = knob.values if value in knob.values else (*knob.values, value)
    ordered = tuple(sorted(values, key=int)) if numbers else values
    return knob.model_copy(update={"values": ordered, "first": value})


class _Table(RootModel[dict[str, Space]]):
    pass


def load(engine: str, path: Path | None = None) -> Space:
    """Return the knobs of an engine; raises TuningError for a table that cannot be read."""
    path = path or config.project_root() / "loadtests" / "knobs.yaml"
    try:
        table = _Table.model_validate(datafiles.load_yaml(path)).root
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise TuningError(f"`{path}`: `{place}`: {first['msg']}") from error
    except (OSError, DataError) as error:
        reason, hint = " ".join(str(error).split()), getattr(error, "hint", None)
        raise TuningError(f"`{path}` cannot be read: {reason}", hint=hint) from error
    if engine not in table:
        raise TuningError(f"`{path}` has no knobs for `{engine}`", hint=f"add `{engine}:` to it")
    return table[engine]


def as_settings(configuration: Configuration, flags: Sequence[str] = ()) -> dict[str, Any]:
    """Return a configuration as keys of cloister.yaml.

    Flags of `vllm serve` join those that are set already, `flags`, or replace them.
    """
    own = {name: value for name, value in configuration.items() if name.startswith(FLAG)}
    keys = {name: value for name, value in configuration.items() if name not in own}
    if not own:
        return keys
    kept = [flag for flag in flags if flag.partition("=")[0] not in own]
    return {**keys, "vllm.flags": [*kept, *(f"{name}={value}" for name, value in own.items())]}


def told(configuration: Configuration, beside: Configuration | None = None) -> str:
    """Return a configuration in words, or what it moves beside another one."""
    moved = {
        name: value
        for name, value in configuration.items()
        if beside is None or beside.get(name) != value
    }
    return ", ".join(f"{name}={value}" for name, value in moved.items()) or "as the first"
