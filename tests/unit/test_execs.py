"""Commands in containers, by the SDK itself, and a Docker engine that falls silent."""

import json
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from cloister.containers import execs
from cloister.errors import IsolationError
from cloister.inside.probe import LIMIT_S, limit_all_s
from cloister.isolation import control

RESULTS = b'[{"reached": false, "detail": "shut"}]'


class Engine(ThreadingUnixStreamServer):
    """A Docker engine with one container, in which it runs one command."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        self.sent = b""
        self.code: int | None = 0  # None as long as a command has not ended
        self.is_silent = self.is_removed = self.is_hasty = False
        self.looked, self.ended = threading.Event(), threading.Event()
        super().__init__(path, _Request)


class _Request(BaseHTTPRequestHandler):
    server: Engine
    protocol_version = "HTTP/1.1"  # as Docker's, which does not close the connection by itself

    def log_message(self, *_: Any) -> None:
        pass

    def address_string(self) -> str:
        return ""

    def _answer(self, told: Any, status: int = HTTPStatus.OK) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:  # http.server's
        if self.server.is_removed:
            self._answer({"message": "No such container: c"}, HTTPStatus.NOT_FOUND)
        elif "/exec/" in self.path:
            self._answer({"ExitCode": self.server.code})
        else:
            self._answer({"Id": "c", "Name": "/ocr-verify"})
            self.server.looked.set()

    def do_POST(self) -> None:  # http.server's
        self.rfile.read(int(self.headers["Content-Length"]))
        if not self.path.endswith("/start"):
            self._answer({"Id": "e"})
            return
        headers = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        self.server.looked.clear()
        if self.server.is_hasty:
            # One piece, as from a program that is done before Docker answers.
            self.wfile.write(headers + self.server.sent)
        else:
            self.wfile.write(headers)
            if self.server.sent:
                self.server.looked.wait()
            self.wfile.write(self.server.sent)
        if self.server.is_silent:
            self.server.ended.wait()
        self.close_connection = True


def frame(stream: int, text: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(text)) + text


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with ExitStack() as cleanup:
        made = cleanup.enter_context(Engine(str(tmp_path / "docker.sock")))
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        for end in (thread.join, made.shutdown, made.ended.set, made.looked.set):
            cleanup.callback(end)
        yield made


@pytest.fixture
def container(engine: Engine) -> Iterator[Container]:
    with closing(docker.DockerClient(f"unix://{engine.server_address}", version="1.41")) as client:
        yield client.containers.get("c")


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    def set_limits(look_s: float, start_s: float) -> None:
        monkeypatch.setattr(execs, "_LOOK_S", look_s)
        monkeypatch.setattr(control, "_START_S", start_s)

    return set_limits


def test_output_and_errors_of_a_command_are_told_apart(
    engine: Engine, container: Container, limit: Callable[[float, float], None]
) -> None:
    limit(0.02, 60)
    engine.sent = frame(1, b"one ") + frame(2, b"bad") + frame(1, b"two") + b"\1"
    engine.code = 3
    assert execs.execute(container, ["x"], within_s=60) == (3, b"one two", b"bad")


@pytest.mark.parametrize("count", [1, 3_000])
def test_output_that_comes_with_the_headers_is_not_lost(
    engine: Engine, container: Container, limit: Callable[[float, float], None], count: int
) -> None:
    """Of a long one, a part fits into the buffer of the answer that has the headers."""
    limit(0.02, 60)
    engine.sent, engine.is_hasty = frame(1, b"one ") * count + frame(2, b"bad"), True
    assert execs.execute(container, ["x"], within_s=60) == (0, b"one " * count, b"bad")


def test_a_probe_returns_what_its_command_prints(
    engine: Engine, container: Container, limit: Callable[[float, float], None]
) -> None:
    limit(0.02, 60)
    engine.sent = frame(1, RESULTS)
    assert control.probe(container, [{"kind": "raw"}]) == json.loads(RESULTS)
    engine.sent, engine.code = frame(2, b"Traceback:\nno module"), 1
    with pytest.raises(IsolationError, match="no probe could be run in ocr-verify: no module"):
        control.probe(container, [{"kind": "raw"}])


def test_a_probe_whose_connection_falls_silent_ends(
    engine: Engine, container: Container, limit: Callable[[float, float], None]
) -> None:
    engine.sent, engine.is_silent = frame(1, b"["), True
    limit(0.02, 0.1)
    with pytest.raises(IsolationError, match=r"in ocr-verify did not end: no end within 0\.1 s"):
        control.probe(container, [])


def test_a_probe_whose_container_is_removed_ends_long_before_its_limit(
    engine: Engine, container: Container, limit: Callable[[float, float], None]
) -> None:
    engine.is_silent = engine.is_removed = True
    limit(0.02, 600)
    with pytest.raises(IsolationError, match="did not end: No such container: c"):
        control.probe(container, [{"kind": "raw"}])


@pytest.mark.parametrize("code", [None, 0])
def test_a_probe_whose_engine_ends_has_no_result(
    engine: Engine, container: Container, code: int | None
) -> None:
    engine.code = code
    with pytest.raises(IsolationError, match="ocr-verify: no output"):
        control.probe(container, [{"kind": "raw"}])


@pytest.mark.parametrize("sent", [frame(1, RESULTS[1:]), frame(1, RESULTS)[9:], frame(3, b"x")])
def test_output_that_is_incomplete_is_one_line(
    engine: Engine,
    container: Container,
    limit: Callable[[float, float], None],
    sent: bytes,
) -> None:
    limit(0.02, 60)
    engine.sent = sent
    with pytest.raises(IsolationError, match=r"in ocr-verify .*incomplete"):
        control.probe(container, [{"kind": "raw"}])


def test_attempts_have_the_time_of_all_their_rounds() -> None:
    tcp, facts = {"kind": "tcp"}, {"kind": "facts"}
    assert [limit_all_s([tcp] * count) for count in (0, 1, 32, 33)] == [
        *(0, LIMIT_S, LIMIT_S),
        2 * LIMIT_S,
    ]
    assert limit_all_s([facts]) == 50
