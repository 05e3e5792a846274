"""The interfaces of this network namespace, and what belongs to them."""

import fcntl
import re
import socket
import struct
from pathlib import Path

from cloister.inside.ways.results import Result, report_reached, report_stopped

_NET = Path("/proc/net")
_LINKS = Path("/sys/class/net")
_LOOPBACK = 772  # its type, as <linux/if_arp.h>: its name can be given to any other
_IS_UP = 1
# Flags of routes, as <linux/route.h> and <linux/ipv6_route.h>.
_REJECT, _ANYCAST, _LOCAL = 0x0200, 0x00100000, 0x80000000
# As <linux/sockios.h>.
_GET_INDEX, _GET_FLAGS, _GET_TYPE = 0x8933, 0x8913, 0x8927
# The tunnels that the kernel makes in each network namespace, unless the setting
# net.core.fb_tunnels_only_for_init_net forbids it, and their types.
_TUNNELS = {
    "tunl0": 768,
    "ip_vti0": 768,
    "ip6tnl0": 769,
    "ip6_vti0": 769,
    "sit0": 776,
    "gre0": 778,
    "ip6gre0": 823,
    "gretap0": 1,
    "erspan0": 1,
}
_LOCAL_ADDRESS = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")


class NoInterfaceError(OSError):
    """There is no interface to send by."""

    def __init__(self) -> None:
        super().__init__("no interface but lo")


def list_names() -> list[str]:
    """Return the names of all interfaces, up or down, without a netlink socket."""
    lines = (_NET / "dev").read_text(encoding="utf-8").splitlines()[2:]
    return [line.rpartition(":")[0].strip() for line in lines]


def choose(device: str | None) -> list[str | None]:
    """Return the interfaces to send by: None is the kernel's choice, "each" all but the loopback.

    Raises NoInterfaceError when "each" is none.
    """
    if device != "each":
        return [device]
    names: list[str | None] = [
        name for name in list_names() if _query(name, _GET_TYPE, "H") != _LOOPBACK
    ]
    if not names:
        raise NoInterfaceError
    return names


def read_index(name: str) -> int:
    """Return the index of an interface; raises OSError when there is none of that name."""
    return _query(name, _GET_INDEX, "i")


def read_links(folder: Path = _LINKS) -> dict[str, list[int]]:
    """Return the number of each interface, and that of its other end, by its name.

    `folder` is where the kernel lists the interfaces of a network namespace. Raises OSError when
    that may not be read.
    """
    return {
        entry.name: [int((entry / name).read_text()) for name in ("ifindex", "iflink")]
        for entry in folder.iterdir()
        if (entry / "iflink").exists()  # some files lie there, too
    }


def read_network(folder: Path, links: Path) -> dict[str, object]:
    """Return the interfaces, addresses and routes of a network namespace, by the kernel's files.

    An idle tunnel of the kernel's own is none of the interfaces. `folder` is /proc/PID/net, `links`
    where the kernel lists interfaces; raises OSError when that may not be read.
    """
    named = (entry for entry in sorted(links.iterdir()) if (entry / "type").exists())
    return {
        "interfaces": [entry.name for entry in named if not _is_idle(entry)],
        "addresses": _read_addresses(folder),
        "routes": [
            *(_parse_route(line) for line in _read_lines("route", folder)[1:]),
            *(_parse_route6(line) for line in _read_lines("ipv6_route", folder) if _leads6(line)),
        ],
    }


def _is_idle(entry: Path) -> bool:
    """Tell whether an interface is a tunnel that the kernel makes, and down."""
    is_up = bool(int((entry / "flags").read_text(), 16) & _IS_UP)
    kind = int((entry / "type").read_text())
    return _is_idle_tunnel({"name": entry.name, "up": is_up, "type": kind})


def _parse_route(line: str) -> list[str]:
    """Return a route's interface, its network, and the gateway, 0.0.0.0 for none."""
    words = line.split()
    network, gateway, mask = (_format_inet(words[place]) for place in (1, 2, 7))
    return [words[0], f"{network}/{mask}", gateway]


def _leads6(line: str) -> bool:
    """Tell whether a route leads anywhere but to this machine itself."""
    return not int(line.split()[8], 16) & (_REJECT | _ANYCAST | _LOCAL)


def _parse_route6(line: str) -> list[str]:
    """Return a route's interface, its network, and the gateway, :: for none."""
    network, length, _, _, gateway, *_, name = line.split()
    return [name, f"{_format_hex(network)}/{int(length, 16)}", _format_hex(gateway)]


def _format_inet(text: str) -> str:
    """Return an IPv4 address that the kernel wrote as a number in this machine's order."""
    return socket.inet_ntoa(struct.pack("=I", int(text, 16)))


def list_ports(*, bridge: str) -> Result:
    """Return the interfaces that are ports of a bridge; raises OSError without that bridge."""
    names = [path.name for path in (_LINKS / bridge / "brif").iterdir()]
    links = read_links()
    return report_reached("", ports={name: links[name] for name in names})


def inspect_interfaces() -> Result:
    """Return what interfaces there are; reached when there is more than the loopback.

    A tunnel that the kernel makes in each namespace is named, but is no way while it is down.
    """
    others = [one for one in map(_inspect, list_names()) if one["type"] != _LOOPBACK]
    tunnels = [one for one in others if _is_idle_tunnel(one)]
    ways = [one for one in others if one not in tunnels]
    if ways:
        return report_reached(_name(ways))
    return report_stopped(
        "nothing but lo" + (f" and idle tunnels: {_name(tunnels)}" if tunnels else "")
    )


def _query(name: str, request: int, answer: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        reply = fcntl.ioctl(asking, request, struct.pack("16s24x", name.encode()))
    value: int = struct.unpack_from(answer, reply, 16)[0]
    return value


def _inspect(name: str) -> dict[str, object]:
    is_up = bool(_query(name, _GET_FLAGS, "H") & _IS_UP)
    return {"name": name, "up": is_up, "type": _query(name, _GET_TYPE, "H")}


def _is_idle_tunnel(interface: dict[str, object]) -> bool:
    # Any interface can be given such a name: only the type tells, and one in use is a way.
    return not interface["up"] and _TUNNELS.get(str(interface["name"])) == interface["type"]


def _name(interfaces: list[dict[str, object]]) -> str:
    return ", ".join(f"{one['name']} ({'up' if one['up'] else 'down'})" for one in interfaces)


def _read_lines(name: str, folder: Path) -> list[str]:
    path = folder / name
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _read_addresses(folder: Path) -> list[str]:
    text = "\n".join(_read_lines("fib_trie", folder))
    own = dict.fromkeys(_LOCAL_ADDRESS.findall(text))
    return [*own, *(_format_inet6(line) for line in _read_lines("if_inet6", folder))]


def _format_inet6(line: str) -> str:
    address, *_, name = line.split()
    return f"{_format_hex(address)}%{name}"


def _format_hex(address: str) -> str:
    return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(address))
