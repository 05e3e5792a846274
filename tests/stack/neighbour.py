"""What another user of the machine tries against a running deployment: a program of its own.

`python3 neighbour.py STATE PORT PIDS` prints what each attempt came to as JSON, `` where it was
shut; `... PIDS NAME KEY` makes one attempt, with a key, as who may make it. What succeeds changes
nothing but the processes. Standard library only: the user has no other one.
"""

import ctypes
import fcntl
import http.client
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

STATE, PORT = Path(sys.argv[1]), int(sys.argv[2])
PIDS = [int(pid) for pid in sys.argv[3].split(",")]
NAME, KEY = sys.argv[4:] or (None, None)
LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH, PIDFD_OPEN, PIDFD_GETFD, VM_READV = 16, 434, 438, 310
ADDRESSES = ("127.0.0.1", "0.0.0.0")  # noqa: S104  # each could stand in the other's place
OPTIONS: tuple[tuple[int, ...], ...] = (
    (),
    (socket.SO_REUSEADDR,),
    (socket.SO_REUSEPORT,),
    (socket.SO_REUSEADDR, socket.SO_REUSEPORT),
)


def connect(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(STATE / path))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return f"{path} answered {client.recv(80)!r}"


def read(*patterns: str) -> str:
    """Return what could be read; a folder that cannot be listed has nothing to read."""
    for pattern in patterns:
        for path in sorted(STATE.glob(pattern)):
            if path.is_file() and os.access(path, os.R_OK):
                return f"{path}: {path.read_bytes()[:80]!r}"
    return ""


def enter(*names: str) -> str:
    for name in names:
        if (STATE / name).is_dir() and os.access(STATE / name, os.X_OK):
            return f"{name} can be entered"
    return ""


def open_file(name: str, flags: int) -> int:
    """Open a file, as it is to be opened for something; one that was made by that is removed."""
    path = STATE / name
    there = path.exists()
    file = os.open(path, flags | os.O_CREAT, 0o600)
    if not there:
        path.unlink()
    return file


def lock(name: str) -> str:
    fcntl.flock(open_file(name, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    return f"holds {name}"


def write(name: str) -> str:
    open_file(name, os.O_WRONLY)
    return f"may write {name}"


def rename(name: str) -> str:
    away = STATE / f"{name}.away"
    (STATE / name).rename(away)
    away.rename(STATE / name)
    return f"moved {name} away"


def listen(*, only_bind: bool = False) -> str:
    for address in ADDRESSES:
        for options in OPTIONS:
            with socket.socket() as server:
                for option in options:
                    server.setsockopt(socket.SOL_SOCKET, option, 1)
                try:
                    server.bind((address, PORT))
                    if not only_bind:
                        server.listen()
                except OSError:
                    continue
                return f"has {address}:{PORT} by {options}"
    return ""


def listen_on_a_socket(name: str) -> str:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(STATE / name))
        (STATE / name).unlink()
    return f"listens on {name}"


def each(attempt: Callable[[int], str]) -> Callable[[], str]:
    """Return an attempt on all processes, which is over with the first that succeeds."""

    def on_all() -> str:
        for pid in PIDS:
            try:
                if came := attempt(pid):
                    return f"process {pid}: {came}"
            except OSError:
                continue
        return ""

    return on_all


def call(number: int, *arguments: object) -> int:
    came: int = LIBC.syscall(number, *arguments)
    if came < 0:
        raise OSError(ctypes.get_errno(), "")
    return came


def attach(pid: int) -> str:
    if LIBC.ptrace(PTRACE_ATTACH, pid, None, None) < 0:
        raise OSError(ctypes.get_errno(), "")
    return "attached"


def duplicate(pid: int) -> str:
    process = call(PIDFD_OPEN, pid, 0)
    return f"descriptor {call(PIDFD_GETFD, process, 2, 0)}"


def limit(pid: int) -> str:
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 3))
    return "limited"


def stop(number: int) -> Callable[[int], str]:
    def send(pid: int) -> str:
        os.kill(pid, number)
        return f"took signal {number}"

    return send


