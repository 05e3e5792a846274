"""Run a function in a process of its own, which has little memory and time."""

import multiprocessing
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from cloister.errors import CloisterError

_MEMORY_BYTES, _CPU_S, _WAIT_S = 1 << 30, 60, 300


def bounded(function: Callable[[], object]) -> str:
    """Return the one line of the error that a function ends with, which has an exit code."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_run, args=(function, theirs))
    child.start()
    theirs.close()
    try:
        assert ours.poll(_WAIT_S), "no end within minutes"
        found: str = ours.recv()
    finally:
        child.kill()
        child.join()
    assert found.startswith("refused: "), found
    return found.removeprefix("refused: ")


def _run(function: Callable[[], object], told: Connection) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    space = pages * resource.getpagesize() + _MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    try:
        found = f"taken: {function()!r:.200}"
    except CloisterError as error:
        text = str(error)
        ok = error.exit_code > 1 and "\n" not in error.message and len(error.message) < 1000
        found = f"refused: {text}" if ok else f"not a line and a code: {text!r:.2000}"
    except BaseException as error:  # noqa: BLE001  # told, and then it fails
        found = f"{type(error).__name__}: {error!s:.500}"
    told.send(found)
