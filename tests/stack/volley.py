"""Many made-up requests, the same ones in every run, and what nginx' processes are meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from gateways import Gateway
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

_T = TypeVar("_T")
_GROWTH_MIB = 4
_SHOWN = 2000  # characters of a value that failed


@dataclass
class Vitals:
    """Processes and memory (PSS, in MiB) of a gateway, each time they were noted."""

    pids: list[set[int]] = field(default_factory=list)
    pss: list[float] = field(default_factory=list)

    def note(self, door: Gateway) -> None:
        processes = door.processes()
        self.pids.append({process.pid for process in processes})
        self.pss.append(sum(_pss_mib(process.pid) for process in processes))

    def require_same_processes(self) -> None:
        """Require that none ended: a worker that crashed is replaced by its master."""
        assert len(self.pids) == 3
        assert len(self.pids[0]) >= 2
        assert self.pids[0] == self.pids[1] == self.pids[2]

    def require_flat_memory(self) -> None:
        """Require that nothing grows after the first fifth, when all buffers have been in use."""
        _, warm, end = self.pss
        assert end - warm < _GROWTH_MIB

    def __str__(self) -> str:
        return ", ".join(f"{pss:.1f}" for pss in self.pss)


def _pss_mib(pid: int) -> float:
    """Return a process' PSS without files, nginx' code: other gateways have a part in that."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kib = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
    return (kib["Pss_Anon:"] + kib["Pss_Shmem:"]) / 1024


def fire(
    kind: st.SearchStrategy[_T], count: int, act: Callable[[_T], None], *, first: bool
) -> list[AssertionError]:
    """Act on `count` values, other ones the first time; return what was wrong.

    They are not made smaller: what is met while others are still being answered may not come again.
    """
    problems: list[AssertionError] = []

    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @seed(int(first))
    @given(kind)
    def one(value: _T) -> None:
        try:
            act(value)
        except AssertionError as error:
            error.add_note(f"{str(value)[:_SHOWN]}")
            problems.append(error)

    one()
    return problems
