"""The traps of Unix sockets under a real nginx and a real exporter."""

import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
import requests
from deployments import Stack, deployed, eventually
from load import load
from load import until as sent
from pages import data_url, encoded, page, request
from repetitions import REPETITIONS

from cloister.layout import Layout


@pytest.fixture(scope="module")
def pair() -> Iterator[Stack]:
    """Two replicas that nobody restarts."""
    with deployed(replicas=2, tesseract_workers=1, healing_enabled="false") as made:
        made.invoke("up")
        yield made


def samples(made: Stack) -> dict[str, float]:
    """Return the series of /metrics."""
    answer = requests.get(f"{made.url}/metrics", timeout=30)
    assert answer.status_code == 200, answer.text
    pairs = (line.rpartition(" ") for line in answer.text.splitlines() if line[0] != "#")
    return {name: float(value) for name, _, value in pairs}


def counted(made: Stack) -> float:
    """Return how many requests of `/v1/models` the exporter has counted."""
    return sum(
        value
        for name, value in samples(made).items()
        if name.startswith("cloister_gateway_requests_total") and '"/v1/models"' in name
    )


def none_missing(made: Stack) -> None:
    """Require that a line of the log came for each request that nginx counted."""

    def none() -> None:
        assert samples(made).get("cloister_gateway_log_lines_missing") == 0

    eventually(none, within_s=60)


def test_engines_have_no_series_that_are_left_out(pair: Stack) -> None:
    found = samples(pair)
    for number in (1, 2):
        assert found[f'cloister_replica_up{{replica="tesseract-{number}"}}'] == 1
        assert found[f'cloister_replica_series_dropped{{replica="tesseract-{number}"}}'] == 0


def test_every_request_is_counted_though_the_exporter_was_stopped(pair: Stack) -> None:
    """Syslog over a Unix datagram socket lost 189 of 200 lines of a stopped reader."""
    asked, exporter = REPETITIONS.counted_requests, psutil.Process(pair.pids()["exporter"])
    before = counted(pair)

    def ask(count: int) -> int:
        with requests.Session() as session:
            answers = (session.get(f"{pair.url}/v1/models", timeout=60) for _ in range(count))
            return sum(answer.status_code == 200 for answer in answers)

    with ThreadPoolExecutor(8) as threads:
        stop(exporter)
        begun = time.monotonic()
        asking = [threads.submit(ask, asked // 8) for _ in range(8)]
        eventually(lambda: _passed(begun, 5.0), within_s=60)
        exporter.resume()
        answered = sum(one.result() for one in asking)
    assert answered == asked

    def all_of_them() -> None:
        assert counted(pair) - before == asked

    eventually(all_of_them, within_s=60)
    none_missing(pair)


def test_a_line_that_came_while_no_exporter_lived_is_counted_by_the_next_one(pair: Stack) -> None:
    exporter = psutil.Process(pair.pids()["exporter"])
    stop(exporter)
    for _ in range(20):
        requests.get(f"{pair.url}/v1/models", timeout=30)
    exporter.kill()

    def by_the_next() -> None:
        assert pair.pids()["exporter"] != exporter.pid
        assert counted(pair) >= 20

    eventually(by_the_next, within_s=120)
    none_missing(pair)


def test_a_request_that_ends_in_any_way_has_its_line(pair: Stack) -> None:
    """Or nginx' own count would tell of lines that are missing."""
    body = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n{"
    for sends in (b"GET", b"\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01", b"", body):
        for reset in (False, True):
            with socket.create_connection(("127.0.0.1", pair.port)) as client:
                client.sendall(sends)
                if reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    none_missing(pair)


def test_a_restart_leaves_nothing_in_the_folder_but_the_socket(pair: Stack) -> None:
    place = Layout(pair.state).sockets / "engine-2"
    (place / "page.md").write_text("secret")
    pair.invoke("restart", "--name", "tesseract-2")
    assert [path.name for path in place.iterdir()] == ["sock"]


def stop(process: psutil.Process) -> None:
    """Stop a process, and wait until it is: the signal is taken at its next turn."""
    process.suspend()

    def stopped() -> None:
        assert process.status() == psutil.STATUS_STOPPED

    eventually(stopped)


def _passed(begun: float, seconds: float) -> None:
    assert time.monotonic() - begun >= seconds


def test_only_the_owner_and_nginx_enter_the_sockets_folder(pair: Stack) -> None:
    layout = Layout(pair.state)
    found = layout.run.stat()
    assert found.st_mode & 0o007 == 0
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    ask = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    socket_ = layout.sockets / "engine-1" / "sock"
    command = ["setpriv", "--reuid=12345", "--clear-groups", "--regid=12345", "/usr/bin/python3"]
    done = subprocess.run([*command, "-c", ask, str(socket_)], capture_output=True, check=False)
    assert b"PermissionError" in done.stderr


def test_a_socket_with_a_full_backlog_loses_no_page(pair: Stack) -> None:
    """nginx gets EAGAIN at once, and goes to the other replica."""
    pid = pair.pids()["tesseract-1"]
    place = Layout(pair.state).sockets / "engine-1" / "sock"
    body = request(data_url(encoded(page("Page 2345"))))
    # A page that was under way there would wait for as long as the server is stopped.
    with full(place, pid), load(pair.url, at_once=2, page=body) as outcome:
        sent(outcome, 10)
    assert outcome.lost == 0, str(outcome)


@contextmanager
def full(place: Path, pid: int) -> Iterator[None]:
    """Stop a server, and connect until its backlog takes nobody any more."""
    server = psutil.Process(pid)
    with ExitStack() as clients:
        stop(server)
        clients.callback(server.resume)
        while True:
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.settimeout(0)
            try:
                client.connect(str(place))
            except BlockingIOError:
                break
        yield
