"""Where the containers listen: on Unix sockets, and the gateway on a network too."""

from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

from cloister.config import DockerSettings, IpNetwork, Settings
from cloister.endpoint import Listener, Route, TcpAddress, UnixSocket
from cloister.engines import ENGINES
from cloister.gateway import replica_path
from cloister.layout import Layout
from cloister.runtimes.program import EXPORTER, GATEWAY, SOCKET, SPOOL, Site, socket_folder

GATEWAY_PORT = 8001
_HTTP, _HTTPS = 80, 443  # what a container of an attached network need not name
# A container has its own folder at the first; gateway and exporter have all of them at the other.
OWN, ALL = Path("/run/listen"), Path("/run/http")
SPOOL_FOLDER = Path("/run/spool")  # which gateway and exporter share
# On `docker.engine_network: internal`, whose addresses are the first half of `docker.subnet`.
_ENGINE_PORT, _FIRST_REPLICA = 8000, 10
_DEFAULT_BRIDGE = 129  # the first address of compose.yaml's .128/26
_LOOPBACK = ip_address("127.0.0.1")
_ANY = ip_address("0.0.0.0")  # noqa: S104  # inside the container; the published one is configured


def prefix(docker: DockerSettings) -> str:
    """Return the first three numbers of every address, which compose.yaml calls CLOISTER_NET."""
    return str(docker.subnet.network_address).rpartition(".")[0]


def site(settings: Settings) -> Site:
    """Return where the containers listen; pure."""
    family = ENGINES[settings.engine].family

    def replica(number: int) -> Listener:
        name = f"{family}-{number}"
        if settings.docker.engine_network == "none":
            return _socket(settings, name)
        address = TcpAddress(_engine_address(settings.docker, number), _ENGINE_PORT)
        # This machine has no address on the engines' network: it asks through the gateway.
        way = Route(_socket_here(settings, GATEWAY), replica_path(name))
        return Listener(TcpAddress(str(_ANY), _ENGINE_PORT), address, way)

    return Site(
        replicas=tuple(replica(n) for n in range(1, settings.replicas + 1)),
        exporter=_socket(settings, EXPORTER),
        status=_socket(settings, GATEWAY),
        gateway=settings.gateway.model_copy(
            update={
                "address": _ANY,
                "port": GATEWAY_PORT,
                "metrics_allow": _metrics_allow(settings),
            }
        ),
        published={GATEWAY: TcpAddress(str(settings.gateway.address), settings.gateway.port)},
        further_ports=(_HTTPS if settings.gateway.certificate else _HTTP,),
        spool=SPOOL_FOLDER / SPOOL,
    )


def _socket(settings: Settings, name: str) -> Listener:
    inside = ALL / socket_folder(name) / SOCKET
    return Listener(UnixSocket(OWN / SOCKET), UnixSocket(inside), _socket_here(settings, name))


def _socket_here(settings: Settings, name: str) -> UnixSocket:
    return UnixSocket(Layout(settings.state_dir).sockets / socket_folder(name) / SOCKET)


def _engine_address(docker: DockerSettings, number: int) -> str:
    return str(docker.subnet.network_address + _FIRST_REPLICA - 1 + number)


def _metrics_allow(settings: Settings) -> tuple[IpNetwork, ...]:
    """Return who may read /metrics: this machine's own clients come from the bridge's address."""
    allowed = settings.gateway.metrics_allow
    if not any(_LOOPBACK in network for network in allowed):
        return allowed
    bridge = IPv4Address(int(settings.docker.subnet.network_address) + _DEFAULT_BRIDGE)
    return (*allowed, ip_network(f"{bridge}/32"))
