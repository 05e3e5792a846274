"""A listener of this machine that nobody sealed may reach, by TCP and UDP on one port."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from cloister.errors import IsolationError

_ANY = "0.0.0.0"  # noqa: S104  # every address of this machine is what is tested
_START_S = 5.0


class Sink:
    """Echoes whatever comes, and remembers it: UDP that never comes back is seen here."""

    def __init__(self) -> None:
        self.port = 0
        self._heard: set[str] = set()

    def heard(self, nonce: str) -> bool:
        """Return whether a nonce arrived."""
        return nonce in self._heard

    async def open(self) -> None:
        """Listen on the same free port by TCP and UDP."""
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._stream, _ANY, 0)
        self.port = server.sockets[0].getsockname()[1]
        await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._heard), local_addr=(_ANY, self.port)
        )

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonce = await reader.read(200)
        self._heard.add(nonce.decode(errors="replace"))
        writer.write(nonce)
        await writer.drain()
        writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, heard: set[str]) -> None:
        self._heard = heard
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._heard.add(data.decode(errors="replace"))
        if self._transport is not None:
            self._transport.sendto(data, addr)


@contextmanager
def sink() -> Iterator[Sink]:
    """Run a sink in a thread until the block ends."""
    made, loop, ready = Sink(), asyncio.new_event_loop(), threading.Event()

    def run() -> None:
        loop.run_until_complete(made.open())
        ready.set()
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    if not ready.wait(_START_S):
        raise IsolationError("no listener could be opened on this machine to test against")
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
