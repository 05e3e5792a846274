"""A machine outside, in a network namespace of ours: what would be reached if anything leaked.

It has no way back but to this machine itself, as a server on the internet has none to a container.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deployments import eventually

from cloister.files import exclusive

# Two addresses and no more: whatever else of that network this machine may reach, it still does.
ADDRESS, PORT = "203.0.113.10", 7443
_HERE, _NAMESPACE, _DEVICE = "203.0.113.9", "cloister-outside", "cloister-out"
_LOCK, _WAIT_S = Path("/run/lock/cloister-outside"), 1800.0
_LISTENER = """
import asyncio, json, sys

log = open(sys.argv[1], "a", buffering=1)

def note(kind, address, data=b""):
    log.write(json.dumps([kind, address, data.decode(errors="replace")]) + "\\n")

async def stream(reader, writer):
    data = await reader.read(100)
    note("tcp", writer.get_extra_info("peername")[0], data)
    writer.write(data)
    writer.close()

class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        note("udp", address[0], data)
        self.transport.sendto(data, address)

class Names(Datagrams):
    def datagram_received(self, data, address):
        note("dns", address[0], data)
        self.transport.sendto(data[:2] + bytes([0x80, 3]) + data[4:], address)  # no such name

async def main():
    loop = asyncio.get_running_loop()
    await asyncio.start_server(stream, "0.0.0.0", int(sys.argv[2]))
    await asyncio.start_server(stream, "0.0.0.0", 53)
    await loop.create_datagram_endpoint(Datagrams, local_addr=("0.0.0.0", int(sys.argv[2])))
    await loop.create_datagram_endpoint(Names, local_addr=("0.0.0.0", 53))
    note("ready", "")
    await asyncio.Event().wait()

asyncio.run(main())
"""


@dataclass(frozen=True)
class Outside:
    """What arrived there."""

    log: Path

    def arrivals(self) -> list[tuple[str, str]]:
        """Return pairs of protocol and sender's address."""
        return [(kind, address) for kind, address, _ in self._lines()]

    def heard(self, word: str) -> bool:
        """Tell whether a word arrived."""
        return any(word in text for _, _, text in self._lines())

    def call(self, word: str) -> None:
        """Send a word there from this machine."""
        with socket.create_connection((ADDRESS, PORT)) as connection:
            connection.sendall(word.encode())

    def _lines(self) -> list[tuple[str, str, str]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [tuple(json.loads(line)) for line in lines]


@contextmanager
def outside(folder: Path) -> Iterator[Outside]:
    """Run the machine, one at a time on this one; needs root and iproute2."""
    found = Outside(folder / "arrivals.log")
    with ExitStack() as cleanup:
        cleanup.enter_context(exclusive(_LOCK, wait_s=_WAIT_S))
        _remove_leftovers()
        _ip("netns", "add", _NAMESPACE)
        cleanup.callback(_ip, "netns", "delete", _NAMESPACE)
        peer = f"{_DEVICE}-in"
        _ip("link", "add", _DEVICE, "type", "veth", "peer", "name", peer, "netns", _NAMESPACE)
        _ip("address", "add", f"{_HERE}/30", "dev", _DEVICE)
        _ip("link", "set", _DEVICE, "up")
        for command in (
            ("address", "add", f"{ADDRESS}/30", "dev", peer),
            ("link", "set", peer, "up"),
        ):
            _ip("-netns", _NAMESPACE, *command)
        script = [sys.executable, "-c", _LISTENER, str(found.log), str(PORT)]
        listener = subprocess.Popen(["ip", "netns", "exec", _NAMESPACE, *script])
        cleanup.callback(listener.wait)
        cleanup.callback(listener.kill)

        def ready() -> None:
            assert found.arrivals() == [("ready", "")]

        eventually(ready)
        yield found


def _remove_leftovers() -> None:
    """Remove what a killed run left. A namespace lives as long as a process in it."""
    listed = subprocess.run(["ip", "netns", "pids", _NAMESPACE], capture_output=True, check=False)
    for pid in listed.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    for command in (("netns", "delete", _NAMESPACE), ("link", "delete", _DEVICE)):
        # Nothing is there to be removed after a run that ended by itself.
        subprocess.run(["ip", *command], stderr=subprocess.DEVNULL, check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
