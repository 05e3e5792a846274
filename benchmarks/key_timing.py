"""How long a wrong key takes, by how much of it is right: nginx, and a server that leaks.

Prints a Markdown table of medians, each over many requests sent in alternation, so that other load
on the machine hits all alike. Ends with code 1 if nginx differs in every round, or if the server
that leaks does not: then the measure is worth nothing. It needs a quiet machine.
"""

import argparse
import datetime as dt
import socket
import statistics
import sys
import time
from collections.abc import Iterator

from gateways import gateway
from key_guessing import GOOD, SECRET, leaky, wrong
from stubs import stub

from cloister import console, keys
from cloister.keys import Key

_ROUNDS = 3
# Of all answers' median: far above what nginx differs by, far below what a leak costs.
_TOLERANCE = 0.15


def seconds(port: int, key: str) -> float:
    """Return how long the first byte of a refusal takes."""
    sent = f"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started = time.perf_counter()
        client.sendall(sent)
        answer = client.recv(1 << 16)
        ended = time.perf_counter()
    if not answer.startswith(b"HTTP/1.1 401 "):
        raise ValueError(f"no refusal: {answer[:80]!r}")
    return ended - started


def rounds(name: str, port: int, requests: int) -> Iterator[float]:
    """Yield by what share the medians of two wrong keys differ, and print them, round by round."""
    nothing, most = wrong(0), wrong(len(SECRET) - 1)
    for _ in range(_ROUNDS):
        taken: dict[str, list[float]] = {nothing: [], most: []}
        for number in range(requests):
            for key in (nothing, most) if number % 2 else (most, nothing):
                taken[key].append(seconds(port, key))
        first, second = (statistics.median(taken[key]) for key in (nothing, most))
        share = (second - first) / first
        console.show(f"| {name} | {first * 1e6:.0f} us | {second * 1e6:.0f} us | {share:+.1%} |")
        yield share


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(prog="nox -s bench-key-timing --", description=__doc__)
    parser.add_argument("--requests", type=int, default=400)
    requests = parser.parse_args().requests
    now = dt.datetime.now(dt.UTC)
    key = Key(name="good", digest=keys.digest(GOOD), created=now, expires=None)
    console.show("| server | nothing is right | all but the last letter | difference |")
    console.show("| --- | --- | --- | --- |")
    with stub() as engine, gateway([engine.address], keys=(key,)) as door:
        nginx = list(rounds("nginx", door.port, requests))
    with leaky() as server:
        leak = list(rounds("letter by letter", server.port, requests))
    is_even = any(abs(share) < _TOLERANCE for share in nginx)
    sys.exit(not is_even or any(abs(share) < _TOLERANCE for share in leak))


if __name__ == "__main__":
    main()
