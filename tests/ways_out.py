"""The tables of docs/isolation.md: the ways out that are tried, and what came of them.

A unit test keeps their names equal to the code's; with CLOISTER_REGENERATE=1 it writes them. What
was measured comes from two reports of `invoke verify --json`, of a deployment at the defaults and
of one with `docker.engine_network: internal`:

    PYTHONPATH=. python tests/ways_out.py none.json internal.json
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cloister.isolation.attempts import KERNEL, Check, Targets, checks, gateway_checks

PAGE = Path(__file__).parents[1] / "docs" / "isolation.md"
UNKNOWN = "?"
_COLUMNS = ("way out", "tried from", "engine, `none`", "engine, `internal`", "not sealed")
# What is tried does not depend on the addresses.
_TARGETS = Targets(
    ("192.0.2.1",), 4000, 4001, "name", ("192.0.2.53",), ("203.0.113.1", 443), ("10.0.0.2", 8000)
)
_ROW = re.compile(r"^\| (.+?) \| [^|]+ \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
_NUMBER = re.compile(r"\((E[A-Z0-9]+)\)")
_OTHER = re.compile("; (?:a container that is not sealed|this machine itself, and no container): ")

Cells = tuple[str, str, str]


def tables(measured: Mapping[str, Cells]) -> str:
    """Return all ways out by group; `measured` are the last three cells of each."""
    tried = checks(_TARGETS, "nonce")
    from_gateway = {check.name for check in gateway_checks(_TARGETS, "nonce")}
    kernel = {check.name for check in KERNEL}
    groups: dict[str, list[Check]] = {"This machine": [], "Beyond this machine": [], "Kernel": []}
    for check in tried:
        name = "Beyond this machine" if check.outside else "This machine"
        groups["Kernel" if check.name in kernel else name].append(check)
    lines = []
    for group, members in groups.items():
        lines += [f"## {group}: {len(members)}", "", _line(_COLUMNS), _line(["---"] * 5)]
        for check in members:
            place = "all" if check.name in from_gateway else "engines, exporter"
            cells = measured.get(check.name, (UNKNOWN,) * 3)
            lines.append(_line((check.name, place, *cells)))
        lines.append("")
    return "\n".join(lines)


def read_measured(text: str) -> dict[str, Cells]:
    """Return what a page has of each way out."""
    rows = _ROW.findall(text)
    return {row[0]: (row[1], row[2], row[3]) for row in rows if row[0] not in {*_COLUMNS, "---"}}


def write(text: str, measured: Mapping[str, Cells]) -> str:
    """Return a page with other tables, which are all from its first heading of a group on."""
    return text[: text.index("## ")] + tables(measured)


def judge(finding: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a report says of one way out: from the container, and from an unsealed one."""
    tried = _OTHER.split(finding["evidence"])[0]
    if finding["verdict"] == "sealed":
        number = _NUMBER.search(tried)
        return (f"shut, {number[1]}" if number else f"shut, {tried}"), "open"
    return {
        "absent": ("shut", "nothing to reach"),
        "open": ("**open**", "open"),
        "unproven": (UNKNOWN, UNKNOWN),
    }[finding["verdict"]]


def main(arguments: Sequence[str]) -> None:
    none, internal = (_by_check(json.loads(Path(path).read_text())) for path in arguments)
    names = [check.name for check in checks(_TARGETS, "nonce")]
    measured: dict[str, Cells] = {}
    for name in names:
        shut, control = none.get(name, (UNKNOWN, UNKNOWN))
        measured[name] = shut, internal.get(name, (UNKNOWN, UNKNOWN))[0], control
    PAGE.write_text(write(PAGE.read_text(), measured))


def _by_check(report: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the first engine's attempts by their names."""
    names = {check.name for check in checks(_TARGETS, "nonce")}
    tried = [f for f in report["findings"] if f["check"] in names and f["subject"].endswith("-1")]
    return {finding["check"]: judge(finding) for finding in tried}


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main(sys.argv[1:])
