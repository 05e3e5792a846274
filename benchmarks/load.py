"""The client of the gateway's benchmark: a process that sends pages and checks every answer.

It also reads what others use of the processors, so that all sides share one window of time.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import psutil
import uvloop

EVENTS = 50
BODY_BYTES = 500_000
_SETTLE_S = 0.5  # until the machine has got used to the load
_LIMIT_S = 60  # for one answer; far above what any side takes
_MOST_FAULTS = 500  # where going on would tell nothing
_END = b"\r\n0\r\n\r\n"  # of an answer in chunks
_CLOSE = b"\r\nconnection: close\r\n"
# One for all connections: uvloop hands it over right after it filled it.
_BUFFER = memoryview(bytearray(1 << 18))


def page(size: int, *, stream: bool) -> bytes:
    """Return a request for a page, of so many bytes."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    message = {"role": "user", "content": [image]}
    body = json.dumps({"model": "stub", "stream": stream, "messages": [message]})
    before, comma, after = body.partition('base64,"')
    return f"{before}base64,{'A' * (size - len(body))}{comma[-1]}{after}".encode()


def head(size: int) -> bytes:
    """Return the lines before such a body."""
    return (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    ).encode()


def fault(answer: bytes | bytearray) -> str | None:
    """Return what is wrong with an answer: it must be 200 and have every event in its place."""
    if not answer.startswith(b"HTTP/1.1 200 "):
        return answer[:12].decode("latin-1") or "closed"
    if not answer.endswith(_END):
        return "cut off"
    at, pieces = answer.find(b"\r\n\r\n") + 4, []
    while True:
        line_end = answer.find(b"\r\n", at)
        size = int(answer[at:line_end], 16)
        if size == 0:
            break
        pieces.append(answer[line_end + 2 : line_end + 2 + size])
        at = line_end + size + 4
    *events, done, rest = b"".join(pieces).split(b"\n\n")
    if (done, rest, len(events)) != (b"data: [DONE]", b"", EVENTS):
        return f"{len(events)} events"
    wrong = (b'"word%d "' % n not in event for n, event in enumerate(events))
    return "events out of order" if any(wrong) else None


class Connection(asyncio.BufferedProtocol):
    """One connection, which asks for one page after the other while the server keeps it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.received = bytearray()
        self.first_at = 0.0
        self.answered: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; uvloop's own says that it is none."""
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, _hint: int) -> memoryview:
        """Return where the next bytes go."""
        return _BUFFER

    def buffer_updated(self, count: int) -> None:
        """Look for the first event and for the end."""
        self.received += _BUFFER[:count]
        if not self.first_at and b"data: " in self.received:
            self.first_at = time.perf_counter()
        if self.received.endswith(_END) or not self.received.startswith(b"HTTP/1.1 2"):
            self._end()

    def connection_lost(self, _error: Exception | None) -> None:
        """End what is still awaited."""
        self.transport = None
        self._end()

    def _end(self) -> None:
        if self.answered and not self.answered.done():
            self.answered.set_result(None)

    async def ask(self, request: Sequence[bytes]) -> str | None:
        """Send a page and wait for its answer; return what is wrong with it."""
        if self.transport is None:
            return "closed"
        self.received, self.first_at = bytearray(), 0.0
        self.answered = asyncio.get_running_loop().create_future()
        self.transport.writelines(request)
        try:
            await asyncio.wait_for(self.answered, _LIMIT_S)
        except TimeoutError:
            wrong: str | None = "no answer"
        else:
            wrong = fault(self.received)
        if self.transport and (wrong or _CLOSE in self.received.lower()):
            self.transport.abort()
            self.transport = None
        return wrong


@dataclass
class Use:
    """Seconds of processor that groups of processes use, this one among them."""

    groups: dict[str, list[psutil.Process]]
    before: dict[str, float] = field(default_factory=dict)

    def seconds(self) -> dict[str, float]:
        """Return each group's seconds so far, and those of the whole machine."""
        use = {"client": time.process_time(), "wall": time.perf_counter()}
        for name, processes in self.groups.items():
            use[name] = sum(sum(process.cpu_times()[:2]) for process in processes)
        times = psutil.cpu_times()
        use["machine"] = sum(times) - times.idle - times.iowait
        return use

    def begin(self) -> None:
        """Start the window."""
        self.before = self.seconds()

    def end(self) -> dict[str, float]:
        """Return what was used in the window."""
        return {name: value - self.before[name] for name, value in self.seconds().items()}


@dataclass
class Load:
    """Connections that all ask until the time is over; what begins in the window counts."""

    port: int
    request: Sequence[bytes]
    begin_at: float
    end_at: float
    rates: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    pages: int = 0

    async def connect(self) -> Connection:
        """Open one connection."""
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(Connection, "127.0.0.1", self.port))[1]

    async def keep_asking(self, delay_s: float) -> None:
        """Ask for page after page; a rate is a connection's own pages by its own time."""
        connection = Connection()
        await asyncio.sleep(delay_s)
        count, started = 0, 0.0
        while (now := time.perf_counter()) < self.end_at and self.faults.total() < _MOST_FAULTS:
            counts = now >= self.begin_at
            started = started or (now if counts else 0.0)
            if connection.transport is None:
                # A new one where the last answer said so is part of what the page takes.
                connection = await self.connect()
            wrong = await connection.ask(self.request)
            if wrong:
                self.faults[wrong] += 1
            elif counts:
                count += 1
                self.first_ms.append((connection.first_at - now) * 1000)
            self.pages += self.begin_at <= time.perf_counter() <= self.end_at
        self.rates.append(count / (time.perf_counter() - started))


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one load and return what came of it."""
    groups = {}
    for group in arguments.watch:
        name, _, pids = group.partition("=")
        groups[name] = [psutil.Process(int(pid)) for pid in pids.split(",")]
    use, used = Use(groups), dict[str, float]()
    request = (head(BODY_BYTES), page(BODY_BYTES, stream=True))
    now, spread_s, seconds = time.perf_counter(), arguments.spread_s, arguments.seconds
    begin_in_s = 2 * spread_s + _SETTLE_S
    load = Load(arguments.port, request, now + begin_in_s, now + begin_in_s + seconds)
    loop = asyncio.get_running_loop()
    loop.call_later(begin_in_s, use.begin)
    over = asyncio.Event()

    def end() -> None:
        used.update(use.end())
        over.set()

    loop.call_later(begin_in_s + seconds, end)
    # Side by side rather than in step: clients know nothing of each other.
    step_s = spread_s / arguments.concurrency
    await asyncio.gather(*(load.keep_asking(n * step_s) for n in range(arguments.concurrency)))
    await over.wait()
    return {
        "rate": sum(load.rates),
        "first_ms": [round(value, 3) for value in load.first_ms],
        "faults": load.faults,
        "pages": load.pages,
        "used_s": used,
    }


def main() -> None:
    """Run one load and print what came of it as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.load", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1, help="length of the window")
    parser.add_argument("--spread-s", type=float, default=0, help="spread the first pages over")
    parser.add_argument("--watch", nargs="*", default=[], metavar="NAME=PID,PID")
    print(json.dumps(uvloop.run(measure(parser.parse_args()))))  # noqa: T201


if __name__ == "__main__":
    main()
