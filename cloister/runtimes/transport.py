"""Calls to a supervisord over its Unix socket, none of which takes longer than it may."""

import http.client
from pathlib import Path

from supervisor.xmlrpc import SupervisorTransport

from cloister import sockets


class _Connection(http.client.HTTPConnection):
    """A connection to a Unix socket with a time-out, which supervisor's own has not."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost")
        self._path, self._timeout_s = path, timeout_s

    def connect(self) -> None:
        self.sock = sockets.connect(self._path, self._timeout_s)


class Transport(SupervisorTransport):  # type: ignore[misc]  # supervisor has no types
    """Carries calls to the supervisor that listens at a path, each for so long at most."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__(serverurl=f"unix://{path}")
        self._get_connection = lambda: _Connection(path, timeout_s)
