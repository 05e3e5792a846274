"""The proof bites: each hole is opened on purpose, and `invoke verify` names that one."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from conftest import TAG, Containers
from deployments import eventually, program
from outside import ADDRESS, PORT, Outside, outside

from cloister.isolation.finding import FAILING

Findings = dict[tuple[str, str], dict[str, str]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    with outside(tmp_path_factory.mktemp("outside")) as found:
        yield found


def failed(findings: Findings, subject: str) -> set[str]:
    return {
        check
        for (where, check), finding in findings.items()
        if where == subject and finding["verdict"] in FAILING
    }


def arrived(world: Outside, before: int) -> list[tuple[str, str]]:
    """Return what came since; wait for the first, which is noted only after it was sent."""

    def there() -> list[tuple[str, str]]:
        found = world.arrivals()[before:]
        assert found, "nothing arrived"
        return found

    found: list[tuple[str, str]] = eventually(there)
    return found


def test_a_stack_as_shipped_is_sealed(
    make_containers: Callable[..., Containers], world: Outside
) -> None:
    made = make_containers()
    made.invoke("up")
    before = len(world.arrivals())
    findings = made.verify("--outside", f"{ADDRESS}:{PORT}")
    for subject in ("tesseract-1", "exporter", "gateway"):
        finding = findings[subject, "outside by TCP"]
        assert finding["verdict"] == "sealed", finding
        assert "an ordinary container: connected" in finding["evidence"]
    subnet = made.settings["CLOISTER_DOCKER_SUBNET"].removesuffix("0/24")
    assert not [sender for _, sender in arrived(world, before) if sender.startswith(subnet)]
    client, own = docker.from_env(), f"{made.project}-verify-"
    assert [n.name for n in client.networks.list() if str(n.name).startswith(own)] == []
    text = made.invoke("verify")
    assert "unproven" not in text.stdout
    assert text.stderr.splitlines()[-1].startswith("sealed: ")


HOLES = """
services:
  gateway: {{sysctls: {{net.ipv4.ip_forward: "1"}}}}
  tesseract-2: {{cap_add: [NET_RAW]}}
  tesseract-3: {{user: "0:0", cap_add: [NET_RAW]}}
  tesseract-4: {{read_only: false, security_opt: !override []}}
  tesseract-5: {{networks: {{leak: }}, dns: !reset []}}
  tesseract-6: {{ports: ["127.0.0.1:{port}:8000"], pids_limit: 0, mem_limit: 0}}
  tesseract-7: {{dns: !override ["{net}.99"], extra_hosts: ["host:192.0.2.1"], pid: host}}
  tesseract-8: {{volumes: ["/var/run/docker.sock:/var/run/docker.sock", "{folder}:/writable"]}}
  resolver:
    image: cloister/exporter:{tag}
    entrypoint: [python3, -c, "{resolver}"]
    user: "0:0"
    sysctls: {{net.ipv4.ip_unprivileged_port_start: "0"}}
    networks: {{cloister-internal: {{ipv4_address: "{net}.99"}}}}
networks:
  leak: {{}}
