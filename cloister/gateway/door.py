"""What the gateway is told: the replicas behind it, who may enter, and where nginx keeps files."""

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from cloister.config import GatewaySettings
from cloister.endpoint import Endpoint
from cloister.engines import AnswerLimits, Replica
from cloister.keys import Key

HTTP2_DIRECTIVE_SINCE = (1, 25)  # before, it was a word of `listen`


@dataclass(frozen=True)
class Place:
    """Where one nginx keeps its files, and as whom its workers run (None: as the master).

    Without a folder for `logs` they go to the standard streams. The access log's lines go to the
    spool `counted` too, out of which the exporter takes them.
    `reserved` tells that the same user holds the ports too, so that no other user can take them
    while nginx does not run. `owner` is the user that reads its files, None for whoever writes
    them. `modules` has the modules that it loads.
    """

    folder: Path
    logs: Path | None
    counted: Path | None = None
    worker_user: str | None = None
    owner: int | None = None
    version: tuple[int, int] = (1, 26)
    reserved: bool = False
    modules: Path = Path("/usr/lib/nginx/modules")

    @property
    def access_log(self) -> Path:
        """Where the access log goes."""
        return self.logs / "access.log" if self.logs else Path("/dev/stdout")

    @property
    def error_log(self) -> Path:
        """Where everything else goes; `stderr` is a word of nginx' own."""
        return self.logs / "gateway-error.log" if self.logs else Path("stderr")

    @property
    def http2_directive(self) -> bool:
        """Whether HTTP/2 is switched on by a directive of its own."""
        return self.version >= HTTP2_DIRECTIVE_SINCE


@dataclass(frozen=True)
class Upstream:
    """One replica as the gateway sees it.

    `max_conns` is how many pages it is given at once, 0 for no limit; one that is `down` gets none.
    """

    replica: Replica
    weight: int = 1
    max_conns: int = 0
    down: bool = False


@dataclass(frozen=True)
class Tls:
    """Names of PEM files beside nginx.conf: certificate with chain and key, and clients' CA."""

    certificate: str
    client_ca: str | None = None


@dataclass(frozen=True)
class Door:
    """All that the configuration depends on; `keys` is None when nobody needs one.

    `exporter` is where metrics are; at `status` nginx tells its own state. Clients find the service
    at the settings' port and at `further_ports`. `answer` is the longest answer of an engine, and
    a page that failed on one is given to another for `moved_s`.
    """

    settings: GatewaySettings
    upstreams: tuple[Upstream, ...]
    answer: AnswerLimits
    moved_s: int
    exporter: Endpoint
    status: Endpoint
    keys: tuple[Key, ...] | None = None
    tls: Tls | None = None
    further_ports: tuple[int, ...] = ()


def url(settings: GatewaySettings) -> str:
    """Return the address that a client on this machine uses."""
    scheme = "https" if settings.certificate else "http"
    address = settings.address
    if address.is_unspecified:
        # A name has several addresses, one of which may be another user's to listen on.
        address = ip_address("::1" if isinstance(address, IPv6Address) else "127.0.0.1")
    host = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    return f"{scheme}://{host}:{settings.port}"
