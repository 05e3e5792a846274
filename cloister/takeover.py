"""End what an earlier run of a program left behind, then become that program.

A supervisor that was killed leaves its children, and an nginx master its workers; they hold the
ports that the next start needs. Every program has a process group of its own, so its leftovers
are found by the group that the earlier run recorded; nothing else is ever ended. (Environment
variables would not do as marks: nginx overwrites its own to set its title.)
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from cloister import sockets
from cloister.errors import DeploymentError
from cloister.files import write_atomically

_GRACE_S = 3.0
# The kernel may take many seconds to free a large process' memory, above all that of a card.
KILLED_S = 30.0
_POLL_S = 0.05


def record(path: Path, pid: int) -> None:
    """Keep the process group that `pid` leads, with its birth, since numbers come back."""
    born = psutil.Process(pid).create_time()
    write_atomically(path, json.dumps({"pid": pid, "born": born}), mode=0o600)


def leftovers(path: Path) -> list[psutil.Process]:
    """Return the living members of a recorded group, without this process.

    Those of another user are none: he may have been given the group's number since it was free.
    """
    if not path.exists():
        return []
    recorded = json.loads(path.read_text(encoding="utf-8"))
    group = int(recorded["pid"])
    # A group's number is not given to a new process while the group has members. So a leader of
    # another age means that the recorded group is gone.
    if psutil.pid_exists(group) and _born(group) != recorded["born"]:
        return []
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid()
        and _group(process.pid) == group
        and _user(process) == os.geteuid()
        and not _is_over(process)
    ]


def end(programs: Mapping[str, Sequence[psutil.Process]]) -> None:
    """Terminate the processes of programs, and kill those that do not listen within 3 s.

    Raises DeploymentError where one is still there 30 s later, which no program can change.
    """
    processes = [process for those in programs.values() for process in those]
    for process in processes:
        _tell(process, "terminate")
    alive = _wait(processes, _GRACE_S)
    for process in alive:
        _tell(process, "kill")
    require_over(programs, _wait(alive, KILLED_S))


def require_over(
    programs: Mapping[str, Sequence[psutil.Process]], alive: Sequence[psutil.Process]
) -> None:
    """Raise DeploymentError that names the processes of programs that are still alive."""
    whose = [
        f"`{name}` (process {process.pid}, state {_state(process)})"
        for name, those in programs.items()
        for process in those
        if process in alive
    ]
    if whose:
        first = alive[0].pid
        raise DeploymentError(
            f"killed, and still there: {', '.join(whose)}; expected an end within {KILLED_S:g} s",
            hint=f"`sudo cat /proc/{first}/stack` shows what it waits for; try again when "
            f"`kill -0 {first}` fails, or restart the machine",
        )


def _wait(processes: Sequence[psutil.Process], most_s: float) -> list[psutil.Process]:
    """Return those that are alive after so many seconds."""

    def alive() -> list[psutil.Process]:
        _, left = psutil.wait_procs(processes, timeout=0)  # which reaps this process' children
        return [process for process in left if not _is_over(process)]

    return Retrying(
        retry=retry_if_result(bool),
        stop=stop_after_delay(most_s),
        wait=wait_fixed(_POLL_S),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else [],
    )(alive)


def _is_over(process: psutil.Process) -> bool:
    """Return whether a process ended: one whose parent has not taken note of it holds nothing.

    Where only its first thread ended, another one may hold a card's memory.
    """
    try:
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True


def _state(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return "gone by now"


def _born(pid: int) -> float | None:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _user(process: psutil.Process) -> int | None:
    try:
        return process.uids().real
    except psutil.NoSuchProcess:
        return None


def _tell(process: psutil.Process, verb: str) -> None:
    try:
        getattr(process, verb)()
    except psutil.NoSuchProcess:
        return


def main() -> None:
    """Run `python -m cloister.takeover RECORD SOCKET COMMAND...`; no socket is ``.

    What an earlier run left in the socket's folder, which is there, is removed. Ends with a message
    when another program serves it, or a process of the earlier run does not end.
    """
    path, place, command = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    try:
        end({path.stem: leftovers(path)})
    except DeploymentError as error:
        # Its record stays, so that `down` names it as well.
        sys.exit(f"error: {error}")
    if place:
        try:
            sockets.make_way(Path(place))
            sockets.remove_all(Path(place).parent)
        except OSError as error:
            sys.exit(f"error: `{place}` cannot be used: {error.strerror}")
    record(path, os.getpid())
    os.execvp(command[0], command)  # noqa: S606  # a list, no shell


if __name__ == "__main__":
    main()
