"""A body heard in the event loop itself.

A greenlet that is woken for each token, with a time-out of its own each time, costs twice as
much: it is then the client that a load test of a fast server measures.
"""

import ssl
import time
from collections.abc import Callable

from gevent import get_hub
from gevent.event import Event
from gevent.socket import socket
from geventhttpclient.response import HTTPSocketResponse

_READABLE = 1
_SIZE = 4096


class Listener:
    """Hands on the pieces of a body as they come."""

    def __init__(self, response: HTTPSocketResponse, patience_s: float) -> None:
        self._response = response
        self._patience_s = patience_s
        self._over = Event()
        self._error: Exception | None = None

    def __call__(self, heard: Callable[[bytes], None]) -> None:
        """Call `heard` with piece after piece, until the last; raises whatever broke it.

        A silence of `patience_s` is a TimeoutError.
        """
        self._heard = heard
        sock = self._response._sock  # noqa: SLF001
        self._tell()  # what came with the headers
        if sock is None:  # all of it did
            return
        patience_s = sock.gettimeout()
        sock.settimeout(0)
        self._watcher = get_hub().loop.io(sock.fileno(), _READABLE)
        self._watcher.start(self._read, sock)
        try:
            self._wait()
        finally:
            self._watcher.stop()
            self._watcher.close()
            sock.settimeout(patience_s)  # it may serve another request
        if self._error is not None:
            raise self._error

    def _wait(self) -> None:
        silent_s = 0.0
        while not self._over.wait(self._patience_s - silent_s):
            silent_s = time.monotonic() - self._last_s
            if silent_s >= self._patience_s:
                raise TimeoutError(f"nothing came for {self._patience_s:g} s")

    def _read(self, sock: socket) -> None:
        """Read what there is; runs in the event loop, where nothing may wait or raise."""
        try:
            while not self._response.message_complete:
                piece = sock.recv(_SIZE)
                self._response.feed(piece)  # an empty one is the end, for it to judge
                self._tell()
                if not piece:
                    break
                if len(piece) < _SIZE and not self._response.message_complete:
                    return  # the loop calls again when there is more, also of TLS
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except Exception as error:  # noqa: BLE001  # the greenlet that waits raises it
            self._error = error
        self._watcher.stop()  # before another socket gets its number
        self._over.set()

    def _tell(self) -> None:
        self._last_s = time.monotonic()
        body = self._response._body_buffer  # noqa: SLF001
        if body:
            self._heard(bytes(body))
            body.clear()
