"""Wrong keys that are more and more right, and a server that gives away how right they are.

Run as `python tests/key_guessing.py --port P`: that is the server. It compares GOOD letter by
letter, slowly.
"""

import argparse
import os
import socket
import socketserver
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from deployments import ROOT, eventually, free_ports, program

GOOD = "cloister_good.hWvPq0vAqz1kTt3mFDx6Yl8sNnJb4Gc7RuEoXwSi2_Q"
SECRET = GOOD.partition(".")[2]
_LEAK_S = 0.00001  # for each right letter: to be seen where an answer takes a millisecond


@dataclass(frozen=True)
class Leaky:
    """The server: its process and port."""

    pid: int
    port: int


def wrong(right: int) -> str:
    """Return a wrong key whose secret begins with so many right letters, and has no others."""
    letters = str.maketrans("0123456789_-", "abcdefghijkl")
    other = SECRET.swapcase().translate(letters)
    assert not any(one == two for one, two in zip(SECRET, other, strict=True))
    return GOOD.removesuffix(SECRET) + SECRET[:right] + other[right:]


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        connection = cast("socket.socket", self.request)
        sent = connection.recv(1 << 16).decode().partition("Bearer ")[2].partition("\r")[0]
        ends = time.perf_counter()
        for one, two in zip(sent, GOOD, strict=False):
            if one != two:
                break
            ends += _LEAK_S
        while time.perf_counter() < ends:
            pass
        connection.sendall(b"HTTP/1.1 401 Unauthorized\r\n\r\n")


@contextmanager
def leaky() -> Iterator[Leaky]:
    """Serve until the end."""
    port = free_ports(1)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with program([sys.executable, __file__, f"--port={port}"], env=environment) as process:
        try:
            eventually(lambda: socket.create_connection(("127.0.0.1", port), 5).close())
            yield Leaky(process.pid, port)
        finally:
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    with socketserver.TCPServer(("127.0.0.1", port), _Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
