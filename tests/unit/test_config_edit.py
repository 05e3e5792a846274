"""Any valid cloister.yaml, any edit: only the edited values differ, and every comment stays."""

import re
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from repetitions import REPETITIONS

from cloister.config import with_keys
from cloister.errors import ConfigError

# What a value may look like, with what it says; `{n}` is where its lines are indented.
_STYLES: list[tuple[str, Any]] = [
    (" 3", "3"),
    (" 'a # b'", "a # b"),
    (' "x: y"  # why', "x: y"),
    (" plain # said", "plain"),
    ("", ""),
    (" null", "null"),
    ("  # nothing yet", ""),
    (" [1, 2]", ["1", "2"]),
    (" [1, # one\n{n}2,\n{n}]  # two", ["1", "2"]),
    ("\n{n}- 1\n{n}- 2", ["1", "2"]),
    ("  # cards\n{n}# the first\n{n}- 1 # large\n\n{n}- 2\n{n}# no more", ["1", "2"]),
    (" >-\n{n}folded\n{n}text # no comment", "folded text # no comment"),
    (" |\n{n}kept\n{n}  as: it\n\n{n}is\n", "kept\n  as: it\n\nis\n"),
    (" >+ # folded\n{n}a\n\n", "a\n\n"),
    (" several\n{n}words\n\n{n}long", "several words\nlong"),
    (" 'over\n{n}lines'", "over lines"),
    (' "\\\n{n}joined"', "joined"),
    (" {a: 1, b: [2]}", {"a": "1", "b": ["2"]}),
]
_NAMES = ["replicas", "weights", "gpus", "port", "name", "a b", "e"]
_QUOTES = ["{}", '"{}"', "'{}'"]
_BETWEEN = ["", "\n", "# between\n", "  # indented\n\n", "#replicas: 1\n", "#  weights: [9]\n"]
_VALUES: list[Any] = [3, True, None, "a/b", "", "x # y", "a: b", "'", '"', "- 1", "line\nline", "é"]
_VALUES += [[], [1, 2], ["a b", "c, d"], "null", "3", "{", "&a", "*", "\t", " x ", 1.5, "\u2028"]


@st.composite
def blocks(draw: st.DrawFn, depth: int, column: int) -> tuple[str, dict[str, Any]]:
    """Return a mapping's text, each line indented, and what it says."""
    names = draw(st.lists(st.sampled_from(_NAMES), max_size=4, unique=True))
    pad, text = " " * column, ""
    said: dict[str, Any] = {}
    for name in names:
        text += draw(st.sampled_from(_BETWEEN)) if depth else ""
        written = draw(st.sampled_from(_QUOTES)).format(name)
        text += f"{pad}{written}{draw(st.sampled_from(['', ' ']))}:"
        if depth and draw(st.booleans()):
            inner, said[name] = draw(blocks(depth - 1, column + draw(st.sampled_from([1, 2, 4]))))
            head = draw(st.sampled_from(["", "  # section", "\n# below"]))
            text += f"{head}\n{inner}"
            said[name] = said[name] or ""
        else:
            style, said[name] = draw(st.sampled_from(_STYLES))
            text += style.replace("{n}", pad + "  ") + "\n"
    return text, said


