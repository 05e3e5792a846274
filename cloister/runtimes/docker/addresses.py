"""The addresses of the containers, fixed, so that nothing on the way of a page asks a resolver."""

from ipaddress import IPv4Address, ip_address, ip_network

from cloister.config import DockerSettings, IpNetwork, Settings
from cloister.runtimes.program import GATEWAY, Site

GATEWAY_PORT, STATUS_PORT = 8001, 8002
_ENGINE_PORT, _EXPORTER_PORT = 8000, 8100
_GATEWAY_HOST, _EXPORTER_HOST, _FIRST_REPLICA = 2, 3, 10
_DEFAULT_BRIDGE = 129  # the first address of compose.yaml's .128/26
_LOOPBACK = ip_address("127.0.0.1")
_ANY = ip_address("0.0.0.0")  # noqa: S104  # inside the container; the published one is configured


def prefix(docker: DockerSettings) -> str:
    """Return the first three numbers of every address, which compose.yaml calls CLOISTER_NET."""
    return str(docker.subnet.network_address).rpartition(".")[0]


def gateway_address(docker: DockerSettings) -> str:
    """Return the gateway's address on the internal network."""
    return str(_address(docker, _GATEWAY_HOST))


def site(settings: Settings) -> Site:
    """Return where the containers listen; pure."""
    docker = settings.docker
    published = (str(settings.gateway.address), settings.gateway.port)
    return Site(
        replicas=tuple(
            (str(_address(docker, _FIRST_REPLICA + number)), _ENGINE_PORT)
            for number in range(settings.replicas)
        ),
        exporter=(str(_address(docker, _EXPORTER_HOST)), _EXPORTER_PORT),
        status=(gateway_address(docker), STATUS_PORT),
        status_allow=(str(_address(docker, _EXPORTER_HOST)),),
        bind=str(_ANY),
        gateway=settings.gateway.model_copy(
            update={
                "address": _ANY,
                "port": GATEWAY_PORT,
                "metrics_allow": _metrics_allow(settings),
            }
        ),
        published={GATEWAY: published},
    )


def _metrics_allow(settings: Settings) -> tuple[IpNetwork, ...]:
    """Return who may read /metrics: this machine's own clients come from the bridge's address."""
    allowed = settings.gateway.metrics_allow
    if not any(_LOOPBACK in network for network in allowed):
        return allowed
    return (*allowed, ip_network(f"{_address(settings.docker, _DEFAULT_BRIDGE)}/32"))


def _address(docker: DockerSettings, host: int) -> IPv4Address:
    return IPv4Address(int(docker.subnet.network_address) + host)
