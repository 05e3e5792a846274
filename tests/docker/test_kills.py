"""Every process of a service in containers is killed, frozen and stopped: healed, or named.

Every run has the one that Docker heals by no policy; `nox -s soak` has the whole table.
"""

from collections.abc import Callable

import kills
import psutil
import pytest
from conftest import Containers
from kills import GATEWAY, KILL, STOP, TERM, Case
from repetitions import REPETITIONS

_FEW = [Case(GATEWAY, STOP)]
_REST = [
    *(Case("tesseract-1", number) for number in (KILL, STOP, TERM)),
    Case("tesseract-1", KILL, worker=True),
    *(Case(GATEWAY, number) for number in (KILL, TERM)),
    *(Case(GATEWAY, number, worker=True) for number in (KILL, STOP)),
    *(Case("exporter", number) for number in (KILL, STOP, TERM)),
    *(Case("watchdog", number) for number in (KILL, TERM)),
    Case("watchdog", STOP, healed=False),
]


@pytest.fixture(scope="module")
def service(make_containers: Callable[..., Containers]) -> Containers:
    times = {"healing_interval_s": 1, "healing_silence_s": 6}
    made = make_containers(tesseract_workers=1, **times)
    made.invoke("up")
    return made


def _find(service: Containers, case: Case) -> psutil.Process:
    """Return the process that a case names; a container's first one is Docker's own init."""
    if case.program == "watchdog":
        return psutil.Process(service.pids()["watchdog"])
    first = psutil.Process(service.container(case.program).attrs["State"]["Pid"])
    program = next(iter(first.children()), first) if first.name() == "docker-init" else first
    return program.children()[0] if case.worker else program


@pytest.mark.parametrize("case", _FEW + (_REST if REPETITIONS.kills > 1 else []), ids=str)
def test_a_process_that_is_killed_or_frozen_is_healed_or_told(
    service: Containers, case: Case
) -> None:
    kills.check(service, case, lambda case: _find(service, case), within_s=400)
