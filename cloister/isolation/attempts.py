"""The ways out that are tried from every container, as plain data; pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cloister.errors import ConfigError
from cloister.inside.probe import Result
from cloister.isolation.finding import Try

HUB = "huggingface.co"
_METADATA = "169.254.169.254"
_EMBEDDED_RESOLVER = "127.0.0.11"
_HTTP, _HTTPS, _DNS, _LAST_PORT = 80, 443, 53, 65535
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")


@dataclass(frozen=True)
class Targets:
    """What there is to reach: this machine, what is outside, and a container of another network.

    `sink_port` is that of a listener on every one of `host_addresses`.
    """

    host_addresses: tuple[str, ...]
    sink_port: int
    resolvers: tuple[str, ...]
    outside: tuple[str, int] | None
    other_container: tuple[str, int]


@dataclass(frozen=True)
class Check:
    """One way out, tried by several attempts; `outside` means beyond this machine."""

    name: str
    attempts: tuple[Mapping[str, Any], ...]
    fix: str
    outside: bool = False


def place(text: str | None) -> tuple[str, int] | None:
    """Return HOST or HOST:PORT as a pair; raises ConfigError for anything else."""
    if text is None:
        return None
    host, _, port = text.partition(":")
    if not _HOST.fullmatch(host) or not (port or "1").isdigit() or int(port or 1) > _LAST_PORT:
        raise ConfigError(f"`{text}` is not a host, nor a host and a port such as 192.0.2.1:443")
    return host, int(port or _HTTPS)


def checks(targets: Targets, nonce: str) -> tuple[Check, ...]:
    """Return every way out; `nonce` tells whose attempt it was where it arrives."""
    fix = "`internal: true` on the network, and no other network"
    return (*_machine(targets, nonce), *_outside(targets, nonce, fix), *_rights())


def door_checks(targets: Targets, nonce: str) -> tuple[Check, ...]:
    """Return the ways out of the gateway, which has to be on a network with this machine."""
    fix = "`enable_ip_masquerade: false` on the network `default`, as in compose/compose.yaml"
    return (*_outside(targets, nonce, fix), _rights()[0])


def merged(results: Sequence[Result], *, expected: bool = True) -> Try:
    """Return several attempts of one check as one: the first that got through, if any."""
    through = [result["detail"] for result in results if result["reached"]]
    details = through[:1] or list(dict.fromkeys(result["detail"] for result in results))
    return Try(bool(through), ", ".join(details) or "nothing to try", expected)


def _machine(targets: Targets, nonce: str) -> tuple[Check, ...]:
    host = [{"host": address, "port": targets.sink_port} for address in targets.host_addresses]
    other, port = targets.other_container
    fix = "`inhibit_ipv4` on the internal network, as in compose/compose.yaml"
    return (
        Check(
            "this machine by TCP",
            tuple({"kind": "tcp", "nonce": nonce, **place} for place in host),
            fix,
        ),
        Check(
            "this machine by UDP",
            tuple({"kind": "udp", "nonce": nonce, **place} for place in host),
            fix,
        ),
        Check(
            "this machine by ICMP",
            tuple({"kind": "icmp", "host": address} for address in targets.host_addresses),
            fix,
        ),
        Check(
            "another network's container",
            ({"kind": "tcp", "host": other, "port": port},),
            "keep it off every network but `cloister-internal`",
        ),
    )


def _outside(targets: Targets, nonce: str, fix: str) -> tuple[Check, ...]:
    places = [(resolver, _DNS) for resolver in targets.resolvers]
    places += [targets.outside] if targets.outside else []
    hosts = [(HUB, _HTTPS)] + ([targets.outside] if targets.outside else [])
    name = f"{nonce}.example.com"
    dns = "`dns: [127.0.0.1]`, as in compose/, or an engine of 28 or newer"
    embedded = {"kind": "dns", "server": _EMBEDDED_RESOLVER, "name": name}
    return (
        Check(
            "outside by TCP",
            tuple({"kind": "tcp", "host": host, "port": port} for host, port in places),
            fix,
            outside=True,
        ),
        Check(
            "outside by UDP (DNS)",
            tuple({"kind": "dns", "server": host, "name": name} for host in targets.resolvers),
            fix,
            outside=True,
        ),
        Check(
            "outside by HTTPS and name",
            tuple({"kind": "https", "host": host, "port": port} for host, port in hosts),
            fix,
            outside=True,
        ),
        Check(
            "names through Docker's resolver",
            (embedded, {**embedded, "type": "TXT"}, {**embedded, "tcp": True}),
            dns,
            outside=True,
        ),
        Check(
            "cloud metadata",
            ({"kind": "tcp", "host": _METADATA, "port": _HTTP},),
            fix,
            outside=True,
        ),
    )


def _rights() -> tuple[Check, ...]:
    return (
        Check("frames of its own", ({"kind": "raw"},), "`cap_drop: [ALL]`"),
        Check(
            "writing to its file system",
            tuple({"kind": "write", "folder": folder} for folder in ("/", "/opt", "/etc", "/usr")),
            "`read_only: true`, and a user other than root",
        ),
    )
