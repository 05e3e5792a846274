"""What Docker says of a thing, key by key, beside what the plan says; pure.

Nothing is taken for harmless because nobody thought of it: a key without an expectation has to be
at the value that switches it off, and one that this version does not know is told even then.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from cloister.config import parse_difference
from cloister.isolation.finding import Finding
from cloister.isolation.fixes import RECREATE
from cloister.isolation.keys import UNORDERED

# Returns whether a value is as planned.
Rule = Callable[[Any], bool]
_SHOWN = 160
_UPDATE = "use a version of Cloister that knows this Docker engine"


@dataclass(frozen=True)
class Expected:
    """What a thing has to be: the rule of each key, with the words that say what it asks for.

    Keys are dotted. `whole` are keys whose objects are values, since their own keys are names.
    `off` are keys that Docker has and this project does not use. `free` are keys, and beginnings
    of keys that end with a dot, whose values mean nothing here: identities, times, places. `fix`
    is what to do about a difference, `fixes` where it is something else for a key.
    """

    rules: Mapping[str, tuple[Rule, str]]
    whole: AbstractSet[str] = frozenset()
    off: AbstractSet[str] = frozenset()
    free: AbstractSet[str] = frozenset()
    fix: str = RECREATE
    fixes: Mapping[str, str] = field(default_factory=dict)


def exactly(value: Any) -> tuple[Rule, str]:
    """Ask for this value."""
    return (lambda found: found == value), _shown(value)


def one_of(*values: Any) -> tuple[Rule, str]:
    """Ask for one of these values."""
    return (lambda found: found in values), " or ".join(map(_shown, values))


def nothing() -> tuple[Rule, str]:
    """Ask for the value that switches a key off."""
    return is_off, "nothing"


def is_off(value: Any) -> bool:
    """Tell whether a value is one by which Docker says that something is not there."""
    if isinstance(value, list):
        return all(map(is_off, value))
    return not value


def compare(subject: str, told: Mapping[str, Any], expected: Expected) -> Iterator[Finding]:
    """Yield a finding for each key that is not as planned, and one for all that are."""
    found = {key: _sort(key, value) for key, value in _leaves(told, expected.whole).items()}
    as_planned = 0
    for key in sorted({*found, *expected.rules}):
        finding = _judge(subject, key, found.get(key), expected)
        if finding is None:
            as_planned += 1
        else:
            yield finding
    yield Finding(subject, "configuration", "sealed", f"{as_planned} keys are as planned")


def line(subject: str, key: str, value: Any) -> str:
    """Return the line of `docker.allowed_differences` that accepts a value."""
    text = json.dumps(_sort(key, value), sort_keys=True, separators=(",", ":"))
    return f"{subject} {key} {text}"


def normalize(listed: str) -> str:
    """Return a listed line as `line` writes it, in whatever order its lists are."""
    name, value = parse_difference(listed)
    subject, _, key = name.rpartition(" ")
    return line(subject, key, value)


def _judge(subject: str, key: str, value: Any, expected: Expected) -> Finding | None:
    if key in expected.rules:
        rule, wanted = expected.rules[key]
        if _follows(rule, value):
            return None
        seen = f"{_shown(value)}, planned: {wanted}"
    elif key in expected.free or any(
        key.startswith(beginning) for beginning in expected.free if beginning.endswith(".")
    ):
        return None
    elif is_off(value):
        if key in expected.off:
            return None
        seen = f"{_shown(value)}: a key that this version of Cloister does not know"
        return Finding(subject, key, "unknown", seen, _UPDATE, line(subject, key, value))
    else:
        seen = f"{_shown(value)}, planned: nothing"
    fix = expected.fixes.get(key, expected.fix)
    return Finding(subject, key, "open", seen, fix, line(subject, key, value))


def _follows(rule: Rule, value: Any) -> bool:
    """Return whether a value is as planned; one of another shape is not."""
    try:
        return rule(value)
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def _leaves(told: Mapping[str, Any], whole: AbstractSet[str], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in told.items():
        key = f"{above}{name}"
        if isinstance(value, dict) and value and key not in whole:
            found |= _leaves(value, whole, f"{key}.")
        else:
            found[key] = value
    return found


def _sort(key: str, value: Any) -> Any:
    """Return a value in the one order in which it is compared and printed."""
    if key not in UNORDERED or not isinstance(value, list):
        return value
    return sorted(value, key=lambda one: json.dumps(one, sort_keys=True))


def _shown(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
