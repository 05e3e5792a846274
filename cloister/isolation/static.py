"""What the engine says about containers and networks, judged; pure."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cloister.isolation.finding import Finding

Attributes = Mapping[str, Any]

AS_CONFIGURED = "as in compose/"
AS_OBSERVED = "as the kernel says from inside"
_SOCKETS = ("docker.sock", "containerd.sock", "podman.sock")
_BRIDGE = "com.docker.network.bridge."
_LOOPBACK_ANSWERED_SINCE = (25, 0, 5)  # CVE-2024-29018
_LOCAL_PORTS_SHUT_SINCE = (28, 0, 0)  # moby issue 45610


def container(service: str, attributes: Attributes) -> Iterator[Finding]:
    """Yield one finding for each thing that a sealed container must not have."""
    host, config = attributes["HostConfig"], attributes["Config"]
    user = (config.get("User") or "root").partition(":")[0]
    options = host.get("SecurityOpt") or []
    mounts = attributes.get("Mounts") or []
    seccomp = [o for o in options if o.startswith("seccomp") and "unconfined" in o]
    sockets = [m["Source"] for m in mounts if str(m.get("Source", "")).endswith(_SOCKETS)]
    writable = [m["Destination"] for m in mounts if m.get("RW") and m.get("Type") != "tmpfs"]
    spaces = [n for n in ("NetworkMode", "PidMode", "IpcMode", "UTSMode") if host.get(n) == "host"]
    wrong = {
        "privileged": "it is privileged" if host.get("Privileged") else "",
        "capabilities": _listed("it has", _capabilities(host)),
        "root user": f"it runs as {user}" if user in {"root", "0"} else "",
        "root file system": "" if host.get("ReadonlyRootfs") else "it is writable",
        "new privileges": "" if _no_new_privileges(options) else "setuid programs would work",
        "seccomp": _listed("it is off:", seccomp),
        "Docker's socket": _listed("it is mounted:", sockets),
        "writable mounts": _listed("", writable),
        "host name spaces": _listed("it shares", spaces),
        "devices": _listed("it has", [d["PathOnHost"] for d in host.get("Devices") or []]),
        "hosts file": _listed("it names", host.get("ExtraHosts") or []),
        "limits": _listed("it has none for", _unlimited(host)),
    }
    for check, seen in wrong.items():
        if seen:
            yield Finding(service, check, "open", seen, "take it out of the Compose files")
        else:
            yield Finding(service, check, "sealed", AS_CONFIGURED)


def ports(service: str, attributes: Attributes, allowed: tuple[str, int] | None) -> Finding:
    """Judge the published ports: none, or the one that is allowed."""
    bindings = attributes["HostConfig"].get("PortBindings") or {}
    bound = [
        (binding.get("HostIp") or "0.0.0.0", binding["HostPort"])  # noqa: S104  # what Docker means
        for entries in bindings.values()
        for binding in entries or []
    ]
    expected = [(allowed[0], str(allowed[1]))] if allowed else []
    seen = ", ".join(f"{host}:{port}" for host, port in bound) or "none"
    if bound == expected:
        return Finding(service, "published ports", "sealed", seen)
    return Finding(service, "published ports", "open", seen, "publish the gateway's port only")


def networks(service: str, attributes: Attributes, expected: Sequence[str]) -> Finding:
    """Judge the networks that a container is on."""
    found = sorted(attributes["NetworkSettings"]["Networks"])
    more = sorted(set(found) - set(expected))
    if more:
        fix = f"docker network disconnect {more[0]} ..., and look at who put it there"
        return Finding(service, "networks", "open", f"also on {', '.join(more)}", fix)
    return Finding(service, "networks", "sealed", ", ".join(found))


def internal_network(attributes: Attributes, members: Sequence[str]) -> Iterator[Finding]:
    """Yield what is to be said of the network of the engines; `members` are our containers."""
    name, options = attributes["Name"], attributes.get("Options") or {}
    modes = {options.get(f"{_BRIDGE}gateway_mode_ipv4"), options.get(f"{_BRIDGE}inhibit_ipv4")}
    addressed = not modes & {"isolated", "true"}
    strangers = [
        entry["Name"]
        for entry in (attributes.get("Containers") or {}).values()
        if entry["Name"] not in members
    ]
    wrong = {
        "internal": "" if attributes["Internal"] else "it is not internal",
        "no address of the host": "the host has an address on it" if addressed else "",
        "no IPv6": "it has IPv6" if attributes["EnableIPv6"] else "",
        "members": _listed("strangers:", strangers),
    }
    for check, seen in wrong.items():
        if seen:
            yield Finding(name, check, "open", seen, "invoke down, then invoke up")
        else:
            yield Finding(name, check, "sealed", AS_CONFIGURED)


def neighbours(attributes: Attributes, own: Sequence[str]) -> Iterator[Finding]:
    """Yield a warning for each network of another project that the gateway is joined to."""
    for name in _attached(attributes, own):
        seen = (
            "its containers reach the gateway as `cloister`, and the gateway reaches what it does"
        )
        fix = f"meant so? if not: invoke network.detach {name}"
        yield Finding("gateway", f"neighbour {name}", "warning", seen, fix)


def through_neighbours(
    tried: Iterable[Finding], attributes: Attributes, own: Sequence[str]
) -> Iterator[Finding]:
    """Yield the gateway's findings, those that an attached network opens as warnings.

    Whoever attached a network that leads outside took the gateway there; the engines stay where
    they are, and their findings are their own.
    """
    names = _attached(attributes, own)
    for finding in tried:
        if names and finding.verdict == "open":
            fix = f"it may lead through {', '.join(names)}: make that network `internal: true`"
            yield replace(finding, verdict="warning", fix=fix)
        else:
            yield finding


def docker_engine(version: str) -> Iterator[Finding]:
    """Yield what an old engine leaves open, or leaves to us to close."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if numbers < _LOOPBACK_ANSWERED_SINCE:
        seen = f"{version} would ask this machine's resolver for a sealed container"
        yield Finding(
            "Docker engine",
            "CVE-2024-29018",
            "warning",
            f"{seen}; `dns: [127.0.0.1]` in compose/ stops it, as the DNS rows prove",
            "upgrade to 28 or newer",
        )
    if numbers < _LOCAL_PORTS_SHUT_SINCE:
        seen = f"{version} lets neighbours on this machine's own network segment reach ports "
        yield Finding(
            "Docker engine",
            "ports on 127.0.0.1",
            "warning",
            f"{seen}published on 127.0.0.1 (moby issue 45610)",
            "upgrade to 28 or newer, or drop what comes for 127.0.0.0/8 from outside",
        )


def _attached(attributes: Attributes, own: Sequence[str]) -> list[str]:
    return sorted(set(attributes["NetworkSettings"]["Networks"]) - set(own))


def _capabilities(host: Attributes) -> list[str]:
    dropped = {name.upper() for name in host.get("CapDrop") or []}
    kept = [] if "ALL" in dropped else ["Docker's default capabilities"]
    return [*kept, *(host.get("CapAdd") or [])]


def _no_new_privileges(options: Sequence[str]) -> bool:
    return any(option.replace("=", ":") in _NO_NEW_PRIVILEGES for option in options)


_NO_NEW_PRIVILEGES = frozenset({"no-new-privileges", "no-new-privileges:true"})


def _unlimited(host: Attributes) -> list[str]:
    return [name for name in ("Memory", "PidsLimit") if (host.get(name) or 0) <= 0]


def _listed(prefix: str, names: Sequence[str]) -> str:
    return f"{prefix} {', '.join(names)}".strip() if names else ""
