"""End what an earlier run of a program left behind, then become that program.

A supervisor that was killed leaves its children, and an nginx master its workers; they hold the
ports that the next start needs. They are found by the marks in their environment, so nothing is
ended that this instance did not start.
"""

import os
import sys
from collections.abc import Mapping

import psutil

INSTANCE = "CLOISTER_INSTANCE"
PROGRAM = "CLOISTER_PROGRAM"
_GRACE_S = 3.0


def leftovers(marks: Mapping[str, str]) -> list[psutil.Process]:
    """Return the processes that carry all of these variables, without this one's family line."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ() if process.pid not in own else {}
        except psutil.Error:  # gone meanwhile, or another user's
            continue
        if environment and all(environment.get(name) == value for name, value in marks.items()):
            found.append(process)
    return found


def end(processes: list[psutil.Process]) -> None:
    """Terminate processes, and kill those that do not listen within a few seconds."""
    for process in processes:
        _tell(process, "terminate")
    _, alive = psutil.wait_procs(processes, timeout=_GRACE_S)
    for process in alive:
        _tell(process, "kill")
    psutil.wait_procs(alive, timeout=_GRACE_S)


def _tell(process: psutil.Process, verb: str) -> None:
    try:
        getattr(process, verb)()
    except psutil.NoSuchProcess:
        return


def main() -> None:
    """Run `python -m cloister.runtimes.takeover COMMAND...` with the two marks set."""
    end(leftovers({name: os.environ[name] for name in (INSTANCE, PROGRAM)}))
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  # a list, no shell


if __name__ == "__main__":
    main()
