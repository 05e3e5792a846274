"""What is in a container's network namespace, compared with what Docker gave it; pure."""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cloister.isolation.differences import line
from cloister.isolation.finding import Finding
from cloister.isolation.part import Part

_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_DOCKERS = re.compile("eth[0-9]+")
_LOOPBACK_ROUTE = ("::1/128", "::")  # older kernels list it
_LINK = ipaddress.ip_network("fe80::/10")  # the kernel gives each interface one of these
# By this, others on a network reach what listens on the loopback alone.
_LOCAL = "net.ipv4.conf.all.route_localnet"
_FIX = "end what set it (route_localnet comes from this machine), then invoke down, then invoke up"
Told = Mapping[str, Any]


def strange_network(found: Told | None, networks: Mapping[str, Told]) -> Iterator[tuple[str, str]]:
    """Yield what is not Docker's, by its kind; `networks` is what Docker tells of the container."""
    if found is None:
        yield "interfaces", "they cannot be read"
        return
    joined = [told for told in networks.values() if told["IPAddress"]]
    named = [name for name in found["interfaces"] if _DOCKERS.fullmatch(name)]
    for name in sorted(set(found["interfaces"]) - {"lo", *named}):
        yield "interfaces", name
    if len(named) > len(joined):
        yield "interfaces", f"{', '.join(named)} for {len(joined)} networks"
    own = {told.get(key) for told in joined for key in ("IPAddress", "GlobalIPv6Address")}
    for address in found["addresses"]:
        plain = address.partition("%")[0]
        if plain not in own | _LOOPBACK and ipaddress.ip_address(plain) not in _LINK:
            yield "addresses", address
    planned = {_LOOPBACK_ROUTE, *(route for told in joined for route in _list_routes(told))}
    for interface, network, gateway in found["routes"]:
        if (network, gateway) not in planned:
            yield "routes", f"{network} by {gateway} on {interface}"


def planned_settings(part: Part) -> dict[str, str]:
    """Return what settings of the kernel are to be in a container's network namespace."""
    return {**part.sysctls, _LOCAL: "0"} if part.networks else {}


def judge_settings(part: Part, found: Mapping[str, str]) -> Iterator[Finding]:
    """Yield each setting that is not as planned: Docker only tells what it was asked for."""
    for name, value in planned_settings(part).items():
        told, check = found.get(name), f"kernel.{name}"
        difference = line(part.service, check, told)
        if told != value:
            seen = f"{told}, planned: {value}"
            yield Finding(part.service, check, "open", seen, _FIX, difference)


def _list_routes(told: Told) -> Iterator[tuple[str, str]]:
    """Yield the routes that a container has for being on a network, each with its gateway."""
    subnet = ipaddress.IPv4Network(f"{told['IPAddress']}/{told['IPPrefixLen']}", strict=False)
    yield subnet.with_netmask, "0.0.0.0"  # noqa: S104  # no gateway, as the kernel writes it
    yield "0.0.0.0/0.0.0.0", told["Gateway"]
    # The kernel makes these for each interface.
    yield "fe80::/64", "::"
    yield "ff00::/8", "::"
    if address := told.get("GlobalIPv6Address"):
        subnet6 = ipaddress.IPv6Network(f"{address}/{told['GlobalIPv6PrefixLen']}", strict=False)
        yield str(subnet6), "::"
        yield "::/0", told["IPv6Gateway"]
