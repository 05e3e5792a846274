"""How long a wrong key takes says nothing about how much of it is right.

nginx compares MD5 digests, whose first difference does not depend on the first difference of the
keys. Medians over many requests are compared, and the measure itself is tried on a server that
does leak.
"""

import socket
import socketserver
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import pytest
from siege import GOOD, siege

pytestmark = pytest.mark.alone

ROUNDS, REQUESTS = 3, 400
# Of all answers' median: far above what nginx differs by, far below what a leak would cost.
TOLERANCE = 0.15
LEAK_S = 0.00001  # for each right letter: to be seen where an answer takes a millisecond


def keys() -> dict[str, str]:
    """Return wrong keys of one name and length, by how much of the good one they share."""
    start = GOOD.partition(".")[0] + "."
    secret = GOOD.removeprefix(start)
    other = secret.swapcase().translate(str.maketrans("0123456789_-", "abcdefghijkl"))
    wrong = {"nothing": other, "all but the last": secret[:-1] + other[-1]}
    assert all(len(one) == len(secret) and one != secret for one in wrong.values())
    return {what: start + one for what, one in wrong.items()}


def seconds(port: int, key: str) -> float:
    """Return how long the first byte of a refusal takes."""
    sent = f"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started = time.perf_counter()
        client.sendall(sent)
        answer = client.recv(1 << 16)
        ended = time.perf_counter()
    assert answer.startswith(b"HTTP/1.1 401 ")
    return ended - started


def difference(port: int) -> float:
    """Return by what share the medians of the two wrong keys differ."""
    taken: dict[str, list[float]] = {what: [] for what in keys()}
    for number in range(REQUESTS):
        # One after the other, and each as often first: what else this machine does meets both.
        for what, key in sorted(keys().items(), reverse=bool(number % 2)):
            taken[what].append(seconds(port, key))
    nothing, most = (statistics.median(taken[what]) for what in keys())
    print(f"shares nothing: {nothing * 1e6:.0f} us, all but the last: {most * 1e6:.0f} us")  # noqa: T201  # with -s, the figures
    return (most - nothing) / nothing


def is_even(port: int) -> bool:
    """Tell whether there is a round without a difference; a leak shows in every one."""
    return any(abs(difference(port)) < TOLERANCE for _ in range(ROUNDS))


def test_a_key_that_is_nearly_right_is_refused_as_fast_as_one_that_is_not() -> None:
    with siege() as besieged:
        assert is_even(besieged.door.port)


class _Leaky(socketserver.BaseRequestHandler):
    """Compares letter by letter, slowly."""

    def handle(self) -> None:
        connection = cast("socket.socket", self.request)
        shown = connection.recv(1 << 16).decode().partition("Bearer ")[2].partition("\r")[0]
        ends = time.perf_counter()
        for one, other in zip(shown, GOOD, strict=True):
            if one != other:
                break
            ends += LEAK_S
        while time.perf_counter() < ends:
            pass
        connection.sendall(b"HTTP/1.1 401 Unauthorized\r\n\r\n")


@contextmanager
def leaky() -> Iterator[int]:
    """Serve until the end; yield the port."""
    with socketserver.TCPServer(("127.0.0.1", 0), _Leaky) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_the_measure_sees_a_comparison_that_leaks() -> None:
    with leaky() as port:
        assert not is_even(port)
