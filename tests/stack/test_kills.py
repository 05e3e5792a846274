"""Every process of a service is killed, frozen and stopped: healed, or named by `invoke status`.

Every run has one of each kind; `nox -s soak` has the whole table, and prints it.
"""

from collections.abc import Iterator

import kills
import psutil
import pytest
from deployments import Stack, deployed
from kills import GATEWAY, KILL, STOP, SUPERVISOR, TERM, Case
from repetitions import REPETITIONS

_FEW = [
    Case(GATEWAY, STOP, worker=True),
    Case("exporter", STOP),
    Case("watchdog", STOP, healed=False),
    Case(SUPERVISOR, STOP, healed=False),
    Case(SUPERVISOR, KILL, healed=False),
]
_REST = [
    *(Case("tesseract-1", number) for number in (KILL, STOP, TERM)),
    Case("tesseract-1", KILL, worker=True),
    *(Case(GATEWAY, number) for number in (KILL, STOP, TERM)),
    Case(GATEWAY, KILL, worker=True),
    *(Case("exporter", number) for number in (KILL, TERM)),
    *(Case("watchdog", number) for number in (KILL, TERM)),
    Case(SUPERVISOR, TERM, healed=False),
]


@pytest.fixture(scope="module")
def service() -> Iterator[Stack]:
    times = {"healing_interval_s": 1, "healing_silence_s": 6}
    with deployed(tesseract_workers=1, **times) as stack:
        stack.invoke("up")
        yield stack


def _find(stack: Stack, case: Case) -> psutil.Process:
    """Return the process that a case names."""
    if case.program == SUPERVISOR:
        return psutil.Process(int((stack.state / "run" / "supervisord.pid").read_text()))
    first = psutil.Process(stack.pids()[case.program])
    return first.children()[0] if case.worker else first


@pytest.mark.parametrize("case", _FEW + (_REST if REPETITIONS.kills > 1 else []), ids=str)
def test_a_process_that_is_killed_or_frozen_is_healed_or_told(service: Stack, case: Case) -> None:
    kills.check(service, case, lambda case: _find(service, case), within_s=180)
