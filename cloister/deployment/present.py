"""A fleet and what would be done to it, as people read it."""

from typing import Any

from rich.table import Table

from cloister import console
from cloister.deployment.scaling import Proposal
from cloister.deployment.status import ProgramStatus, Status

EVERY_S = 2.0
_COLUMNS = (
    *("program", "state", "pages", "age", "restarts", "reading", "waiting", "KV %", "tokens/s"),
    *("pages/s", "MiB", "GPU", "GPU %"),
)
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


def table(status: Status) -> Table:
    """Return the programs as a table; columns that say nothing are left out."""
    rows = [_row(program) for program in status.programs]
    kept = [n for n, _ in enumerate(_COLUMNS) if n == 0 or any(row[n] is not None for row in rows)]
    return console.grid([_COLUMNS[n] for n in kept], [[row[n] for n in kept] for row in rows])


def complaints(status: Status) -> list[str]:
    """Return a line for each program that is not well: its name, its state, and why."""
    lines = []
    for program in status.programs:
        if program.state not in {"running", "starting"}:
            lines.append(f"{program.name}: {program.state}: {program.detail}")
        elif program.standing == "sick":
            lines.append(f"{program.name}: sick: it gets no pages; next: invoke events")
    return lines


def proposal(proposed: Proposal) -> str:
    """Return what would be done, a line a step and a line a replica."""
    now, then = proposed.before, len(proposed.plan.replicas)
    lines = [f"{now} -> {then} replicas of {proposed.plan.engine}"]
    for replica in proposed.plan.replicas:
        place = f"{replica.name} at {replica.listener.here}"
        if replica.gpu is not None:
            place += f" on GPU {replica.gpu}, {replica.memory_percent} % of its memory"
        lines.append(f"  {place}")
    lines += [f"{n}. {step}" for n, step in enumerate(proposed.steps, start=1)]
    if not proposed.steps:
        lines.append("nothing is to be done")
    if proposed.pause_s is None:
        lines.append("pause: as long as a start takes")
    elif proposed.pause_s:
        lines.append(f"pause: about {proposed.pause_s:.0f} s, as the last start took")
    return "\n".join(lines)


def plain(proposed: Proposal) -> dict[str, Any]:
    """Return what would be done, for scripts."""
    return {
        "before": proposed.before,
        "engine": proposed.plan.engine,
        "replicas": [vars(replica) for replica in proposed.plan.replicas],
        "steps": [vars(step) for step in proposed.steps],
        "pause_s": proposed.pause_s,
    }


def _row(program: ProgramStatus) -> list[object]:
    state = program.state
    if program.verdict and program.standing == "sick":
        state = f"{state}, {program.verdict}"
    return [
        program.name,
        state,
        program.standing,
        _age(program.since_s),
        program.restarts,
        program.running,
        program.waiting,
        None if program.kv_use is None else round(program.kv_use * 100),
        program.tokens_per_s,
        program.pages_per_s,
        program.memory_mib,
        program.gpu,
        program.gpu_busy_percent,
    ]


def _age(seconds: int) -> str:
    for unit_s, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if seconds >= 2 * unit_s:
            return f"{seconds // unit_s} {unit}"
    return f"{seconds} s"
