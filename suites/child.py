"""Runs one command, and reports the processor time of it and of all that it started.

Daemons that the tests start become children of this process when their parents end (a Linux
"child subreaper"), so their processor time is counted too, and what is still running at the end is
known by name. Elsewhere than on Linux daemons are not counted.
"""

import ctypes
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from cloister.files import write_atomically

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
LOCK = "suites.lock"  # which every suite that runs holds
_GENERATIONS = 3
_END_S = 20.0  # a supervisor that stops its programs in order takes some seconds


def main() -> int:
    """Run `RUNNER RESULT NICE COMMAND...`, and write RESULT as JSON.

    RUNNER is the parent's process id. RESULT gets code, wall_s, processor_s and left.
    """
    runner, result, nice = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    command, is_ended = sys.argv[4:], False

    def end(*_: object) -> None:
        nonlocal is_ended
        is_ended = True
        os.killpg(os.getpgrp(), signal.SIGINT)

    os.nice(nice)
    # Held until the end: the next run must not meet a suite whose runner was killed.
    guard = os.open(result.parent / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    fcntl.flock(guard, fcntl.LOCK_SH)
    # The group gets a Ctrl-C as a whole, and SIGABRT where it hangs; this process waits for what
    # comes of it. Where the runner was killed, the tests still have to take down what they started.
    for number in (signal.SIGINT, signal.SIGABRT):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGTERM, end)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        # A runner that is killed cannot end its suites, which are in sessions of their own.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    started = time.monotonic()
    process = subprocess.Popen(command)
    if is_ended or os.getppid() != runner:  # before there was anything to end
        end()
    code = _wait(process.pid)
    left = _end_rest()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    written = {
        "code": code,
        "wall_s": time.monotonic() - started,
        "processor_s": usage.ru_utime + usage.ru_stime,
        "left": left,
    }
    write_atomically(result, json.dumps(written))
    return 0 if code == 0 else 1


def _wait(pid: int) -> int:
    """Collect every child that ends, until this one does; return its exit code."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def _end_rest() -> list[str]:
    """End what the command left running; return its command lines."""
    names = []
    # One that is told to end may start a successor, but not without end.
    for _ in range(_GENERATIONS):
        left = psutil.Process().children(recursive=True)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                names.append(" ".join(process.cmdline()) or process.name())
                process.terminate()
        _, alive = psutil.wait_procs(left, timeout=_END_S)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=_END_S)
    return names


if __name__ == "__main__":
    raise SystemExit(main())
