"""When the workers of an nginx began.

To be asked by root in the machine's PID namespace: /proc may hide processes from everybody else.
"""

import os
from pathlib import Path

from cloister.inside.ways.results import Result, report_reached

_PROC = Path("/proc")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def list_workers(*, pid: int) -> Result:
    """Return when a process began, and each worker below it that takes connections.

    Both are seconds since this machine was started, rounded down to the kernel's ticks for the
    process and up for the workers: nginx starts them a few milliseconds after its files are
    written. Workers that finish the pages of an older configuration take no connections. Raises
    OSError when the process has ended.
    """
    parents, begun = dict[int, int](), {pid: _read_stat(pid)[1]}
    for number in (int(path.name) for path in _PROC.iterdir() if path.name.isdigit()):
        try:
            parents[number], begun[number] = _read_stat(number)
        except OSError:
            continue  # it has ended
    workers = [begun[one] + _TICK_S for one in _list_below(pid, parents) if _is_worker(one)]
    return report_reached("", first=begun[pid], workers=workers)


def _list_below(pid: int, parents: dict[int, int]) -> set[int]:
    """Return the children of a process, and theirs."""
    below, more = set[int](), {pid}
    while more := {one for one, parent in parents.items() if parent in more} - below:
        below |= more
    return below


def _is_worker(pid: int) -> bool:
    try:
        title = (_PROC / str(pid) / "cmdline").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False  # it has ended
    return "worker process" in title and "shutting down" not in title


def _read_stat(pid: int) -> tuple[int, float]:
    """Return the parent of a process, and when it began."""
    text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    fields = text.rpartition(")")[2].split()
    return int(fields[1]), int(fields[19]) * _TICK_S
