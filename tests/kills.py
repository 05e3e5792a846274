"""A process of a service that is killed, frozen or stopped: healed, or named by `invoke status`."""

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import psutil
import requests
from deployments import Stack, eventually, is_over
from pages import data_url, encoded, page, request
from repetitions import REPETITIONS

KILL, STOP, TERM = signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM
GATEWAY = "vllm-nginx-gateway"
SUPERVISOR = "supervisord"
_BODY = request(data_url(encoded(page("Page 2345"))))


@dataclass(frozen=True)
class Case:
    """A process of a program, `worker` where it is a child of the program's first one."""

    program: str
    number: signal.Signals
    worker: bool = False
    healed: bool = True

    def __str__(self) -> str:
        return f"{self.program}{' worker' if self.worker else ''} {self.number.name}"


def _assert_over(process: psutil.Process) -> None:
    assert is_over(process), process


def _assert_well(stack: Stack) -> None:
    stack.invoke("status")
    answer = requests.post(f"{stack.url}/v1/chat/completions", json=_BODY, timeout=120)
    assert answer.status_code == 200, answer.text
    assert "2345" in answer.text
    metrics = requests.get(f"{stack.url}/metrics", timeout=30).text
    assert 'cloister_replica_up{replica="tesseract-1"} 1.0' in metrics


def check(
    service: Stack, case: Case, find: Callable[[Case], psutil.Process], within_s: float
) -> None:
    """Send the signal as often as repetitions say; `find` returns the process of a case."""
    for _ in range(REPETITIONS.kills):
        eventually(lambda: _assert_well(service), within_s=within_s)
        process, begun_s = find(case), time.monotonic()
        process.send_signal(case.number)
        if case.number != STOP:
            eventually(partial(_assert_over, process), within_s=within_s)
        if case.healed:
            eventually(partial(_assert_over, process), within_s=within_s)
            eventually(lambda: _assert_well(service), within_s=within_s)
            sys.stdout.write(f"{case}: healed after {time.monotonic() - begun_s:.1f} s\n")
            continue
        done = service.invoke("status", code=1)
        assert f"{case.program if case.number == STOP else 'watchdog'}: " in done.stderr
        sys.stdout.write(f"{case}: told with code 1 after {time.monotonic() - begun_s:.1f} s\n")
        mend = ("restart", "--name", case.program) if case.program == "watchdog" else ("up",)
        service.invoke(*mend)
        _assert_over(process)
