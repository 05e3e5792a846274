"""The schema as documents: the commented cloister.yaml and the table of docs/configuration.md."""

import json
import textwrap

from cloister.config.keys import Leaf, leaves, sections

_WIDTH = 100
_TABLE_VALUE_WIDTH = 60
_HEADER = """\
# Cloister's configuration. Every key is here at its default, commented out by a # right before
# it: delete that # to set the key. The model's file in profiles/ gives some of them other values,
# which this file overrides; CLOISTER_* variables (CLOISTER_GATEWAY_PORT) and
# `--set gateway.port=...` override this file. `invoke config` prints what is in force and where
# each value came from.
"""


def default_yaml() -> str:
    """Return cloister.yaml with every key commented out at its default.

    Sections stay in force, empty, so that a key is set by deleting one `#`.
    """
    lines = [_HEADER]
    section = ""
    for leaf in leaves().values():
        outer, _, name = leaf.key.rpartition(".")
        if outer != section:
            section = outer
            lines += [f"# {sections()[section]}", f"{section}:"]
        lines += [*_yaml_lines(name, leaf, "  " if section else ""), ""]
    return "\n".join(lines)


def markdown_table() -> str:
    """Return a Markdown table: key, default, environment variable, meaning."""
    rows = ["| key | default | environment variable | meaning |", "| --- | --- | --- | --- |"]
    for leaf in leaves().values():
        default = textwrap.shorten(_scalar(leaf.default), _TABLE_VALUE_WIDTH, placeholder=" …")
        cells = (f"`{leaf.key}`", f"`{default}`", f"`{leaf.variable}`", _meaning(leaf))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _meaning(leaf: Leaf) -> str:
    return f"{leaf.description} ({leaf.expected})"


def _yaml_lines(name: str, leaf: Leaf, indent: str) -> list[str]:
    meaning = _wrap(_meaning(leaf), f"{indent}# ")
    value = _scalar(leaf.default)
    if len(value) <= _WIDTH // 2:
        return [*meaning, f"{indent}#{name}: {value}"]
    # A folded block joins its lines by single spaces, which gives the one-line text back.
    return [*meaning, f"{indent}#{name}: >-", *_wrap(value, f"{indent}#  ")]


def _wrap(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _scalar(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
