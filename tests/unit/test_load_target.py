"""What a load test sends to past the gateway."""

import tempfile
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import gevent
import gevent.socket
import pytest

from cloister import config, sockets
from cloister.deployment.plan import plan
from cloister.endpoint import UnixSocket
from cloister.loadtest.target import past_gateway
from loadtests import replicas


@pytest.mark.parametrize(
    ("flags", "reached"),
    [
        (("runtime=process",), ("engine-1", "engine-2")),
        (("runtime=docker",), ("engine-1", "engine-2")),
        (("runtime=docker", "docker.engine_network=internal"), ()),
    ],
)
def test_replicas_are_reached_by_their_sockets_and_not_on_a_network(
    flags: tuple[str, ...], reached: tuple[str, ...]
) -> None:
    environ = {"CLOISTER_CONFIG": "/dev/null", "CLOISTER_STATE_DIR": "/state"}
    flags = ("engine=tesseract", "replicas=2", *flags)
    settings = config.load(flags=flags, environ=environ).settings
    expected = tuple(f"http+unix://%2Fstate%2Frun%2Fhttp%2F{name}%2Fsock" for name in reached)
    assert past_gateway(plan(settings, 2)) == expected


def connect(url: str) -> gevent.socket.socket:
    """Connect to the host of a URL as geventhttpclient does."""
    hub = gevent.get_hub()
    resolver = hub.resolver
    try:
        found = gevent.socket.getaddrinfo(urlsplit(replicas.reachable(url)).netloc, 80)
    finally:
        hub.resolver = resolver
    (family, kind, protocol, _, address) = found[0]
    client = gevent.socket.socket(family, kind, protocol)
    try:
        client.connect(address)
    except OSError:
        client.close()
        raise
    return client


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_link_is_followed_past_the_gateway() -> None:
    with tempfile.TemporaryDirectory(prefix="sockets-") as name:  # a short one
        place, another = Path(name) / "sock", Path(name) / "another"
        url = UnixSocket(place).url
        with closing(sockets.listen(place)):
            connect(url).close()
        before = descriptors()  # gevent's own are open by now
        with closing(sockets.listen(another)):
            with pytest.raises(ConnectionRefusedError):
                connect(url)
            place.unlink()
            place.symlink_to(another)
            with pytest.raises(OSError, match="non-socket"):
                connect(url)
        assert descriptors() == before
