"""The ways out that are tried from every container, as plain data; pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from cloister.errors import ConfigError
from cloister.inside.probe import Result
from cloister.isolation.finding import Try

HUB = "huggingface.co"
_METADATA = "169.254.169.254"
_EMBEDDED_RESOLVER = "127.0.0.11"
_HTTP, _HTTPS, _DNS, _LAST_PORT = 80, 443, 53, 65535
_PORT = re.compile(r"[0-9]{0,5}")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")
_ALL_NODES6 = "ff02::1"
# The machine below this one, and this one, as AF_VSOCK numbers them (vsock(7)).
_VSOCK_PLACES = ((2, 1024), (1, 1024))
# Socket families of <linux/socket.h>: what the kernel would talk to for whoever asks.
_VSOCK = 40
_OTHER_FAMILIES = {
    "AF_KEY": (15, 3, 2),
    "AF_RDS": (21, 5, 0),
    "AF_CAN": (29, 3, 1),
    "AF_TIPC": (30, 1, 0),
    "AF_BLUETOOTH": (31, 5, 0),
    "AF_ALG": (38, 5, 0),
    "AF_XDP": (44, 3, 0),
}
# Of its protocols: audit, netfilter, events of devices and generic are 9, 12, 15 and 16.
_NETLINK, _RAW = 16, 3
_PAST = {"device": "each", "dontroute": True}

_NO_NETWORK = "`docker.engine_network: none`, and nothing else that joins a network"
_NO_WAY_BACK = "`enable_ip_masquerade: false` on the network `default`, as in compose/compose.yaml"
_NO_NAMES = "`dns: [127.0.0.1]`, as in compose/, or an engine of 28 or newer"
_NO_RIGHTS = "`cap_drop: [ALL]`"
_FILTER = "`seccomp=` with compose/seccomp.json, as in compose/"

Where = Literal["network", "host"]
Attempts = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Targets:
    """What there is to reach: this machine, what is outside, and a container of another network.

    `sink_port` is that of a listener on every one of `host_addresses`, `closed_port` one at which
    nobody hears UDP there, `abstract` the name of an abstract Unix socket of the listener's.
    """

    host_addresses: tuple[str, ...]
    sink_port: int
    closed_port: int
    abstract: str
    resolvers: tuple[str, ...]
    outside: tuple[str, int] | None
    other_container: tuple[str, int]


@dataclass(frozen=True)
class Check:
    """One way out, tried by several attempts; `outside` means beyond this machine.

    `control` is the network of the container that is not sealed and has to get through.
    """

    name: str
    attempts: Attempts
    fix: str
    outside: bool = False
    control: Where = "network"
    is_silent: bool = False  # what gets through is heard at its target alone

    @property
    def nonces(self) -> frozenset[str]:
        """What its attempts send."""
        return frozenset(str(one["nonce"]) for one in self.attempts if "nonce" in one)


def place(text: str | None) -> tuple[str, int] | None:
    """Return HOST or HOST:PORT as a pair; raises ConfigError for anything else."""
    if text is None:
        return None
    host, _, port = text.partition(":")
    if not _HOST.fullmatch(host) or not _PORT.fullmatch(port) or int(port or 1) > _LAST_PORT:
        raise ConfigError(f"`{text}` is not a host, nor a host and a port such as 192.0.2.1:443")
    return host, int(port or _HTTPS)


def pause(seconds: int) -> int:
    """Return the seconds between two proofs, 0 for a single one; raises ConfigError below that."""
    if seconds < 0:
        raise ConfigError(f"`--watch {seconds}` is not a number of seconds; expected 1 or more")
    return seconds


def checks(targets: Targets, nonce: str) -> tuple[Check, ...]:
    """Return every way out; `nonce` tells whose attempt it was where it arrives."""
    return (
        *_by_connection(targets, nonce),
        *_by_datagram(targets, nonce),
        *_outside(targets, nonce),
        *_names(nonce),
        *KERNEL,
    )


def gateway_checks(targets: Targets, nonce: str) -> tuple[Check, ...]:
    """Return the ways out of the gateway, which has to be on a network with this machine."""
    outside = (replace(check, fix=_NO_WAY_BACK) for check in _outside(targets, nonce))
    return (*outside, *_names(nonce), *KERNEL)


def merged(results: Sequence[Result], *, expected: bool = True) -> Try:
    """Return several attempts of one check as one: the first that got through, if any.

    One that had no time or no room to get anywhere proves nothing, as `is_late` says.
    """
    through = [result["detail"] for result in results if result["reached"]]
    details = through[:1] or list(dict.fromkeys(result["detail"] for result in results))
    late = any(result.get("late") for result in results)
    return Try(bool(through), ", ".join(details) or "nothing to try", expected, late)


def _marked(targets: Targets, nonce: str, kind: str, way: str, **parameters: Any) -> Attempts:
    """Return an attempt to reach the listener of this machine at each of its addresses."""
    attempt = {"kind": kind, "port": targets.sink_port, "nonce": f"{nonce}-{way}", **parameters}
    return tuple({**attempt, "host": address} for address in targets.host_addresses)


def _by_connection(targets: Targets, nonce: str) -> Iterator[Check]:
    marked = partial(_marked, targets, nonce, "tcp")
    yield Check("interfaces", ({"kind": "interfaces"},), _NO_NETWORK)
    yield Check("this machine by TCP", marked("tcp"), _NO_NETWORK)
    past = marked("tcp-device", device="each")
    yield Check("this machine by TCP, past the routes", past, _NO_NETWORK)
    mptcp = marked("mptcp", protocol="mptcp")
    yield Check("this machine by Multipath TCP", mptcp, _NO_NETWORK)
    yield Check("this machine by SCTP", marked("sctp", protocol="sctp"), _NO_NETWORK)
    abstract = {"kind": "abstract", "name": targets.abstract, "nonce": f"{nonce}-abstract"}
    name = "abstract Unix sockets of this machine"
    yield Check(name, (abstract,), _NO_NETWORK, control="host")
    other, port = targets.other_container
    attempt = {"kind": "tcp", "host": other, "port": port, "nonce": f"{nonce}-other"}
    yield Check("another network's container", (attempt,), _NO_NETWORK)


def _by_datagram(targets: Targets, nonce: str) -> Iterator[Check]:
    marked = partial(_marked, targets, nonce, "udp")
    everybody = {"kind": "udp", "port": targets.sink_port, "device": "each"}
    multicast = {**everybody, "nonce": f"{nonce}-multicast"}
    silent = {
        "this machine by UDP": marked("udp"),
        "this machine by UDP, past the routes": marked("udp-device", **_PAST),
        "this machine by UDP-Lite": marked("udplite", protocol="udplite"),
        "this machine by broadcast": (
            {**everybody, "nonce": f"{nonce}-broadcast", "broadcast": True},
        ),
        "this machine by multicast": (
            {**multicast, "multicast": True},
            {**multicast, "host": _ALL_NODES6},
        ),
    }
    for name, attempts in silent.items():
        yield Check(name, attempts, _NO_NETWORK, is_silent=True)
    # The answer quotes the datagram, and leaves by the default route if the sender has no other.
    closed = marked("udp-closed", **_PAST, connected=True, port=targets.closed_port)
    yield Check("this machine by UDP, to a closed port", closed, _NO_NETWORK)
    ping = {"kind": "icmp", "nonce": f"{nonce}-icmp"}
    pings = tuple({**ping, "host": address} for address in targets.host_addresses)
    yield Check("this machine by ICMP", pings, _NO_NETWORK)
    past = tuple({**one, **_PAST} for one in pings)
    yield Check("this machine by ICMP, past the routes", past, _NO_NETWORK)


def _outside(targets: Targets, nonce: str) -> Iterator[Check]:
    beyond = partial(Check, fix=_NO_NETWORK, outside=True)
    places = [(resolver, _DNS) for resolver in targets.resolvers]
    places += [targets.outside] if targets.outside else []
    hosts = [(HUB, _HTTPS)] + ([targets.outside] if targets.outside else [])
    attempt = {"kind": "tcp", "nonce": f"{nonce}-outside"}
    tcp = tuple({**attempt, "host": host, "port": port} for host, port in places)
    yield beyond("outside by TCP", tcp)
    past = tuple({**one, "device": "each"} for one in tcp)
    yield beyond("outside by TCP, past the routes", past)
    dns = tuple(
        {"kind": "dns", "server": host, "name": f"{nonce}.{HUB}"} for host in targets.resolvers
    )
    yield beyond("outside by UDP (DNS)", dns)
    https = tuple({"kind": "https", "host": host, "port": port} for host, port in hosts)
    yield beyond("outside by HTTPS and name", https)
    metadata = {**attempt, "host": _METADATA, "port": _HTTP}
    yield beyond("cloud metadata", (metadata,))


def _names(nonce: str) -> Iterator[Check]:
    beyond = partial(Check, fix=_NO_NAMES, outside=True)
    embedded = {"kind": "dns", "server": _EMBEDDED_RESOLVER, "name": f"{nonce}.example.com"}
    ways = (embedded, {**embedded, "type": "TXT"}, {**embedded, "tcp": True})
    yield beyond("names through Docker's resolver", ways)
    yield beyond("names as any program resolves them", ({"kind": "resolve", "name": HUB},))


def _calls(*names: str, **parameters: Any) -> Attempts:
    return tuple({"kind": "syscall", "name": name, **parameters} for name in names)


def _sockets(family: int, kind: int, *protocols: int) -> Attempts:
    socket = {"kind": "socket", "family": family, "type": kind}
    return tuple({**socket, "protocol": protocol} for protocol in protocols)


# What no network namespace holds: what the kernel does for whoever may ask it.
KERNEL: tuple[Check, ...] = (
    Check("frames of its own", ({"kind": "raw"},), _NO_RIGHTS),
    Check("packets of its own", (*_sockets(2, _RAW, 255), *_sockets(10, _RAW, 255)), _NO_RIGHTS),
    *(
        Check(f"making {name}", ({"kind": "netlink", "make": make},), _NO_RIGHTS)
        for make, name in (
            ("veth", "an interface"),
            ("address", "an address"),
            ("route", "a route"),
        )
    ),
    Check(
        "the hypervisor (AF_VSOCK)",
        ({"kind": "socket", "family": _VSOCK, "connect": _VSOCK_PLACES},),
        _FILTER,
    ),
    Check(
        "the hypervisor by other system calls",
        (
            {"kind": "syscall32"},
            {"kind": "syscall32", "call": "socket"},
            *_calls("socket", x32=True),
        ),
        _FILTER,
    ),
    Check("other kernel sockets (netlink)", _sockets(_NETLINK, _RAW, 9, 12, 15, 16), _FILTER),
    *(
        Check(f"sockets of {name}", _sockets(*numbers), _FILTER)
        for name, numbers in _OTHER_FAMILIES.items()
    ),
    Check("io_uring", _calls("io_uring_setup"), _FILTER),
    Check("programs in the kernel (bpf)", _calls("bpf"), _FILTER),
    Check("counters of the kernel (perf)", _calls("perf_event_open"), _FILTER),
    Check("page faults of its own (userfaultfd)", _calls("userfaultfd"), _FILTER),
    Check("keyrings", _calls("add_key", "keyctl"), _FILTER),
    Check("another process's memory", _calls("ptrace", "process_vm_readv", "kcmp"), _FILTER),
    Check(
        "a namespace of its own",
        _calls("unshare_user", "unshare_net", "clone_user", "clone3_user"),
        _FILTER,
    ),
    Check("another's namespace", _calls("setns", path="/proc/self/ns/net"), _FILTER),
    Check("mounts", _calls("mount", "fsopen", "open_by_handle_at", "chroot"), _FILTER),
    Check("modules of the kernel", _calls("init_module"), _FILTER),
    Check("attributes of files", _calls("setxattr"), _FILTER),
    Check("links", _calls("symlink", "symlinkat"), _FILTER),
    Check("device nodes and pipes", _calls("mknod", "mknodat"), _FILTER),
    Check("executable data (personality)", _calls("personality"), _FILTER),
    Check("devices", ({"kind": "device"},), "no `devices`, no `privileged`"),
    Check("settings of the kernel", ({"kind": "proc"},), "no `privileged`, no `systempaths`"),
)
