"""What a hostile server gets of a client: no further request, and no more than its time."""

import contextlib
import gzip
import itertools
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3

from cloister import bounded, chat, sockets, unixhttp
from cloister.deployment import gauges
from cloister.endpoint import UnixSocket
from cloister.inside.ask import ask
from cloister.sessions import RedirectError

OK = b"HTTP/1.1 200 OK\r\n"
CLOSE = b"Connection: close\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
WAIT_S = 0.3


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: a socket's path has room for 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="sessions-") as name:
        yield Path(name)


Serve = Callable[[str, Iterable[bytes]], list[bytes]]


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """Let sockets answer each request with the same pieces; return what they were asked."""
    with ExitStack() as cleanup:

        def start(name: str, pieces: Iterable[bytes]) -> list[bytes]:
            listening = cleanup.enter_context(contextlib.closing(sockets.listen(folder / name)))
            asked: list[bytes] = []
            thread = threading.Thread(target=answer, args=(listening, pieces, asked))
            thread.start()
            cleanup.callback(thread.join)
            cleanup.callback(listening.shutdown, socket.SHUT_RDWR)
            return asked

        yield start


def answer(listening: socket.socket, pieces: Iterable[bytes], asked: list[bytes]) -> None:
    while True:
        try:
            client, _ = listening.accept()
        except OSError:  # shut down: the test is over
            return
        with client, contextlib.suppress(ConnectionError):
            asked.append(client.recv(1 << 16))
            for piece in pieces:
                client.sendall(piece)


def slowly(start: bytes, piece: bytes) -> Iterable[bytes]:
    """Yield pieces without end, each before the client has lost its patience."""

    class Slow:
        def __iter__(self) -> Iterator[bytes]:
            yield start
            pause = threading.Event()
            while not pause.wait(WAIT_S / 6):
                yield piece

    return Slow()


def without_end(start: bytes, piece: bytes) -> Iterable[bytes]:
    class Endless:
        def __iter__(self) -> Iterator[bytes]:
            yield start
            yield from itertools.repeat(piece)

    return Endless()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_is_sent_to_where_an_engine_redirects(
    folder: Path, serve: Serve, status: int
) -> None:
    """A 307 to Docker's socket was a POST there."""
    elsewhere = serve("elsewhere", [OK + CLOSE])
    place = f"{UnixSocket(folder / 'elsewhere').url}/containers/prune"
    headers = f"Location: {place}\r\nContent-Length: 0\r\n".encode()
    serve("sock", [b"HTTP/1.1 %d See there\r\n" % status + headers + CLOSE])
    with chat.session(unixhttp.below(folder)) as session:
        for method in ("GET", "POST"):
            with pytest.raises(RedirectError, match=f"HTTP {status}, and no redirect"):
                session.request(method, UnixSocket(folder / "sock").url, data=b"page", timeout=5)
        with pytest.raises(chat.RefusedError, match=f"it answers with HTTP {status}") as refused:
            chat.complete(session, UnixSocket(folder / "sock").url, {}, timeout_s=5)
        assert refused.value.status == 0
        assert gauges.of(session, UnixSocket(folder / "sock").url) == {}
    assert elsewhere == []


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:80", "https://127.0.0.1", "http+unix://%2Frun%2Fdocker.sock"]
)
def test_a_session_for_engines_reaches_only_their_sockets(folder: Path, url: str) -> None:
    with (
        chat.session(unixhttp.below(folder)) as session,
        pytest.raises(requests.exceptions.InvalidSchema),
    ):
        session.get(f"{url}/", timeout=5)


def test_a_session_for_one_server_reaches_no_other() -> None:
    with chat.session("http://10.0.0.1:8000/") as session:
        assert session.get_adapter("http://10.0.0.1:8000/metrics")
        for other in ("http://10.0.0.1:80001/", "http://10.0.0.2:8000/", "http+unix://%2Fsock/"):
            with pytest.raises(requests.exceptions.InvalidSchema):
                session.get_adapter(other)


