"""How the seal is judged, without a container."""

from typing import Any

import pytest

from cloister.errors import ConfigError
from cloister.inside import probe
from cloister.isolation import place, static
from cloister.isolation.attempts import Targets, checks, door_checks, merged
from cloister.isolation.finding import Try, paired

TARGETS = Targets(("192.0.2.1",), 4000, ("192.0.2.53",), ("203.0.113.1", 443), ("10.0.0.2", 8000))
GOOD: dict[str, Any] = {
    "Config": {"User": "10001:10001"},
    "HostConfig": {
        "CapDrop": ["ALL"],
        "ReadonlyRootfs": True,
        "SecurityOpt": ["no-new-privileges:true"],
        "Memory": 1,
        "PidsLimit": 1,
        "NetworkMode": "cloister-internal",
    },
    "Mounts": [{"Source": "/m", "Destination": "/model", "RW": False, "Type": "bind"}],
    "NetworkSettings": {"Networks": {"cloister-internal": {}}},
}


@pytest.mark.parametrize(
    ("attempt", "control", "verdict"),
    [
        (Try(reached=True, detail="x"), Try(reached=True, detail="y"), "open"),
        (Try(reached=True, detail="x"), Try(reached=False, detail="y"), "open"),
        (Try(reached=False, detail="x"), Try(reached=True, detail="y"), "sealed"),
        (Try(reached=False, detail="x"), Try(reached=False, detail="y"), "unproven"),
        (
            Try(reached=False, detail="x"),
            Try(reached=False, detail="y", expected=False),
            "absent",
        ),
    ],
)
def test_an_attempt_is_judged_by_its_control(attempt: Try, control: Try, verdict: str) -> None:
    finding = paired("engine", "way out", attempt, control, fix="shut it")
    assert finding.verdict == verdict
    assert finding.failed == (verdict in {"open", "unproven"})


def test_several_attempts_are_one() -> None:
    blocked, through = {"reached": False, "detail": "no"}, {"reached": True, "detail": "yes"}
    assert merged([blocked, through]) == Try(reached=True, detail="yes")
    assert merged([blocked, blocked]) == Try(reached=False, detail="no")
    assert merged([]) == Try(reached=False, detail="nothing to try")


def test_every_attempt_has_a_kind_that_the_probe_knows() -> None:
    planned = checks(TARGETS, "nonce")
    kinds = {attempt["kind"] for check in planned for attempt in check.attempts}
    assert kinds <= set(probe._KINDS)
    assert all(check.attempts and check.fix for check in planned)
    assert {check.name for check in door_checks(TARGETS, "n")} < {check.name for check in planned}


def opened(attributes: dict[str, Any]) -> set[str]:
    return {f.check for f in static.container("engine", attributes) if f.verdict == "open"}


def test_a_good_container_has_no_fault() -> None:
    assert opened(GOOD) == set()


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"Privileged": True}, "privileged"),
        ({"CapDrop": None}, "capabilities"),
        ({"CapAdd": ["NET_RAW"]}, "capabilities"),
        ({"ReadonlyRootfs": False}, "root file system"),
        ({"SecurityOpt": None}, "new privileges"),
        ({"SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"]}, "seccomp"),
        ({"PidMode": "host"}, "host name spaces"),
        ({"NetworkMode": "host"}, "host name spaces"),
        ({"Devices": [{"PathOnHost": "/dev/kvm"}]}, "devices"),
        ({"ExtraHosts": ["host:host-gateway"]}, "hosts file"),
        ({"Memory": 0}, "limits"),
        ({"PidsLimit": None}, "limits"),
    ],
)
def test_a_bad_setting_is_one_fault(change: dict[str, Any], check: str) -> None:
    assert opened({**GOOD, "HostConfig": {**GOOD["HostConfig"], **change}}) == {check}


@pytest.mark.parametrize(
    ("change", "checks_"),
    [
        ({"Config": {"User": ""}}, {"root user"}),
        ({"Config": {"User": "0:0"}}, {"root user"}),
        (
            {"Mounts": [{"Source": "/run/docker.sock", "Destination": "/s", "RW": False}]},
            {"Docker's socket"},
        ),
        ({"Mounts": [{"Source": "/d", "Destination": "/d", "RW": True}]}, {"writable mounts"}),
    ],
)
def test_a_bad_container_is_found(change: dict[str, Any], checks_: set[str]) -> None:
    assert opened({**GOOD, **change}) == checks_


def bindings(*pairs: tuple[str, str]) -> dict[str, Any]:
    entries = [{"HostIp": host, "HostPort": port} for host, port in pairs]
    return {"HostConfig": {"PortBindings": {"8001/tcp": entries}}}


@pytest.mark.parametrize(
    ("attributes", "allowed", "verdict"),
    [
        (bindings(("127.0.0.1", "8001")), ("127.0.0.1", 8001), "sealed"),
        (bindings(("", "8001")), ("127.0.0.1", 8001), "open"),
        (bindings(("127.0.0.1", "8001"), ("0.0.0.0", "9")), ("127.0.0.1", 8001), "open"),  # noqa: S104
        (bindings(("127.0.0.1", "8000")), None, "open"),
        ({"HostConfig": {"PortBindings": None}}, None, "sealed"),
        ({"HostConfig": {"PortBindings": {}}}, ("127.0.0.1", 8001), "open"),
    ],
)
def test_only_the_expected_port_is_published(
    attributes: dict[str, Any], allowed: tuple[str, int] | None, verdict: str
) -> None:
    assert static.ports("gateway", attributes, allowed).verdict == verdict


NETWORK: dict[str, Any] = {
    "Name": "cloister-internal",
    "Internal": True,
    "EnableIPv6": False,
    "Options": {"com.docker.network.bridge.inhibit_ipv4": "true"},
    "Containers": {"1": {"Name": "cloister-gateway-1"}},
}


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({}, None),
        ({"Options": {"com.docker.network.bridge.gateway_mode_ipv4": "isolated"}}, None),
        (
            {"Options": {"com.docker.network.bridge.inhibit_ipv4": "false"}},
            "no address of the host",
        ),
        ({"Options": None}, "no address of the host"),
        ({"Internal": False}, "internal"),
        ({"EnableIPv6": True}, "no IPv6"),
        ({"Containers": {"1": {"Name": "stranger"}}}, "members"),
    ],
)
def test_the_internal_network(change: dict[str, Any], check: str | None) -> None:
    found = static.internal_network({**NETWORK, **change}, ["cloister-gateway-1"])
    assert [f.check for f in found if f.verdict == "open"] == ([check] if check else [])


@pytest.mark.parametrize(
    ("version", "warnings"),
    [("20.10.24+dfsg1", 2), ("25.0.4", 2), ("26.1.5", 1), ("28.0.0", 0), ("29.3.1-rc.1", 0)],
)
def test_an_old_engine_is_a_warning_with_a_fix(version: str, warnings: int) -> None:
    found = list(static.docker_engine(version))
    assert len(found) == warnings
    assert all(f.verdict == "warning" and f.fix for f in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("example.com", ("example.com", 443)),
        ("192.0.2.1:53", ("192.0.2.1", 53)),
    ],
)
def test_a_place_outside(text: str | None, expected: tuple[str, int] | None) -> None:
    assert place(text) == expected


@pytest.mark.parametrize("text", ["", "a b", "host:port", "host:70000", ":1", "http://host"])
def test_a_wrong_place_outside(text: str) -> None:
    with pytest.raises(ConfigError, match="not a host"):
        place(text)
