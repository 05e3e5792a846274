"""Loading: the sources in rising precedence, one validation, one problem in plain words."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cloister.config.fields import described, project_root
from cloister.config.keys import leaves
from cloister.config.profiles import apply_profile
from cloister.config.schema import Settings
from cloister.config.sources import CONFIG_VARIABLE, Reading, read_environment, read_flags
from cloister.config.tuned import Ask, apply_tuned
from cloister.config.yamlfile import read_file
from cloister.errors import ConfigError

FILE_NAME = "cloister.yaml"
_DEFAULT = "default"


@dataclass(frozen=True)
class Setting:
    """One key in force: its JSON-able value, and which source gave it.

    `origin` is "default", "profiles/x.yaml line 3", "tuned/x.yaml line 3", "cloister.yaml line 3",
    a variable's name or "--set".
    """

    key: str
    value: object
    origin: str


@dataclass(frozen=True)
class Loaded:
    """A valid configuration, with the origin of every key in the order of the schema."""

    settings: Settings
    origins: tuple[Setting, ...]


def load(
    *,
    flags: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    config_file: Path | None = None,
    hardware: Ask | None = None,
) -> Loaded:
    """Load the configuration.

    From low to high: defaults, the model's profile, what was tuned for the engine's `hardware`, the
    file, CLOISTER_* and `--set` flags. `flags` are "gateway.port=9001" texts; `environ` is the
    process's own unless given. The file is `config_file`, else the one CLOISTER_CONFIG names, else
    cloister.yaml beside the package if there is one. Raises ConfigError, which tells the first
    problem and counts the others.
    """
    environ = os.environ if environ is None else environ
    reading = Reading()
    if config_file is not None:
        read_file(reading, config_file, given_by="the command line")
    elif CONFIG_VARIABLE in environ:
        read_file(reading, Path(environ[CONFIG_VARIABLE]), given_by=CONFIG_VARIABLE)
    else:
        read_file(reading, project_root() / FILE_NAME, given_by=None)
    read_environment(reading, environ)
    read_flags(reading, flags)
    if hardware is not None:
        apply_tuned(reading, hardware)
    apply_profile(reading)
    settings = _validate(reading)
    values = _flat(settings)
    return Loaded(
        settings,
        tuple(Setting(key, values[key], reading.origins.get(key, _DEFAULT)) for key in leaves()),
    )


def changed(settings: Settings, flags: Sequence[str]) -> Settings:
    """Return settings with some keys set as by `--set`, valid as a whole; raises ConfigError."""
    reading = Reading()
    for key, value in _flat(settings).items():
        reading.put(key, value, "what is up")
    read_flags(reading, flags)
    return _validate(reading)


def _validate(reading: Reading) -> Settings:
    nested: dict[str, Any] = {}
    for key, value in reading.values.items():
        section, _, name = key.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[name] = value
    try:
        settings = Settings.model_validate(nested)
    except ValidationError as error:
        reading.problems += [_explain(detail, reading.origins) for detail in error.errors()]
    else:
        if not reading.problems:
            return settings
    first, *others = reading.problems
    count = f" (and {len(others)} more problem{'s' * (len(others) > 1)})" if others else ""
    raise ConfigError(first.message + count, hint=first.hint)


def _explain(error: ErrorDetails, origins: Mapping[str, str]) -> ConfigError:
    context = error.get("ctx", {})
    # The position inside a list is not part of a key.
    key = context.get("key") or ".".join(part for part in error["loc"] if isinstance(part, str))
    subject = f"`{key}` in {origins[key]}" if key in origins else f"`{key}` by default"
    if error["type"] == "refused":
        return ConfigError(f"{subject} {error['msg']}", hint=context["hint"] or None)
    found = described(error["input"])
    return ConfigError(f"{subject} must be {leaves()[key].expected}, not {found}")


def _flat(settings: Settings) -> dict[str, object]:
    dumped = settings.model_dump(mode="json")
    flat: dict[str, object] = {}
    for key in leaves():
        section, _, name = key.rpartition(".")
        flat[key] = dumped[section][name] if section else dumped[name]
    return flat