@st.composite
def files(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    text, said = draw(blocks(1, 0))
    head = draw(st.sampled_from(["", "# mine\n", "---\n", "%YAML 1.1\n---\n", "\n\n", "--- # a\n"]))
    tail = draw(st.sampled_from(["", "# the end\n", "...\n", "\n\n", "# no newline"]))
    whole = head + text + tail
    if draw(st.booleans()) and not whole.startswith("%"):
        whole = "\ufeff" + whole
    if draw(st.booleans()):
        whole = whole.replace("\n", "\r\n")
    return whole, said


def _is_sound(text: str, said: dict[str, Any]) -> bool:
    """Tell whether a generated text says what it was meant to: some pieces do not go together."""
    try:
        return (yaml.load(text, Loader=yaml.BaseLoader) or {}) == said  # noqa: S506
    except yaml.YAMLError:
        return False


@settings(max_examples=REPETITIONS.edits)
@given(
    files(),
    st.sampled_from(["", *_NAMES, "new"]),
    st.dictionaries(st.sampled_from([*_NAMES, "other"]), st.sampled_from(_VALUES), min_size=1),
)
def test_only_what_is_edited_differs_and_comments_stay(
    file: tuple[str, dict[str, Any]], section: str, values: dict[str, Any]
) -> None:
    text, said = file
    assume(_is_sound(text, said))
    inner = said.get(section, "") if section else said
    if isinstance(inner, str) and inner in {"", "null"}:
        inner = {}
    if not isinstance(inner, dict):
        with pytest.raises(ConfigError, match="without changing something else"):
            with_keys(text, section, values)
        return
    after = with_keys(text, section, values)
    # What is written is read as YAML's own types; what was there, as text.
    found, typed = yaml.load(after, Loader=yaml.BaseLoader), yaml.safe_load(after)  # noqa: S506
    there, types = (found.pop(section), typed.pop(section)) if section else (found, typed)
    for key, value in values.items():
        assert types[key] == value, after
    rest = {key: value for key, value in there.items() if key not in values}
    assert rest == {key: value for key, value in inner.items() if key not in values}, after
    if section:
        assert found == {key: value for key, value in said.items() if key != section}, after
    for comment in re.findall(r"# (?:mine|the end|between|indented|section|below)", text):
        assert after.count(comment) >= text.count(comment)
    kept = ("why", "said", "nothing yet", "one", "two", "cards", "the first", "large", "no more")
    for word in kept:
        assert after.count(f"# {word}") == text.count(f"# {word}"), after


@pytest.mark.parametrize(
    ("text", "section", "values", "expected"),
    [
        (
            "engines:\n  weights:\n    - 1\n    - 3\n",
            "engines",
            {"weights": []},
            "engines:\n  weights: []\n",
        ),
        (
            "engines:\n  weights: >-\n    a\n    b\n  x: 1\n",
            "engines",
            {"weights": [1]},
            "engines:\n  weights: [1]\n  x: 1\n",
        ),
        ('"engines":\n  per_gpu: 1\n', "engines", {"per_gpu": 2}, '"engines":\n  per_gpu: 2\n'),
        ("replicas: 1  # for now\n", "", {"replicas": 2}, "replicas: 2  # for now\n"),
        ("model: {name: a/b}\n", "model", {"name": "c/d"}, "model: {name: c/d}\n"),
        ("model: {}\n", "model", {"name": "c/d"}, "model: {name: c/d}\n"),
        ("model:\n", "model", {"name": "c/d"}, "model:\n  name: c/d\n"),
        (
            "gateway:\n  #keys: false\n  port: 1\n",
            "gateway",
            {"keys": True},
            "gateway:\n  #keys: false\n  keys: true\n  port: 1\n",
        ),
        ("a: 1\r\n", "", {"b": 2}, "b: 2\r\na: 1\r\n"),
        ("{replicas: 1}\n", "model", {"name": "c/d"}, "{model: {name: c/d}, replicas: 1}\n"),
    ],
)
def test_a_file_looks_as_its_owner_would_have_changed_it(
    text: str, section: str, values: dict[str, Any], expected: str
) -> None:
    assert with_keys(text, section, values) == expected


@pytest.mark.parametrize("text", ["a: [\n", "- 1\n", "words\n", "a: 1\na: {\n", '"\\UFFFFFFFF"\n'])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        with_keys(text, "", {"replicas": 3})


@pytest.mark.parametrize("text", ["gateway: {certificate}\n", "gateway:\n  ? certificate\n"])
def test_a_key_without_a_colon_is_left_to_its_owner(text: str) -> None:
    with pytest.raises(ConfigError, match="without changing something else"):
        with_keys(text, "gateway", {"certificate": "/a"})


def test_a_section_that_is_a_list_is_left_to_its_owner() -> None:
    with pytest.raises(ConfigError, match=r"cannot be given `model\.name: c/d`"):
        with_keys("model: [a]\n", "model", {"name": "c/d"})
