"""Calls to a supervisord over its Unix socket, none of which takes longer than it may."""

import contextlib
import http.client
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import Faults, SupervisorTransport

from cloister import sockets
from cloister.errors import DeploymentError


class StuckError(DeploymentError):
    """The supervisor took longer to answer than it may, or it has a program that does not end."""


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


@contextlib.contextmanager
def calls(path: Path, namespace: str, answer_s: float) -> Iterator[Any]:
    """Give a namespace's methods of the supervisor that listens at a path.

    Raises DeploymentError for what it refuses, StuckError where one takes longer than `answer_s`
    or a program still runs that is to be removed.
    """
    transport = Transport(path, answer_s)
    try:
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
            yield getattr(proxy, namespace)
    except (OSError, http.client.HTTPException) as error:
        kind = StuckError if isinstance(error, TimeoutError) else DeploymentError
        raise kind(f"the supervisor does not answer on `{path}`", hint="invoke up") from error
    except xmlrpc.client.Fault as error:
        if error.faultCode == Faults.BAD_NAME:
            raise DeploymentError(f"no such program: {error.faultString}") from error
        kind = StuckError if error.faultCode == Faults.STILL_RUNNING else DeploymentError
        raise kind(f"the supervisor refused: {error.faultString}") from error


@contextlib.contextmanager
def unless(*faults: int) -> Iterator[None]:
    """Be content when the supervisor refuses a call for one of these reasons."""
    try:
        yield
    except xmlrpc.client.Fault as error:
        if error.faultCode not in faults:
            raise
