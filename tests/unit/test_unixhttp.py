"""requests over Unix sockets, against a server of the standard library."""

import contextlib
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import requests

from cloister import chat, sockets, unixhttp
from cloister.endpoint import UnixSocket


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            time.sleep(30)
        self._answer(f"{self.path} {self.headers['Host']}".encode())

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        return


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    connections = 0

    def get_request(self) -> tuple[object, str]:  # type: ignore[override]  # a socket has no address
        self.connections += 1
        return self.socket.accept()[0], "here"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: a socket's path has room for 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="unixhttp-") as name:
        yield Path(name)


@pytest.fixture
def server(folder: Path) -> Iterator[_Server]:
    path = folder / "so ck+%"  # nothing that a URL takes as it is
    with contextlib.closing(sockets.listen(path)) as listening:
        made = _Server(str(path), _Handler, bind_and_activate=False)
        made.socket.close()
        made.socket = listening
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def url(server: _Server, folder: Path) -> str:
    del server
    return UnixSocket(folder / "so ck+%").url


def test_a_page_goes_there_and_back(folder: Path, url: str) -> None:
    with chat.session(unixhttp.below(folder)) as session:
        answer = session.get(f"{url}/metrics?a=b%20c", timeout=10)
        assert answer.text == "/metrics?a=b%20c localhost"
        assert session.post(f"{url}/v1", json={"page": "x" * 100_000}, timeout=10).json()


def test_a_session_keeps_its_connection(folder: Path, url: str, server: _Server) -> None:
    with chat.session(unixhttp.below(folder)) as session:
        for _ in range(5):
            assert session.get(url, timeout=10).ok
    assert server.connections == 1


def test_a_server_that_says_nothing_is_a_timeout(folder: Path, url: str) -> None:
    with chat.session(unixhttp.below(folder)) as session, pytest.raises(requests.ReadTimeout):
        session.get(f"{url}/slow", timeout=(5, 0.2))


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("nothing", "No such file or directory"),
        ("a file", "Socket operation on non-socket"),
        ("a link", "Socket operation on non-socket"),
        ("a socket that nobody serves", "Connection refused"),
    ],
)
def test_where_no_server_is_the_reason_is_said(
    folder: Path, url: str, what: str, reason: str
) -> None:
    path = folder / "other"
    if what == "a file":
        path.touch()
    elif what == "a link":
        path.symlink_to("so ck+%")
    elif what != "nothing":
        sockets.listen(path).close()
    del url
    with (
        chat.session(unixhttp.below(folder)) as session,
        pytest.raises(requests.ConnectionError) as failed,
    ):
        session.get(f"{UnixSocket(path).url}/health", timeout=5)
    assert chat.reason(failed.value) == reason
