"""Setting keys in the user's cloister.yaml: only their values change, and every comment stays.

The text is cut where YAML's own parser says that a value begins and ends; what is between is
replaced, and nothing is written that does not read as what was wanted.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import yaml

from cloister.errors import ConfigError

_NULL_TAG = "tag:yaml.org,2002:null"
_NULLS = ("", "~", "null", "Null", "NULL")
# The last two are from chr(), which PyYAML gives what it reads.
_NOT_YAML = (yaml.YAMLError, ValueError, OverflowError)


def with_keys(text: str, section: str, values: Mapping[str, object]) -> str:
    """Return the file's text with keys of a section set; pure.

    Without a section the keys are those at the top. A key that is new is written below the line
    where it is commented out, or first in its section. Comments inside a value that is replaced
    are moved above it. Raises ConfigError where the text is not YAML, and where there is no way
    to write it that reads as wanted, such as in a section that is a list.
    """
    for key, value in values.items():
        text = _with_key(text, section, key, _written(value))
    return text


def _with_key(text: str, section: str, key: str, value: str) -> str:
    try:
        wanted = _expected(_read(text), section, key, value)
        comments = Counter(comment for _, comment in _comments(text))
        for candidate in _candidates(text, section, key, value):
            if _reads_as(candidate, wanted, comments):
                return candidate
    except _NOT_YAML as error:
        raise ConfigError(f"cloister.yaml is not YAML: {_one_line(error)}") from None
    name = f"{section}.{key}" if section else key
    raise ConfigError(
        f"cloister.yaml cannot be given `{name}: {value}` without changing something else in it",
        hint="set it there by hand",
    )


def _written(value: object) -> str:
    """Return a value as YAML in one line."""
    style = '"' if isinstance(value, str) and not value.isprintable() else None
    text: str = yaml.safe_dump(
        value, default_flow_style=True, default_style=style, width=sys.maxsize, allow_unicode=True
    )
    return text.removesuffix("...\n").rstrip("\n")


def _read(text: str) -> object:
    """Return what the text says, every scalar as its own text."""
    # BaseLoader makes nothing but text, lists and mappings.
    return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506


def _expected(document: object, section: str, key: str, value: str) -> object:
    whole = dict(document) if isinstance(document, dict) else {}
    if document and not isinstance(document, dict):
        return None  # no mapping: nothing reads as this
    if not section:
        return whole | {key: _read(value)}
    inner = whole.get(section, "")
    inner = {} if inner in _NULLS else inner
    return whole | {section: inner | {key: _read(value)}} if isinstance(inner, dict) else None


def _reads_as(text: str, wanted: object, comments: Counter[str]) -> bool:
    try:
        return _read(text) == wanted and comments <= Counter(one for _, one in _comments(text))
    except _NOT_YAML:
        return False


def _comments(text: str) -> Iterator[tuple[int, str]]:
    """Return each comment and where it begins: what is between two tokens and no space."""
    ends = [(0, 0), *((t.start_mark.index, t.end_mark.index) for t in _tokens(text))]
    for (_, end), (start, _) in pairwise([*ends, (len(text), len(text))]):
        for found in re.finditer(r"#[^\r\n\x85\u2028\u2029]*", text[end:start]):
            yield end + found.start(), found[0].rstrip()


def _tokens(text: str) -> list[yaml.Token]:
    return list(yaml.scan(text, Loader=yaml.SafeLoader))


@dataclass(frozen=True)
class _Text:
    """A text with its lines' ends: marks count characters, and a BOM is one of them."""

    text: str

    @property
    def newline(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    def line_start(self, index: int) -> int:
        return max(self.text.rfind("\n", 0, index) + 1, int(self.text.startswith("\ufeff")))

    def line_end(self, index: int) -> int:
        """Return where the next line begins, or the end."""
        found = self.text.find("\n", index)
        return len(self.text) if found < 0 else found + 1

    def inserted(self, index: int, *lines: str) -> str:
        """Return the text with lines put where one begins."""
        before = self.text[:index]
        gap = self.newline if before.strip("\ufeff") and not before.endswith("\n") else ""
        return before + gap + "".join(f"{one}{self.newline}" for one in lines) + self.text[index:]


def _candidates(text: str, section: str, key: str, value: str) -> Iterator[str]:
    """Return ways to write it, the one that a person would choose first."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    whole = _Text(text)
    if not section:
        if isinstance(root, yaml.MappingNode):
            yield from _in_mapping(whole, root, key, value, (0, len(text)))
        else:
            yield from _below_comment(whole, key, value, 0, (0, len(text)))
            yield from _appended(whole, root, f"{key}: {value}")
        return
    pair = _pair(root, section)
    if pair is None:
        yield from _new_section(whole, root, section, f"{key}: {value}")
        return
    name, inner = pair
    if isinstance(inner, yaml.MappingNode):
        yield from _in_mapping(whole, inner, key, value, (name.end_mark.index, _after(root, name)))
    elif isinstance(inner, yaml.ScalarNode) and inner.tag == _NULL_TAG:
        start, end = _value_span(text, name, inner)
        empty = _Text(text[:start] + text[end:])
        column = name.start_mark.column + 2
        span = (empty.line_end(start), _after(root, name) - (end - start))
        yield from _below_comment(empty, key, value, column, span)
        yield empty.inserted(span[0], f"{' ' * column}{key}: {value}")
        yield f"{text[:start]} {{{key}: {value}}}{text[end:]}"


def _new_section(whole: _Text, root: yaml.Node | None, section: str, line: str) -> Iterator[str]:
    blank = [""] if whole.text.strip("\ufeff\n") else []
    yield from _appended(whole, root, *blank, f"{section}:", f"  {line}")
    if isinstance(root, yaml.MappingNode):
        flow = f"{section}: {{{line}}}"
        yield from _first_in(whole, root, flow)


def _appended(whole: _Text, root: yaml.Node | None, *lines: str) -> Iterator[str]:
    yield whole.inserted(len(whole.text), *lines)
    if root is not None:  # an empty document with an end of its own, `...`
        yield whole.inserted(whole.line_start(root.start_mark.index), *lines)


def _in_mapping(
    whole: _Text, node: yaml.MappingNode, key: str, value: str, span: tuple[int, int]
) -> Iterator[str]:
    pair = _pair(node, key)
    if pair is not None:
        yield from _replaced(whole, *pair, value)
        return
    if not node.flow_style:
        yield from _below_comment(whole, key, value, node.start_mark.column, span)
    yield from _first_in(whole, node, f"{key}: {value}")


def _first_in(whole: _Text, node: yaml.MappingNode, line: str) -> Iterator[str]:
    start = node.start_mark.index
    if node.flow_style:
        more = ", " if node.value else ""
        brace = whole.text.index("{", start) + 1
        yield f"{whole.text[:brace]}{line}{more}{whole.text[brace:]}"
    else:
        place = whole.line_start(start)
        yield whole.inserted(place, f"{' ' * node.start_mark.column}{line}")


def _below_comment(
    whole: _Text, key: str, value: str, column: int, span: tuple[int, int]
) -> Iterator[str]:
    """Write it below the line in which it is commented out, if there is one in the span."""
    said = re.compile(rf"#\s?{re.escape(key)}\s*:")
    for index, comment in _comments(whole.text):
        if span[0] <= index < span[1] and said.match(comment):
            end = whole.line_end(index)
            yield whole.inserted(end, f"{' ' * column}{key}: {value}")


def _replaced(whole: _Text, name: yaml.Node, node: yaml.Node, value: str) -> Iterator[str]:
    text = whole.text
    start, end = _value_span(text, name, node)
    inside = [comment for index, comment in _comments(text) if start <= index < end]
    changed = _Text(f"{text[:start]} {value}{text[end:]}")
    indent = " " * name.start_mark.column
    for place in (changed.line_start(name.start_mark.index), changed.line_start(0)):
        yield changed.inserted(place, *(f"{indent}{one}" for one in inside))


def _value_span(text: str, name: yaml.Node, node: yaml.Node) -> tuple[int, int]:
    """Return where a value begins, after the colon, and where its last character ends."""
    colons = [
        token.end_mark.index
        for token in _tokens(text)
        if isinstance(token, yaml.ValueToken) and token.start_mark.index >= name.end_mark.index
    ]
    # Without one, as in `{name}`, no candidate reads as wanted.
    colon = min(colons, default=len(text))
    # A block of several lines ends, by its mark, where the next thing begins.
    last = max(
        (token.end_mark.index for token in _tokens(text) if _ends_within(token, colon, node)),
        default=colon,
    )
    return colon, colon + len(text[colon:last].rstrip())


def _ends_within(token: yaml.Token, start: int, node: yaml.Node) -> bool:
    """Tell whether a token, one that has characters, is in a node's value."""
    first, last, end = token.start_mark.index, token.end_mark.index, node.end_mark.index
    return bool(start <= first < last <= end)


def _pair(root: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    return next((pair for pair in pairs if pair[0].value == key), None)


def _after(root: yaml.Node | None, name: yaml.Node) -> int:
    """Return where the key after this one begins, or the end of all."""
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    starts: list[int] = [key.start_mark.index for key, _ in pairs]
    return min((one for one in starts if one > name.start_mark.index), default=sys.maxsize)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
