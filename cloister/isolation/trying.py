"""Attempts made in containers, by check, and what this machine is to be reached at."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from docker.models.containers import Container

from cloister.errors import IsolationError
from cloister.inside import probe as attempt_here
from cloister.isolation.attempts import Check, Targets, checks, merged
from cloister.isolation.control import Control, probe
from cloister.isolation.finding import Try
from cloister.isolation.network import planned_settings
from cloister.isolation.part import Part
from cloister.isolation.sinks import Sink

_HERE = "this machine itself, and no container"
_RESOLVER_FILES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
# Attempts that this machine can make itself without being changed.
_HARMLESS = frozenset({"tcp", "udp", "icmp", "dns", "resolve", "https", "abstract", "socket"})


def reach_freely(free: Control, targets: Targets, nonce: str) -> dict[str, Try]:
    """Return what unsealed containers reach, by check, or this machine where those do not.

    A firewall may keep all containers from this machine: the attempt is one all the same. There is
    nothing to reach where both fail, unless one of them is late: that proves nothing.
    """
    planned = checks(targets, nonce)
    results: dict[str, list[Any]] = {}
    for where, container in free.containers.items():
        results |= _probed(container, [check for check in planned if check.control == where])
    tried = {
        name: merged(found, expected=not _is_missing(found)) for name, found in results.items()
    }
    doubtful = [c for c in planned if _is_harmless(c) and not tried[c.name].reached]
    with ThreadPoolExecutor() as threads:  # each waits for seconds where the network is filtered
        for check, found in zip(doubtful, threads.map(_try_here, doubtful), strict=True):
            if found.reached or found.is_late:
                tried[check.name] = replace(found, by=_HERE)
            elif not tried[check.name].is_late:
                tried[check.name] = replace(tried[check.name], expected=False)
    return tried


def _is_missing(results: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether this machine's kernel was built without what was tried."""
    return all(result.get("missing", False) for result in results)


def _is_harmless(check: Check) -> bool:
    return {attempt["kind"] for attempt in check.attempts} <= _HARMLESS


def _try_here(check: Check) -> Try:
    """Make a check's attempts on this machine; raises IsolationError when one cannot be made."""
    results = attempt_here.attempt_all(check.attempts)
    if broken := [result["detail"] for result in results if result.get("broken")]:
        raise IsolationError(
            f"`{check.name}` could not be tried on this machine: {'; '.join(broken)}",
            hint="invoke verify again",
        )
    return merged(results)


def attempt_beside(
    beside: Container, planned: Sequence[Check], heard: Sink, free: Mapping[str, Try]
) -> Iterator[tuple[Check, Try, Try]]:
    """Yield each check with what came of it beside a suspect, and where nothing is sealed."""
    results = _probed(beside, planned)
    for check in planned:
        tried = merged(results[check.name])
        if check.is_silent and not tried.reached and any(map(heard.heard, check.nonces)):
            tried = Try(reached=True, detail="it arrived, and no answer came back")
        yield check, tried, free[check.name]


def ask_settings(beside: Container, part: Part) -> dict[str, str]:
    """Return the planned settings of the kernel as they are in a suspect's network."""
    (result,) = probe(beside, [{"kind": "settings", "names": list(planned_settings(part))}])
    settings: dict[str, str] = result.get("settings", {})
    return settings


def _probed(container: Container, planned: Sequence[Check]) -> dict[str, list[Any]]:
    """Make all attempts of all checks in one go, and return the results by check."""
    results = iter(probe(container, [one for check in planned for one in check.attempts]))
    return {check.name: [next(results) for _ in check.attempts] for check in planned}


def host_addresses() -> tuple[str, ...]:
    """Return this machine's IPv4 addresses, its bridges' too; not those only it can reach."""
    found = {
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family.name == "AF_INET" and not address.address.startswith("127.")
    }
    return tuple(sorted(found))


def resolvers() -> tuple[str, ...]:
    """Return the name servers that this machine asks, as far as they are not itself."""
    words = [
        line.split()
        for path in _RESOLVER_FILES
        if path.exists()
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
    ]
    servers = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
    outside = [server for server in servers if ":" not in server and not server.startswith("127.")]
    return tuple(dict.fromkeys(outside))
