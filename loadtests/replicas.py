"""Replicas past the gateway: names that gevent resolves to their Unix sockets.

geventhttpclient has no other way to a socket: it asks gevent which kind of address a name has.
"""

import os
import socket
import weakref
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from gevent import get_hub

from cloister import sockets
from cloister.endpoint import UNIX_SCHEME


class _Address(str):
    """The address of the socket that lies at a path now; no link is followed.

    It holds the descriptor that it names as long as it is itself used to connect.
    """

    __slots__ = ("__weakref__",)

    def __new__(cls, path: Path) -> Self:
        """Raise OSError where no socket is."""
        place = sockets.hold(path)
        made = super().__new__(cls, sockets.address(place))
        weakref.finalize(made, os.close, place)
        return made


class _Resolver:
    """Knows the names of replicas, and leaves all others to gevent's own resolver."""

    def __init__(self, others: Any) -> None:
        self._others = others
        self._sockets: dict[str, Path] = {}

    def add(self, path: Path) -> str:
        """Return a host name, one that no name server may know (RFC 2606), for a socket."""
        name = f"replica-{len(self._sockets) + 1}.invalid"
        self._sockets[name] = path
        return name

    def getaddrinfo(self, host: str, *others: Any, **more: Any) -> list[tuple[Any, ...]]:
        """Return the addresses of a name, as socket.getaddrinfo does."""
        if path := self._sockets.get(host):
            return [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", _Address(path))]
        found: list[tuple[Any, ...]] = self._others.getaddrinfo(host, *others, **more)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._others, name)


def reachable(url: str) -> str:
    """Return the URL by which Locust's client reaches a replica."""
    parts = urlsplit(url)
    if parts.scheme != UNIX_SCHEME:
        return url
    hub = get_hub()
    if not isinstance(hub.resolver, _Resolver):
        hub.resolver = _Resolver(hub.resolver)
    return f"http://{hub.resolver.add(Path(unquote(parts.netloc)))}"
