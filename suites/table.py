"""Prints the table of docs/testing.md from a run's summary: `python -m suites.table [SUMMARY]`."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suites.catalogue import REPORTS, SUMMARY, TOTAL_BUDGET_MIN
from suites.summary import minutes

_KINDS = {
    "command": "commands",
    "nginx": "nginx",
    "tesseract": "Tesseract engines",
    "vllm": "stand-ins for vLLM",
    "exporter": "exporters",
    "watchdog": "watchdogs",
    "container vllm-cpu": "containers of vLLM",
    "container engine-tesseract": "containers of Tesseract",
    "container gateway": "containers of nginx",
    "container exporter": "containers of the exporter",
    "container downloader": "containers of the downloader",
    "container other": "other containers",
    "image tagged": "images built or tagged",
}


def as_markdown(summary: Mapping[str, Any]) -> str:
    """Return the tables of a summary with the schema 1; pure."""
    suites = summary["suites"]
    lines = [
        "| suite | tests | wall | processor | budget |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for suite in suites:
        tests = suite["passed"] + len(suite["failed"]) + len(suite["skipped"])
        times = map(minutes, (suite["wall_s"], suite["processor_s"], suite["budget_s"]))
        lines.append(f"| {suite['name']} | {tests or '-'} | {' | '.join(times)} |")
    machine = summary["machine"]
    if machine:
        total = (summary["wall_s"], machine["busy_s"], TOTAL_BUDGET_MIN * 60)
        rest = machine["busy_s"] - sum(suite["processor_s"] for suite in suites)
        lines += [
            f"| containers, Docker and the rest | | | {minutes(rest)} | |",
            f"| all | | {' | '.join(map(minutes, total))} |",
            "",
            f"Waiting: {minutes(machine['waiting_s'])} min of {machine['cores']} cores were idle.",
        ]
    lines += ["", "| started | count |", "| --- | ---: |"]
    counts = [(kind, sum(suite["starts"].get(kind, 0) for suite in suites)) for kind in _KINDS]
    lines += [f"| {_KINDS[kind]} | {count} |" for kind, count in counts if count]
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    path = Path(sys.argv[1]) if sys.argv[1:] else REPORTS / SUMMARY
    sys.stdout.write(as_markdown(json.loads(path.read_text(encoding="utf-8"))) + "\n")


if __name__ == "__main__":
    main()
