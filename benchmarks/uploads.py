"""The client of the memory row: many large uploads at once, all of them nearly complete together.

A process that sends every body from one buffer, and holds back the ends until all have come there.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

from benchmarks.load import head, page

_PIECE = 1 << 18
_TAIL = 1 << 16
_DRIP_S = 3  # well below any proxy's limit for a client that says nothing
_LIMIT_S = 600


class Upload(asyncio.Protocol):
    """One connection, and whether it may be given more."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.ready.set()
        self.received = bytearray()
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep little in this process: what is sent must be at the other side."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_PIECE, low=0)

    def pause_writing(self) -> None:
        """Hear that the peer is not quick enough."""
        self.ready.clear()

    def resume_writing(self) -> None:
        """Hear that the peer took all."""
        self.ready.set()

    def data_received(self, data: bytes) -> None:
        """Keep the answer, which is short."""
        self.received += data
        start, blank, rest = self.received.partition(b"\r\n\r\n")
        length = start.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if blank and len(rest) >= int(length or 0):
            self.ended.set()

    def connection_lost(self, _error: Exception | None) -> None:
        """Free whoever waits."""
        self.ready.set()
        self.ended.set()


@dataclass
class Uploads:
    """All of them: how far they are, and how they ended."""

    port: int
    total: int
    body: memoryview
    held: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    all_held: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self) -> None:
        """Send one body, wait for the others before its end, then wait for the answer."""
        loop = asyncio.get_running_loop()
        _, upload = await loop.create_connection(Upload, "127.0.0.1", self.port)
        upload.transport.write(head(len(self.body)))
        most = len(self.body) - _TAIL
        for at in range(0, most, _PIECE):
            await upload.ready.wait()
            upload.transport.write(self.body[at : min(at + _PIECE, most)])
        await upload.ready.wait()
        self.held += 1
        if self.held == self.total:
            self.all_held.set()
        while not self.all_held.is_set() and not upload.ended.is_set() and most < len(self.body):
            try:
                await asyncio.wait_for(self.all_held.wait(), _DRIP_S)
            except TimeoutError:
                # A byte now and then, so that nobody takes this client for gone.
                upload.transport.write(self.body[most : most + 1])
                most += 1
        upload.transport.write(self.body[most:])
        await upload.ended.wait()
        if not upload.received.startswith(b"HTTP/1.1 200 "):
            self.faults[upload.received[:12].decode("latin-1") or "closed"] += 1
        upload.transport.abort()


async def measure(port: int, count: int, size: int) -> dict[str, Any]:
    """Send all; return how long it took until all were held, and until all were answered."""
    uploads = Uploads(port, count, memoryview(page(size, stream=False)))
    started = time.perf_counter()
    held_s: list[float] = []

    async def watch() -> None:
        await uploads.all_held.wait()
        held_s.append(time.perf_counter() - started)

    watching = asyncio.ensure_future(watch())
    async with asyncio.timeout(_LIMIT_S):
        await asyncio.gather(*(uploads.send() for _ in range(count)))
    watching.cancel()
    took_s = time.perf_counter() - started
    return {"held_s": held_s[0] if held_s else None, "took_s": took_s, "faults": uploads.faults}


def main() -> None:
    """Send all and print what came of it as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.uploads", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--bytes", type=int, default=50_000_000)
    chosen = parser.parse_args()
    print(json.dumps(uvloop.run(measure(chosen.port, chosen.count, chosen.bytes))))  # noqa: T201


if __name__ == "__main__":
    main()
