"""End what an earlier run of a program left behind, then become that program.

A supervisor that was killed leaves its children, and an nginx master its workers; they hold the
ports that the next start needs. Every program has a process group of its own, so its leftovers
are found by the group that the earlier run recorded; nothing else is ever ended. (Environment
variables would not do as marks: nginx overwrites its own to set its title.)
"""

import json
import os
import sys
from pathlib import Path

import psutil

from cloister import sockets
from cloister.files import write_atomically

_GRACE_S = 3.0


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
    ]


def end(processes: list[psutil.Process]) -> None:
    """Terminate processes, and kill those that do not listen within a few seconds."""
    for process in processes:
        _tell(process, "terminate")
    _, alive = psutil.wait_procs(processes, timeout=_GRACE_S)
    for process in alive:
        _tell(process, "kill")
    psutil.wait_procs(alive, timeout=_GRACE_S)


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
    when another program serves it.
    """
    path, place, command = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    end(leftovers(path))
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