def slow(pid: int) -> str:
    os.setpriority(os.PRIO_PROCESS, pid, 19)
    return "was slowed"


def pin(pid: int) -> str:
    os.sched_setaffinity(pid, {0})
    return "was moved"


def secrets(pid: int) -> str:
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
    return f"{arguments!r}" if b"cloister_operator" in arguments else ""


def ask(headers: dict[str, str]) -> str:
    headers = {"Authorization": f"Bearer {KEY}"} if KEY else headers
    client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
    client.request("POST", "/v1/chat/completions", "{}", headers)
    answer = client.getresponse()
    return "" if answer.status == http.HTTPStatus.UNAUTHORIZED else f"HTTP {answer.status}"


ATTEMPTS: dict[str, Callable[[], str]] = {
    "asks the engine past the keys": lambda: connect("run/http/engine-1/sock"),
    "asks the exporter": lambda: connect("run/http/exporter/sock"),
    "asks nginx for its state": lambda: connect("run/http/gateway/sock"),
    "commands the supervisor": lambda: connect("run/supervisor.sock"),
    "listens in the engine's place": lambda: listen_on_a_socket("run/http/engine-1/other"),
    "moves the sockets away": lambda: rename("run/http"),
    "moves the supervisor's folder away": lambda: rename("run"),
    "lists folders of ours": lambda: enter("run", "run/http", "gateway", "logs", "tls", "docker"),
    "takes the gateway's port": listen,
    "binds the gateway's port": lambda: listen(only_bind=True),
    "asks the gateway without a key": lambda: ask({}),
    "asks the gateway with a key of his own": lambda: ask(
        {"Authorization": "Bearer cloister_operator.AAAA"}
    ),
    "holds the commands' lock": lambda: lock("lock"),
    "holds the gateway's lock": lambda: lock("door.lock"),
    "holds the lock of a tuning": lambda: lock("tuning.lock"),
    "holds the lock of a proof": lambda: lock("proof.lock"),
    "reads the record": lambda: read("deployment.json"),
    "reads the keys": lambda: read("keys.json", "operator.key", "tls/*"),
    "reads the events": lambda: read("events.jsonl"),
    "reads the logs": lambda: read("logs/*"),
    "reads the gateway's files": lambda: read("gateway/*", "gateway/body/*", "gateway/proxy/*"),
    "reads the supervisor's files": lambda: read("run/*", "run/http/*/*"),
    "writes a record": lambda: write("deployment.json"),
    "writes a key": lambda: write("keys.json"),
    "writes a pid file": lambda: write("run/tesseract-1.group"),
    "writes nginx' pid file": lambda: write("gateway/nginx.pid"),
    "writes nginx' configuration": lambda: write("gateway/nginx.conf"),
    "makes a file in the state folder": lambda: write("planted"),
    "reads variables": each(lambda pid: Path(f"/proc/{pid}/environ").read_text()[:80]),
    "reads memory": each(lambda pid: str(os.open(f"/proc/{pid}/mem", os.O_RDONLY))),
    "reads the map of memory": each(lambda pid: Path(f"/proc/{pid}/maps").read_text()[:80]),
    "finds keys in arguments": each(secrets),
    "takes descriptors": each(lambda pid: str([*Path(f"/proc/{pid}/fd").iterdir()])),
    "duplicates descriptors": each(duplicate),
    "sees the working folder": each(lambda pid: str([*Path(f"/proc/{pid}/cwd").iterdir()])),
    "attaches": each(attach),
    "ends": each(stop(signal.SIGKILL)),
    "stops": each(stop(signal.SIGSTOP)),
    "reloads": each(stop(signal.SIGHUP)),
    "limits": each(limit),
    "slows": each(slow),
    "pins": each(pin),
}


def main() -> None:
    came = {}
    for name, attempt in ATTEMPTS.items() if NAME is None else [(NAME, ATTEMPTS[NAME])]:
        try:
            came[name] = attempt()
        except OSError:
            came[name] = ""
    sys.stdout.write(json.dumps(came))


if __name__ == "__main__":
    main()
