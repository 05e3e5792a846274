"""Attempts to get out, made from inside a container's own network and with its own rights.

Run as `python3 -m cloister.inside.probe '[{"kind": "tcp", "host": "192.0.2.1", "port": 80}]'`;
prints one `{"reached", "detail"}` for each attempt, in order. Each attempt has a process of its
own, which ends after its limit at the latest: it can neither hang, nor harm another attempt. Ends
with code 1 and the reason when an attempt could not be made as it was given: that proves nothing.
Standard library only.
"""

import contextlib
import json
import math
import os
import resource
import selectors
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloister.inside.ways import (
    compat,
    datagrams,
    interfaces,
    kernel,
    local,
    naming,
    process,
    streams,
    syscalls,
    workers,
)
from cloister.inside.ways.results import (
    Result,
    describe,
    report_error,
    report_missing,
    report_stopped,
)

__all__ = ["LIMIT_S", "Attempt", "Result", "attempt", "attempt_all", "limit_all_s"]

Attempt = Mapping[str, Any]

# An attempt ends by its own patience, of a few seconds. This ends what hangs, and is so long that
# a busy machine cuts off nothing else.
LIMIT_S = 15.0
# Nobody waits for this one but whoever asks: a machine may have thousands of processes.
_LONGER_S = {"facts": 50.0}
_AT_ONCE = 32
_READ_BYTES = 65536
# A kernel without 32-bit system calls answers one as it answers a wrong address.
_FAULTS_WHERE_MISSING = "syscall32"
_KINDS: dict[str, Callable[..., Result]] = {
    "tcp": streams.connect_stream,
    "https": streams.connect_tls,
    "udp": datagrams.send_udp,
    "icmp": datagrams.ping,
    "dns": naming.ask_dns,
    "resolve": naming.resolve,
    "abstract": local.connect_abstract,
    "device": local.open_devices,
    "proc": local.open_kernel_files,
    "settings": local.read_settings,
    "raw": kernel.open_packets,
    "socket": kernel.open_socket,
    "netlink": kernel.change_network,
    "syscall": syscalls.try_syscall,
    "syscall32": compat.open_socket32,
    "interfaces": interfaces.inspect_interfaces,
    "ports": interfaces.list_ports,
    "facts": process.inspect_processes,
    "workers": workers.list_workers,
}


@dataclass(eq=False)
class _Running:
    """An attempt under way: its place in the list, its process, and what that wrote so far."""

    place: int
    kind: str
    pid: int
    pipe: int
    limit_s: float
    started: float = field(default_factory=time.monotonic)
    output: bytes = b""

    @property
    def remaining_s(self) -> float:
        return max(0.0, self.started + self.limit_s - time.monotonic())

    @property
    def is_complete(self) -> bool:
        return self.output.endswith(b"\n")

    def read(self) -> bool:
        """Take what was written; return whether there may be more."""
        chunk = os.read(self.pipe, _READ_BYTES)
        self.output += chunk
        return bool(chunk) and not self.is_complete

    def finish(self) -> Result:
        """End the process, and return its result or why there is none."""
        # One that has ended keeps its status, whatever it is sent.
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        # It may have written and ended since it was looked at. What it started may still write.
        os.set_blocking(self.pipe, False)
        with contextlib.suppress(BlockingIOError):
            while self.read():
                pass
        os.close(self.pipe)
        if self.is_complete:
            result: Result = json.loads(self.output)
            return result
        if not os.WIFSIGNALED(status):
            return _report_broken("the attempt's process ended without a result")
        cause = signal.Signals(os.WTERMSIG(status))
        if cause == signal.SIGSEGV and self.kind == _FAULTS_WHERE_MISSING:
            return report_missing(f"killed by {cause.name}")
        if cause != signal.SIGKILL:
            return report_stopped(f"killed by {cause.name}")
        if self.remaining_s == 0:
            return report_stopped(f"nothing within {self.limit_s:g} s", late=True)
        return _report_broken("the attempt's process was killed")


def attempt(wanted: Attempt) -> Result:
    """Make one attempt, and return what stopped it as the detail; raises nothing.

    The result has `late` when its time was over or there was no room for it, `missing` when this
    machine does not have what was tried, and `broken` when the attempt could not be made as it was
    given.
    """
    return attempt_all([wanted])[0]


def limit_all_s(wanted: Sequence[Attempt]) -> float:
    """Return the seconds in which `attempt_all` returns at the latest."""
    longest_s = max((_limit_s(one) for one in wanted), default=0.0)
    return longest_s * math.ceil(len(wanted) / _AT_ONCE)


def attempt_all(wanted: Sequence[Attempt]) -> list[Result]:
    """Make attempts at the same time, and return their results in order; as `attempt`."""
    results: dict[int, Result] = {}
    waiting = deque(enumerate(wanted))
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < _AT_ONCE:
                place, parameters = waiting.popleft()
                try:
                    running.append(_start(place, parameters))
                except OSError as error:
                    results[place] = _report_broken(f"no process for it: {describe(error)}")
            for ended in _await_ended(running):
                running.remove(ended)
                results[ended.place] = ended.finish()
    finally:
        for left in running:
            left.finish()
    return [results[place] for place in range(len(wanted))]


def _await_ended(running: Sequence[_Running]) -> list[_Running]:
    """Wait for output or for the next deadline, and return those that have ended or have to."""
    if not running:
        return []
    with selectors.DefaultSelector() as selector:
        for one in running:
            selector.register(one.pipe, selectors.EVENT_READ, one)
        events = selector.select(min(one.remaining_s for one in running))
    # What was written in time counts, however late it is read here.
    read = [one for one in (key.data for key, _ in events) if not one.read()]
    return [one for one in running if one in read or one.remaining_s == 0]


def _start(place: int, wanted: Attempt) -> _Running:
    """Fork a process for an attempt; raises OSError when there is no room for one."""
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if pid == 0:
        try:
            # A process that is killed for a system call would leave its memory in a file.
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            # A resolver that hangs would be cut off, which is not the same as having none.
            os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"
            # Whoever reads takes the end of the pipe for the end of the process.
            with open(writing, "w", encoding="utf-8", closefd=False) as pipe:
                pipe.write(json.dumps(_make(wanted)) + "\n")
        finally:
            os._exit(0)
    os.close(writing)
    return _Running(place, str(wanted.get("kind", "")), pid, reading, _limit_s(wanted))


def _limit_s(wanted: Attempt) -> float:
    return _LONGER_S.get(str(wanted.get("kind", "")), LIMIT_S)


def _make(wanted: Attempt) -> Result:
    parameters = dict(wanted)
    kind = str(parameters.pop("kind", ""))
    if kind not in _KINDS:
        return _report_broken(f"no kind `{kind}`; there are {', '.join(_KINDS)}")
    try:
        return _KINDS[kind](**parameters)
    except OSError as error:
        return report_error(error)
    except Exception as error:  # noqa: BLE001  # whatever is wrong with it, it proves nothing
        return _report_broken(f"`{kind}`: {type(error).__name__}: {error}")


def _report_broken(reason: str) -> Result:
    return report_stopped(reason, broken=True)


def main() -> None:
    """Make all attempts and print their results."""
    results = attempt_all(json.loads(sys.argv[1]))
    json.dump(results, sys.stdout)
    broken = [result["detail"] for result in results if result.get("broken")]
    if broken:
        sys.exit("; ".join(broken))


if __name__ == "__main__":
    main()
