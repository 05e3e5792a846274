"""Pages of metrics from engines that do not mean well: a page is numbers, or it is none."""

import contextlib
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from cloister import bounded, chat, exporter, metrics, sockets, unixhttp
from cloister.deployment import gauges
from cloister.endpoint import UnixSocket
from cloister.inside import health
from cloister.loadtest import sampling

PAGE = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0"} 1
"""
LINE = 'vllm:num_requests_running{engine="0"} 1\n'
NONE = {
    "binary": bytes(range(256)) * 9,
    "UTF-16": PAGE.encode("utf-16"),
    "Latin-1": PAGE.replace('"0"', '"\xe9"').encode("latin-1"),
    "NUL": PAGE.replace("running{", "run\0ning{").encode(),
    "HTML": b"<!doctype html><html><body>It works!</body></html>",
    "JSON": b'{"detail": "Not Found"}',
    "a name and no number": b"NaN one\n",
    "a bug of the parser": b'{"vllm:x", =="b"} 5\n',
    "a line that is too long": f'a{{b="{"c" * metrics.LONGEST_LINE}"}} 1\n'.encode(),
    "too many lines": b"#\n" * (metrics.MOST_LINES + 1),
    "too many series": LINE.encode() * (metrics.MOST_SERIES + 1),
    "too many bytes": PAGE.encode() + b"#" * bounded.MOST_METRICS_BYTES,
}


def answer(body: bytes, kind: str = "text/plain", *, ok: bool = True) -> Any:
    return SimpleNamespace(ok=ok, content=body, headers={"Content-Type": kind})


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_page_of_metrics_is_none(name: str) -> None:
    assert metrics.read(answer(NONE[name])) is None


def test_a_page_of_metrics_is_its_families() -> None:
    found = metrics.read(answer(PAGE.encode()))
    assert found is not None
    (family,) = found
    assert [(sample.name, sample.value) for sample in family.samples] == [(gauges.RUNNING, 1)]
    assert metrics.read(answer(b"")) == []
    assert metrics.read(answer(PAGE.encode(), ok=False)) is None


@pytest.mark.parametrize("kind", ["text/plain; charset=idna", "text/plain; charset=hex", "x", ""])
def test_no_charset_that_an_engine_names_is_used(kind: str) -> None:
    assert metrics.read(answer(PAGE.encode(), kind))


PIECES = ("a", "{", "}", '"', "\\", "=", ",", " ", "\n", "# TYPE", "# HELP", "counter", "1", "\r")


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=2)).map("".join) | st.binary())
@example('{"vllm:x", =="b"} 5\n')
def test_no_page_ends_its_reader(page: str | bytes) -> None:
    body = page.encode() if isinstance(page, str) else page
    found = metrics.read(answer(body))
    assert found is None or isinstance(found, list)
    told = SimpleNamespace(get=lambda *_, **__: answer(body))
    assert isinstance(gauges.of(told, "http://a"), dict)  # type: ignore[arg-type]
    assert isinstance(sampling.engine(told, "http://a"), dict)  # type: ignore[arg-type]
    assert isinstance(health.totals(body.decode(errors="replace")), dict)


@pytest.mark.parametrize("line", ["x", "x NaN", "x one", "x +Inf", '{"a', "x 1_0", " "])
def test_a_line_without_a_number_is_none_for_the_health_check(line: str) -> None:
    assert health.totals(f'{line}\na 1\na{{b="c"}} 2\n') == {"a": 3.0}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: a socket's path has room for 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="metrics-") as name:
        yield Path(name)


@contextlib.contextmanager
def serving(path: Path, head: bytes, body: bytes, times: int) -> Iterator[None]:
    """Answer everything on a socket with a body so many times over."""
    listening = sockets.listen(path)

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:  # shut down: the test is over
                return
            with client, contextlib.suppress(ConnectionError):
                client.recv(1 << 16)
                client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + head + b"\r\n")
                for _ in range(times):
                    client.sendall(body)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        listening.close()


HOSTILE = {
    "100 MB": (
        b"Content-Type: text/plain\r\n",
        LINE.encode() * 1000,
        100_000_000 // len(LINE) // 1000,
    ),
    "100 MB of one line": (b"Content-Length: 100000000\r\n", b"a" * 1_000_000, 100),
    "binary without a type": (b"", bytes(range(256)) * 1000, 10),
    "another charset": (b"Content-Type: text/plain; charset=idna\r\n", PAGE.encode(), 1),
    "no charset": (b"Content-Type: text/plain; charset=hex\r\n", bytes(range(256)), 1),
    "a bug of the parser": (b"", NONE["a bug of the parser"], 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_one_engine_takes_no_number_of_the_others_away(folder: Path, name: str) -> None:
    head, body, times = HOSTILE[name]
    odd, good = folder / "odd", folder / "good"
    places = {"odd": UnixSocket(odd), "good": UnixSocket(good)}
    with serving(odd, head, body, times), serving(good, b"", PAGE.encode(), 1):
        registry = CollectorRegistry()
        registry.register(exporter.Replicas(places))
        page = generate_latest(registry).decode()
        with chat.session(unixhttp.below(folder)) as session:
            told = {name: gauges.of(session, place.url) for name, place in places.items()}
            sampled = {name: sampling.engine(session, place.url) for name, place in places.items()}
    assert 'vllm:num_requests_running{engine="0",replica="good"} 1.0' in page
    assert 'cloister_replica_up{replica="good"} 1.0' in page
    assert told["good"] == {gauges.RUNNING: 1}
    assert sampled["good"] == {"num_requests_running": 1}
    if name != "another charset":
        assert 'cloister_replica_up{replica="odd"} 0.0' in page
        assert (told["odd"], sampled["odd"]) == ({}, {})
