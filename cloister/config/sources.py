"""The sources over the defaults: environment variables and flags here, the file in `yamlfile`.

All of them give text, which is parsed by the type of its key and not by how it looks. So YAML's
surprises (`no` for Norwegian, `010` for 8, `1:30` for 90) cannot happen.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rapidfuzz import fuzz, process

from cloister.config.fields import printable
from cloister.config.keys import Leaf, leaves, sections
from cloister.errors import ConfigError

CONFIG_VARIABLE = "CLOISTER_CONFIG"
API_KEY_VARIABLE = "CLOISTER_API_KEY"  # no setting: settings are written down and shown
# The last two mark the processes that Cloister starts, so that it can find them again.
_OTHER_VARIABLES = frozenset(
    {CONFIG_VARIABLE, API_KEY_VARIABLE, "CLOISTER_INSTANCE", "CLOISTER_PROGRAM"}
)
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_NEAR = 75  # of 100; below it a suggestion confuses more than it helps


@dataclass
class Reading:
    """What the sources said: a value and an origin for each key set, and what was wrong."""

    values: dict[str, object] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[ConfigError] = field(default_factory=list)

    def put(self, key: str, value: object, origin: str) -> None:
        """Set `key`, over any earlier source."""
        self.values[key], self.origins[key] = value, origin

    def refuse(self, message: str, hint: str | None = None) -> None:
        """Note a problem; the sources are read to the end so that all can be counted."""
        self.problems.append(ConfigError(message, hint=hint))

    def refuse_unknown(self, key: str, origin: str) -> None:
        """Note that `key` does not exist, and name the nearest one that does."""
        known = list(leaves()) if "." in key else [*leaves(), *sections()]
        self.refuse(f"`{printable(key)}` in {origin} is not a known key", _nearest(key, known))


def parse(leaf: Leaf, text: str) -> object:
    """Return `text` as the type of `leaf`, or unchanged for the schema to refuse."""
    if leaf.optional and text.lower() in {"null", "auto"}:
        return None
    if leaf.kind == "int" and _INTEGER.fullmatch(text):
        return int(text)
    if leaf.kind == "float" and _NUMBER.fullmatch(text):
        return float(text)
    if leaf.kind == "bool":
        return {"true": True, "false": False}.get(text.lower(), text)
    if leaf.kind == "list":
        return _parse_list(text)
    return text


def read_environment(reading: Reading, environ: Mapping[str, str]) -> None:
    """Read every CLOISTER_* variable."""
    known = {leaf.variable: leaf for leaf in leaves().values()}
    ours = {name for name in environ if name.startswith("CLOISTER_")} - _OTHER_VARIABLES
    for name in sorted(ours):
        if leaf := known.get(name):
            reading.put(leaf.key, parse(leaf, environ[name]), name)
        else:
            reading.refuse(
                f"`{printable(name)}` in the environment is not a variable of Cloister",
                _nearest(name, [*known, CONFIG_VARIABLE]),
            )


def read_flags(reading: Reading, flags: Sequence[str]) -> None:
    """Read `--set` flags, each "key=value"; of two for one key the last holds."""
    for flag in flags:
        key, equals, text = flag.partition("=")
        if leaf := leaves().get(key):
            if equals:
                reading.put(key, parse(leaf, text), "--set")
            else:
                reading.refuse(f"`{key}` in --set has no value", f"write `--set {key}=VALUE`")
        elif key in sections():
            keys = ", ".join(f"`{known}`" for known in leaves() if known.startswith(f"{key}."))
            reading.refuse(f"`{key}` in --set is a section, not a key", f"its keys: {keys}")
        else:
            reading.refuse_unknown(key, "--set")


def _nearest(name: str, known: Sequence[str]) -> str:
    match = process.extractOne(name, known, scorer=fuzz.WRatio, score_cutoff=_NEAR)
    return f"did you mean `{match[0]}`?" if match else "docs/configuration.md has every key"


def _parse_list(text: str) -> object:
    if text.startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return [item.strip() for item in text.split(",")] if text else []