"""
# Answers every question with "no such name", as a server outside would the question of a probe.
RESOLVER = (
    "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 53))\\n"
    "while True:\\n"
    "    q, a = s.recvfrom(512); s.sendto(q[:2] + bytes([0x81, 0x83]) + q[4:], a)"
)


@pytest.fixture(scope="module")
def leaking(
    make_containers: Callable[..., Containers], tmp_path_factory: pytest.TempPathFactory
) -> Findings:
    """One stack in which every replica but the first has holes of its own."""
    folder = tmp_path_factory.mktemp("holes")
    override = folder / "override.yaml"
    made = make_containers(
        replicas=8, tesseract_workers=1, docker_override=override, healing_interval_s=60
    )
    net = made.settings["CLOISTER_DOCKER_SUBNET"].removesuffix(".0/24")
    override.write_text(
        HOLES.format(port=made.port + 5, tag=TAG, net=net, folder=folder, resolver=RESOLVER)
    )
    made.invoke("up")
    findings = made.verify(code=7)
    made.invoke("down")
    return findings


@pytest.mark.parametrize(
    ("subject", "holes"),
    [
        ("tesseract-1", set()),
        ("exporter", set()),
        ("gateway", {"forwarding"}),
        ("tesseract-2", {"capabilities"}),
        (
            "tesseract-3",
            {"capabilities", "capabilities in force", "frames of its own", "root user",
             "user in force"},
        ),
        ("tesseract-4", {"new privileges", "no new privileges in force", "root file system"}),
        ("tesseract-6", {"limits", "published ports"}),
        (
            "tesseract-7",
            {"host name spaces", "hosts file", "names through Docker's resolver"},
        ),
        ("tesseract-8", {"Docker's socket", "Docker's socket in sight", "writable mounts"}),
    ],
)  # fmt: skip
def test_each_hole_is_found_and_nothing_else(
    leaking: Findings, subject: str, holes: set[str]
) -> None:
    assert failed(leaking, subject) == holes


def test_a_second_network_opens_all_that_it_leads_to(leaking: Findings) -> None:
    found = failed(leaking, "tesseract-5")
    assert {
        "networks",
        "this machine by TCP",
        "this machine by UDP",
        "this machine by ICMP",
    } <= found
    # Where this machine itself reaches something, the replica does too.
    for check in ("outside by TCP", "outside by UDP (DNS)", "names through Docker's resolver"):
        assert leaking["tesseract-5", check]["verdict"] in {"open", "absent"}
        assert leaking["tesseract-5", check]["verdict"] != "sealed"


def test_a_service_of_the_override_is_looked_at_too(leaking: Findings) -> None:
    assert {"root user", "capabilities", "root file system"} <= failed(leaking, "resolver")
    assert leaking["resolver", "outside by TCP"]["verdict"] in {"sealed", "absent"}


def test_every_fault_says_what_to_do(leaking: Findings) -> None:
    for finding in leaking.values():
        if finding["verdict"] == "open":
            assert finding["fix"], finding


@pytest.mark.parametrize(
    ("network", "holes", "ways"),
    [
        (
            {
                "internal": "true",
                "driver_opts": '{com.docker.network.bridge.inhibit_ipv4: "false"}',
            },
            {"no address of the host"},
            {"this machine by TCP", "this machine by UDP", "this machine by ICMP"},
        ),
        (
            {
                "internal": "false",
                "driver_opts": '{com.docker.network.bridge.inhibit_ipv4: "false"}',
                "enable_ipv6": "true",
                "ipam": "{config: [{subnet: NET.0/25}, {subnet: 'fd00:c:1::/64'}]}",
            },
            {"internal", "no IPv6", "no address of the host"},
            {"this machine by TCP", "outside by TCP", "IPv6 in force"},
        ),
    ],
    ids=["host-gateway", "not-internal"],
)
def test_a_hole_in_the_network_is_a_hole_for_all(
    make_containers: Callable[..., Containers],
    world: Outside,
    tmp_path: Path,
    network: dict[str, str],
    holes: set[str],
    ways: set[str],
) -> None:
    override = tmp_path / "override.yaml"
    made = make_containers(docker_override=override)
    net = made.settings["CLOISTER_DOCKER_SUBNET"].removesuffix(".0/24")
    settings = ", ".join(f"{key}: {value}" for key, value in network.items()).replace("NET", net)
    override.write_text(f"networks: {{cloister-internal: {{{settings}}}}}\n")
    made.invoke("up")
    before = len(world.arrivals())
    findings = made.verify("--outside", f"{ADDRESS}:{PORT}", code=7)
    assert failed(findings, f"{made.project}-internal") == holes
    for subject in ("tesseract-1", "exporter"):
        assert ways <= failed(findings, subject), subject
    if "outside by TCP" in ways:
        assert arrived(world, before)
    made.invoke("down")


def throw_aways(made: Containers) -> list[Any]:
    client, mine = docker.from_env(), {"label": f"cloister.verify={made.project}"}
    filters: dict[str, Any] = {**mine}
    return [
        *client.containers.list(all=True, filters=filters),
        *client.networks.list(filters=filters),
    ]


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGKILL])
def test_a_proof_that_is_cut_short_leaves_nothing_for_long(
    make_containers: Callable[..., Containers], signal_: signal.Signals
) -> None:
    made = make_containers()
    made.invoke("up")
    command = [sys.executable, "-m", "invoke", "verify"]
    with program(command, env=made.environment, stderr=subprocess.PIPE, text=True) as verify:
        assert verify.stderr is not None
        # By its own word, not by Docker's: that lists what it has not yet got hold of.
        assert any("from an ordinary container" in line for line in verify.stderr)
        assert len(throw_aways(made)) >= 3
        verify.send_signal(signal_)
        said = verify.communicate(timeout=400)[1]
    assert verify.returncode != 0, said
    if signal_ is signal.SIGKILL:
        assert throw_aways(made)
        made.verify()
    assert throw_aways(made) == []
    made.invoke("down")


def test_a_route_that_is_passed_on_is_named(make_containers: Callable[..., Containers]) -> None:
    made = make_containers()
    made.invoke("up")
    path = made.state / "gateway" / "nginx.conf"
    text = path.read_text()
    hole = "location = /tokenize { proxy_pass http://engine; }\n        location / {"
    path.write_text(text.replace("location / {", hole))
    made.container("gateway").kill("HUP")
    finding = made.verify(code=7)["gateway", "allow-list"]
    assert finding["verdict"] == "open"
    assert finding["evidence"] == "passed on: POST /tokenize"


def test_what_does_not_run_proves_nothing(make_containers: Callable[..., Containers]) -> None:
    made = make_containers()
    made.invoke("up")
    subprocess.run(["docker", "stop", str(made.container("exporter").name)], check=True)
    said = made.invoke("verify", code=7).stderr
    assert "not running: exporter" in said
