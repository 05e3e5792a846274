"""Where a server listens: a Unix socket, or a host and a TCP port; one value for both."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote

# sockaddr_un has 108 bytes, the last of which is 0 (unix(7)).
LONGEST_PATH_BYTES = 107
UNIX_SCHEME = "http+unix"
_UNIX_PREFIX = "unix:"


@dataclass(frozen=True)
class UnixSocket:
    """The path of a Unix socket."""

    path: Path

    def __str__(self) -> str:
        """Return `unix:PATH`, as nginx and the flags of our programs name it."""
        return f"{_UNIX_PREFIX}{self.path}"

    @property
    def url(self) -> str:
        """The root of its HTTP routes, for a session of `cloister.chat`."""
        return f"{UNIX_SCHEME}://{quote(str(self.path), safe='')}"

    @property
    def proxied(self) -> str:
        """What nginx' proxy_pass calls it; the colon ends the path."""
        return f"http://{self}:"


@dataclass(frozen=True)
class TcpAddress:
    """A host's IPv4 address and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return `HOST:PORT`, as nginx and the flags of our programs name it."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The root of its HTTP routes."""
        return f"http://{self}"

    @property
    def proxied(self) -> str:
        """What nginx' proxy_pass calls it."""
        return self.url


Endpoint = UnixSocket | TcpAddress


@dataclass(frozen=True)
class Route:
    """A server that another one passes requests on to, below a path of its own."""

    via: UnixSocket
    path: str

    def __str__(self) -> str:
        """Return `unix:PATH` and the path of the requests, as people read it."""
        return f"{self.via}:{self.path}"

    @property
    def url(self) -> str:
        """The root of its HTTP routes."""
        return f"{self.via.url}{self.path}"


def describe(url: str) -> str:
    """Return a URL as people read it: that of a socket as `unix:PATH` and the path of the request.

    The same text as `str` of the endpoint or the route whose URL it is.
    """
    scheme, _, rest = url.partition("://")
    if scheme != UNIX_SCHEME:
        return url
    place, slash, path = rest.partition("/")
    return f"{_UNIX_PREFIX}{unquote(place)}" + (f":/{path}" if slash else "")


def parse(text: str) -> Endpoint:
    """Return the endpoint that `unix:PATH` or `HOST:PORT` names; raises ValueError."""
    if text.startswith(_UNIX_PREFIX):
        path = Path(text.removeprefix(_UNIX_PREFIX))
        if not path.is_absolute():
            raise ValueError(f"`{text}` is not unix: and an absolute path")
        return UnixSocket(path)
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"`{text}` is neither unix:PATH nor HOST:PORT")
    return TcpAddress(host, int(port))


@dataclass(frozen=True)
class Listener:
    """One server's endpoint as each of its clients names it.

    The server itself listens on `own`; the gateway and the exporter find it at `inside`, and the
    commands of this machine at `here`. In containers the same socket has three paths.
    """

    own: Endpoint
    inside: Endpoint
    here: Endpoint | Route

    @property
    def socket(self) -> Path | None:
        """The path at which the server itself binds its socket, None where it listens by TCP."""
        return self.own.path if isinstance(self.own, UnixSocket) else None

    @classmethod
    def at(cls, endpoint: Endpoint) -> Self:
        """Return a server that everybody finds at the same place."""
        return cls(endpoint, endpoint, endpoint)