def test_an_engine_plants_no_cookie(folder: Path, serve: Serve) -> None:
    asked = serve("sock", [OK + b"Set-Cookie: a=b\r\n" + CLOSE])
    with chat.session(unixhttp.below(folder)) as session:
        for _ in range(2):
            session.get(UnixSocket(folder / "sock").url, timeout=5)
    assert not any(b"cookie" in request.lower() for request in asked)


ENDLESS = {
    "a body": slowly(OK + CLOSE, b"a"),
    "a body of some length": slowly(OK + b"Content-Length: 1000000\r\n" + CLOSE, b"a"),
    "chunks": slowly(OK + CHUNKED, b"1\r\na\r\n"),
    "the length of a chunk": slowly(OK + CHUNKED, b"0"),
    "headers": slowly(OK, b"A: a\r\n"),
    "one header": slowly(OK + b"A: ", b"a"),
    "a status": slowly(b"HTTP/1.1 200 ", b"a"),
    "promises": slowly(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}
SWELLING = {
    "a body": without_end(OK + CLOSE, b"a" * 65536),
    "chunks": without_end(OK + CHUNKED, b"10000\r\n" + b"a" * 65536 + b"\r\n"),
    "promises": without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
}


def over_tcp(monkeypatch: pytest.MonkeyPatch, path: Path) -> requests.Session:
    """Return a session for a service, whose connections end at a Unix socket."""

    def connect(_: object, timeout: float, **__: Any) -> socket.socket:
        return sockets.connect(path, timeout)

    monkeypatch.setattr(urllib3.util.connection, "create_connection", connect)
    return chat.session(chat.Pass("http://service"))


@pytest.mark.parametrize("kind", ENDLESS)
def test_an_answer_that_drips_ends_with_its_time(
    folder: Path, serve: Serve, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve("sock", ENDLESS[kind])
    url = UnixSocket(folder / "sock").url
    with chat.session(unixhttp.below(folder)) as session:
        with pytest.raises(requests.RequestException):
            session.get(url, timeout=WAIT_S)
        with pytest.raises(chat.RefusedError):
            chat.complete(session, url, {}, timeout_s=WAIT_S)
    with (
        over_tcp(monkeypatch, folder / "sock") as session,
        pytest.raises(requests.RequestException),
    ):
        session.get("http://service/", timeout=WAIT_S)
    assert ask(url, timeout_s=WAIT_S).status == 0


@pytest.mark.parametrize("kind", SWELLING)
def test_an_answer_that_swells_ends_with_its_bytes(
    folder: Path, serve: Serve, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "MOST_BYTES", 1 << 20)
    serve("sock", SWELLING[kind])
    url = UnixSocket(folder / "sock").url
    with (
        chat.session(unixhttp.below(folder)) as session,
        pytest.raises(requests.RequestException, match="too long"),
    ):
        session.get(url, timeout=60)
    with over_tcp(monkeypatch, folder / "sock") as session:
        with pytest.raises(requests.RequestException, match="too long"):
            session.get("http://service/", timeout=60)
        with pytest.raises(requests.RequestException, match="too long"):
            list(session.get("http://service/", timeout=60, stream=True).iter_content(4096))
    assert "too long" in ask(url, timeout_s=60).body


def test_a_compressed_answer_is_none(folder: Path, serve: Serve) -> None:
    asked = serve("sock", [OK + b"Content-Encoding: gzip\r\n" + CLOSE, gzip.compress(b"a" * 99)])
    url = UnixSocket(folder / "sock").url
    with (
        chat.session(unixhttp.below(folder)) as session,
        pytest.raises(requests.RequestException, match="compressed"),
    ):
        session.get(url, timeout=5)
    assert b"Accept-Encoding: identity\r\n" in asked[0]
    assert "compressed" in ask(url, timeout_s=5).body


def test_a_stream_takes_as_long_as_it_says_something(
    folder: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve("sock", ENDLESS["chunks"])
    with (
        over_tcp(monkeypatch, folder / "sock") as session,
        session.get("http://service/", timeout=WAIT_S, stream=True) as answer,
    ):
        pieces = answer.iter_content(None)
        assert [next(pieces) for _ in range(12)] == [b"a"] * 12
