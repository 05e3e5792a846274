"""What the bounds of JSON cost an engine: pages a second with and without them, in turns.

Both sides are one engine's process each, read the same pages in bodies of 500 KB and run in turns.
The second number is the time of one such body in the counter alone, in the pieces that arrive.
"""

import argparse
import base64
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

import requests
import uvicorn
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from benchmarks.engine import make_pages, report, served
from cloister import hardware
from cloister.engines.json_bounds import JsonCounter
from cloister.engines.tesseract import app
from cloister.engines.tesseract.options import Options

_IMAGE_BYTES = 375_000  # 500 KB as base64
_PIECE = 1 << 16  # what uvicorn hands over at once
_START_S = 60


def serve(port: int, *, is_bounded: bool) -> None:
    """Serve one side until it is ended."""
    server = app.Server(Options(listen=f"127.0.0.1:{port}", workers=hardware.cores()))
    unbounded = mock.patch.object(app, "JsonBoundsMiddleware", lambda inner: inner)
    with nullcontext() if is_bounded else unbounded:
        served_app = server.app()
    uvicorn.run(served_app, port=port, access_log=False, log_level="warning")


@retry(
    retry=retry_if_exception_type(requests.ConnectionError),
    stop=stop_after_delay(_START_S),
    wait=wait_fixed(0.1),
)
def wait_ready(url: str) -> None:
    """Wait until an engine answers."""
    requests.get(f"{url}/health", timeout=_START_S).raise_for_status()


@contextmanager
def engine(side: str) -> Iterator[str]:
    """Run one side as a process of its own; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.json_bounds", f"--serve={side}", f"--port={port}"]
    with subprocess.Popen(command) as process:
        try:
            wait_ready(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def counting_ms(content: bytes) -> float:
    """Return the median time of one page's body in the counter."""
    body = b'{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,'
    body += base64.b64encode(content) + b'"}}]}]}'
    times = []
    for _ in range(200):
        counter, started = JsonCounter(), time.perf_counter()
        for at in range(0, len(body), _PIECE):
            counter.feed(body[at : at + _PIECE])
        times.append((time.perf_counter() - started) * 1e3)
    return statistics.median(times)


def main() -> None:
    """Run both sides in turns and print medians, ratio and the counter's time."""
    parser = argparse.ArgumentParser(prog="nox -s bench-json --", description=__doc__)
    parser.add_argument("--pages", type=int, default=30, help="pages a turn (%(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="turns a side (%(default)s)")
    parser.add_argument("--serve", choices=("without", "with"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.port, is_bounded=arguments.serve == "with")
        return
    # A PNG ends at its last chunk; what follows is read by nobody.
    pages = [page.ljust(_IMAGE_BYTES, b"\0") for page in make_pages(arguments.pages)]
    clients = hardware.cores() + 1
    with engine("without") as without, engine("with") as bounded:
        sides: dict[str, Callable[..., list[int]]] = {
            "without": served(without, clients),
            "with": served(bounded, clients),
        }
        report(sides, pages, arguments.turns)
    print(f"counting a body of 500 KB: {counting_ms(pages[0]):.3f} ms (median)")  # noqa: T201


if __name__ == "__main__":
    main()
