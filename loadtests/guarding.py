"""Locust's clients, which send no page and no key to another user's program."""

import errno
from collections.abc import Sequence
from typing import Any

from geventhttpclient.connectionpool import ConnectionPool

from cloister.errors import DeploymentError
from cloister.sockdiag import Guard


class StrangerError(OSError):
    """Another user's program listens in the service's place."""


def guard(users: Sequence[int] | None) -> None:
    """Let each new connection be refused unless the program of one of these users has it.

    None is for a service elsewhere, of which nothing is known.
    """
    if users is None:
        return
    let = Guard(frozenset(users))

    def after_connect(self: ConnectionPool, sock: Any) -> None:  # noqa: ARG001
        try:
            let.require(sock)
        except DeploymentError as error:
            raise StrangerError(errno.EPERM, error.message) from error

    # Locust makes the pools, and takes no other class of them.
    ConnectionPool.after_connect = after_connect  # type: ignore[method-assign]
