"""Tunings: what one would try, and what one found."""

from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from tasks.command import JSON, SET, command, settings

if TYPE_CHECKING:
    from cloister.tuning.beginning import Plan


@command(
    repeatable=("also", "begin", "trial"),
    card="another machine's card, by nvidia-smi's name",
    memory_mib="the memory of that card, in MiB",
    workload="pages, as of `nox -s tune`",
    starts="servers at most",
    turns="starts of each finalist",
    also="a knob that costs something (repeatable)",
    begin="where to begin, KEY=VALUE (repeatable)",
    trial="a configuration instead of a search, KEY=VALUE,... (repeatable)",
    knobs="another table than loadtests/knobs.yaml",
    json_=JSON,
    set_=SET,
)
def plan(
    _: Context,
    card: str | None = None,
    memory_mib: int = 0,
    workload: str = "mixed",
    starts: int = 6,
    turns: int = 2,
    also: list[str] | None = None,
    begin: list[str] | None = None,
    trial: list[str] | None = None,
    knobs: str | None = None,
    json_: bool = False,
    set_: list[str] | None = None,
) -> None:
    """Print what `nox -s tune` would try here, and for how long at most; needs no card."""
    from cloister import console
    from cloister.hardware import Hardware
    from cloister.loadtest import workload as workloads
    from cloister.tuning import beginning

    wish = beginning.Wish(
        Path(knobs) if knobs else None,
        *(tuple(also or ()), tuple(begin or ()), tuple(trial or ())),
        starts=starts,
        turns=turns,
    )
    there = Hardware(card, memory_mib) if card else None
    found = beginning.plan(settings(set_ or []), wish, there, workloads.load(workload))
    if json_:
        console.dump(_plain(found))
    else:
        _show(found)


@command(folder="folder of a tuning, or its tuning.json", json_=JSON)
def show(_: Context, folder: str, json_: bool = False) -> None:
    """Print what a tuning found."""
    from cloister import console, report
    from cloister.tuning import result

    found = result.load(Path(folder))
    if json_:
        console.show(found.model_dump_json(indent=2))
    else:
        console.show(report.tuning_markdown(found).rstrip("\n"))


def _plain(found: "Plan") -> dict[str, object]:
    from dataclasses import asdict

    knobs = [knob.model_dump(mode="json") for knob in found.space.knobs]
    return {**asdict(found), "space": knobs}


def _show(found: "Plan") -> None:
    from cloister import console

    memory = f"{found.hardware.memory_mib:,} MiB"
    console.show(f"{found.engine} on {found.hardware.name}, {memory}\n")
    rows = [
        (
            knob.setting,
            " ".join(map(str, knob.values)),
            found.first[knob.setting],
            ", ".join(sorted(knob.moves)) or None,
            knob.costs,
        )
        for knob in found.space.knobs
    ]
    console.table(("knob", "values", "begins with", "moves", "costs"), rows)
    for line in found.pruned:
        console.show(f"not tried: {line}")
    finals = f", then {found.turns} starts of each of 1 to 3 finalists" if found.turns else ""
    console.show(f"\nat most {found.starts} starts of about {found.trial_s / 60:.1f} min{finals}: ")
    console.show(f"some {found.seconds / 60:.0f} min in all, or --budget")
    if found.ceilings:
        console.show("\nthe roofline, by pages read at once (a bound, no forecast):")
    for pages, bound in found.ceilings.items():
        console.show(f"  {pages:>4}: {bound}")
