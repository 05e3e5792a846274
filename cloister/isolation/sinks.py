"""A listener of this machine that nobody sealed may reach, by TCP and UDP on one port."""

import asyncio
import errno
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from cloister.errors import IsolationError

_ANY = "0.0.0.0"  # noqa: S104  # every address of this machine is what is tested
# IPv6 apart from IPv4, on the same port, and UDP-Lite (udplite(7)).
_DATAGRAMS = (
    (socket.AF_INET, socket.IPPROTO_UDP, _ANY),
    (socket.AF_INET6, socket.IPPROTO_UDP, "::"),
    (socket.AF_INET, 136, _ANY),
)
# By these a kernel says that it has no such protocol.
_MISSING = frozenset({errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT})
_TRIES = 10
_START_S = 5.0


class Sink:
    """Echoes whatever comes, and remembers it: UDP that never comes back is seen here.

    `abstract` is the name of its abstract Unix socket, `closed_port` is one at which nobody hears
    UDP.
    """

    def __init__(self) -> None:
        self.port = self.closed_port = 0
        self.abstract = f"cloister-{secrets.token_hex(8)}"
        self._heard: set[str] = set()
        self._open = list[asyncio.AbstractServer | asyncio.BaseTransport]()
        self._connections = set[asyncio.Transport]()

    def heard(self, nonce: str) -> bool:
        """Return whether a nonce arrived."""
        return nonce in self._heard

    async def open(self) -> None:
        """Listen on the same free port by TCP and UDP; raises OSError when there is none."""
        for left in reversed(range(_TRIES)):
            try:
                await self._listen()
                break
            except OSError as error:
                await self.close()
                # The port that was free for TCP is another program's for UDP.
                if error.errno != errno.EADDRINUSE or not left:
                    raise

    async def close(self) -> None:
        """Listen no more."""
        for one in (*self._open, *self._connections):
            one.close()
        self._open.clear()
        await asyncio.sleep(0)  # what is closed ends in the loop's next round

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._stream, _ANY, 0)
        self._open.append(server)
        self.port = server.sockets[0].getsockname()[1]
        for family, protocol, address in _DATAGRAMS:
            try:
                bound = _bound(family, protocol, (address, self.port))
            except OSError as error:
                if error.errno in _MISSING:
                    continue
                raise
            datagrams, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self._heard), sock=bound
            )
            self._open.append(datagrams)
        self._open.append(await loop.create_unix_server(self._stream, f"\0{self.abstract}"))
        # On the loopback alone, so that nobody else takes it.
        kept, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        self.closed_port = kept.get_extra_info("sockname")[1]
        self._open.append(kept)

    def _stream(self) -> asyncio.Protocol:
        return _Stream(self._heard, self._connections)


class _Stream(asyncio.Protocol):
    """Echoes what comes first, and ends the connection."""

    def __init__(self, heard: set[str], connections: set[asyncio.Transport]) -> None:
        self._heard = heard
        self._connections = connections
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self._transport)

    def data_received(self, data: bytes) -> None:
        self._heard.add(data.decode(errors="replace"))
        if self._transport is not None:
            self._transport.write(data)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's
        if self._transport is not None:
            self._connections.discard(self._transport)


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


def _bound(family: int, protocol: int, address: tuple[str, int]) -> socket.socket:
    """Return a socket for datagrams; raises OSError where the kernel has none of the kind."""
    made = socket.socket(family, socket.SOCK_DGRAM, protocol)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.settimeout(0)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


@contextmanager
def sink() -> Iterator[Sink]:
    """Run a sink in a thread until the block ends; raises IsolationError when it cannot listen."""
    made, loop = Sink(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        try:
            asyncio.run_coroutine_threadsafe(made.open(), loop).result(_START_S)
        except OSError as error:
            raise IsolationError(
                f"no listener could be opened on this machine to test against: {error!r}",
                hint="ss -lntup",
            ) from error
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(made.close(), loop).result(_START_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
