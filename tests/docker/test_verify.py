"""The proof bites: each hole is opened on purpose, and `invoke verify` names that one."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
from conftest import TAG, Containers
from deployments import ROOT, eventually, program
from docker.errors import APIError
from outside import ADDRESS, PORT, Outside, outside
from proof import assert_nothing_leaves, swept

from cloister import config
from cloister.deployment.plan import plan
from cloister.errors import IsolationError
from cloister.isolation import control as isolation_control
from cloister.isolation import expected
from cloister.isolation.attempts import Targets
from cloister.isolation.control import control
from cloister.isolation.differences import compare
from cloister.isolation.finding import FAILING, Finding, Try
from cloister.isolation.part import Engine, Image
from cloister.isolation.parts import parts
from cloister.isolation.sinks import sink
from cloister.isolation.trying import host_addresses, reach_freely

Findings = dict[tuple[str, str], dict[str, str]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Outside]:
    # For no longer than a test: others wait for it.
    with outside(tmp_path) as found:
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
    for subject in ("tesseract-1", "exporter", "vllm-nginx-gateway"):
        finding = findings[subject, "outside by TCP"]
        assert finding["verdict"] == "sealed", finding
        assert "a container that is not sealed: connected" in finding["evidence"]
    subnet = made.settings["CLOISTER_DOCKER_SUBNET"].removesuffix("0/24")
    assert not [sender for _, sender in arrived(world, before) if sender.startswith(subnet)]
    client, own = docker.from_env(), f"{made.project}-verify-"
    assert [n.name for n in client.networks.list() if str(n.name).startswith(own)] == []
    made.container("tesseract-1").restart()  # the mode is the container's own, and stays

    def served() -> None:
        assert requests.get(f"{made.url}/v1/models", timeout=60).status_code == requests.codes.ok

    eventually(served, within_s=120)
    text = made.invoke("verify")
    assert "unproven" not in text.stdout
    assert text.stderr.splitlines()[-1].startswith("sealed: ")


def test_not_a_byte_leaves_an_engine(
    make_containers: Callable[..., Containers], world: Outside
) -> None:
    """Every way out is tried inside the engine, with every interface of this machine tapped."""
    made = make_containers()
    made.invoke("up")
    assert_nothing_leaves(made, "tesseract-1", world)
    made.invoke("down")


HOLES = """
services:
  vllm-nginx-gateway:
    sysctls: {{net.ipv4.ip_forward: "1"}}
    networks: {{leak: , default: {{aliases: [registry], ipv4_address: "{address}"}}}}
  tesseract-2:
    cap_add: [NET_RAW]
    user: "0:0"
  tesseract-3:
    security_opt: !override ["seccomp={allow_all}", "systempaths=unconfined"]
    read_only: false
    user: "0:0"
  tesseract-4: {{network_mode: !reset null, networks: {{leak: }}}}
  tesseract-5:
    volumes: ["/run:/host-run:ro", "/etc:/host-etc:ro", "{folder}:/writable", "{folder}:/dev/shm"]
    group_add: ["0"]
    environment: {{HTTP_PROXY: "http://192.0.2.1:3128", PYTHONPATH: "/opt/cloister:/writable"}}
    tmpfs: !override ["/tmp:size=256m,mode=1777"]
  tesseract-6:
    pids_limit: 0
    mem_limit: 0
    ulimits: {{core: -1}}
    device_cgroup_rules: ["c 1:3 rwm"]
    ipc: shareable
    cgroup: host
    userns_mode: host
    extra_hosts: ["host:192.0.2.1"]
    pid: host
    logging: !override {{driver: syslog, options: {{syslog-address: "udp://127.0.0.1:9"}}}}
    secrets: [note]
  guest:
    image: cloister/exporter:{tag}
    entrypoint: [python3, -c, "import signal; signal.pause()"]
networks:
  leak: {{}}
secrets:
  note: {{file: "{note}"}}
"""
ALLOW_ALL = '{"defaultAction": "SCMP_ACT_ALLOW"}'


@pytest.fixture(scope="module")
def leaking(
    make_containers: Callable[..., Containers], tmp_path_factory: pytest.TempPathFactory
) -> Findings:
    """One stack in which every replica but the first has holes of its own."""
    folder = tmp_path_factory.mktemp("holes")
    override, allow_all, note = (folder / name for name in ("o.yaml", "all.json", "note"))
    allow_all.write_text(ALLOW_ALL)
    note.write_text("x")
    made = make_containers(
        replicas=6, tesseract_workers=1, docker_override=override, healing_interval_s=60
    )
    address = made.settings["CLOISTER_DOCKER_SUBNET"].replace(".0/24", ".140")
    override.write_text(
        HOLES.format(tag=TAG, folder=folder, allow_all=allow_all, note=note, address=address)
    )
    made.invoke("up")
    findings = made.verify(code=7)
    made.invoke("down")
    return findings


@pytest.mark.parametrize(
    ("subject", "holes"),
    [
        ("exporter", set()),
        (
            "vllm-nginx-gateway",
            {"HostConfig.Sysctls", "NetworkSettings.Networks"},
        ),
        (
            "tesseract-2",
            {"Config.User", "HostConfig.CapAdd", "kernel.capabilities", "kernel.user",
             "packets of its own"},
        ),
        (
            "tesseract-3",
            {"HostConfig.SecurityOpt", "HostConfig.ReadonlyRootfs", "HostConfig.MaskedPaths",
             "HostConfig.ReadonlyPaths", "kernel.no_new_privileges", "kernel.mounts./",
             "settings of the kernel"},
        ),
        ("tesseract-4", {"HostConfig.NetworkMode", "NetworkSettings.Networks", "interfaces"}),
        (
            "tesseract-5",
            {"Config.Env", "HostConfig.Binds", "HostConfig.GroupAdd", "HostConfig.Tmpfs",
             "Mounts", "kernel.environment", "kernel.mounts./host-run", "kernel.mounts./writable",
             "kernel.mounts./dev/shm"},
        ),
        (
            "tesseract-6",
            {"HostConfig.PidsLimit", "HostConfig.Memory", "HostConfig.Ulimits",
             "HostConfig.DeviceCgroupRules", "HostConfig.IpcMode", "HostConfig.CgroupnsMode",
             "HostConfig.ExtraHosts", "HostConfig.PidMode", "HostConfig.LogConfig.Type",
             "HostConfig.LogConfig.Config", "HostConfig.UsernsMode", "Mounts", "kernel.core",
             "kernel.mounts./run/secrets/note"},
        ),
        ("guest", {"service"}),
    ],
)  # fmt: skip
def test_every_hole_of_many_is_named(leaking: Findings, subject: str, holes: set[str]) -> None:
    assert holes <= failed(leaking, subject)


def test_further_names_and_a_fixed_address_on_a_network_are_named(leaking: Findings) -> None:
    subjects = {where for where, _ in leaking if where.startswith("vllm-nginx-gateway on ")}
    (own,) = (one for one in subjects if one.endswith("-default"))
    # Newer engines tell the names a second time.
    assert failed(leaking, own) - {"DNSNames"} == {"Aliases", "IPAMConfig.IPv4Address"}


def test_a_network_opens_all_that_it_leads_to(leaking: Findings) -> None:
    found = failed(leaking, "tesseract-4")
    assert {
        "interfaces",
        "this machine by TCP",
        "this machine by UDP",
        "this machine by UDP, past the routes",
        "this machine by broadcast",
        "this machine by ICMP",
    } <= found


def test_every_hole_says_what_to_do(leaking: Findings) -> None:
    for finding in leaking.values():
        if finding["verdict"] == "open":
            assert finding["fix"], finding


def _changes(folder: Path) -> dict[str, Any]:
    """Return another value for each key of a container that may matter, as Docker's API has it."""
    gib = 1 << 30
    return {
        "HostConfig.Binds": [f"{folder}:/writable"],
        "HostConfig.BlkioDeviceReadBps": [{"Path": "/dev/null", "Rate": 1}],
        "HostConfig.CapAdd": ["NET_ADMIN"],
        "HostConfig.CapDrop": None,
        "HostConfig.CgroupParent": "/other",
        "HostConfig.CgroupnsMode": "host",
        "HostConfig.CpuPeriod": 50_000,
        "HostConfig.CpuQuota": 50_000,
        "HostConfig.CpuShares": 512,
        "HostConfig.CpusetCpus": "0",
        "HostConfig.CpusetMems": "0",
        "HostConfig.DeviceCgroupRules": ["c 1:3 rwm"],
        "HostConfig.Devices": [
            {"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}
        ],
        "HostConfig.Dns": ["192.0.2.53"],
        "HostConfig.DnsOptions": ["ndots:1"],
        "HostConfig.DnsSearch": ["example.org"],
        "HostConfig.ExtraHosts": ["host:192.0.2.1"],
        "HostConfig.GroupAdd": ["0"],
        "HostConfig.Init": False,
        "HostConfig.IpcMode": "shareable",
        "HostConfig.LogConfig": {
            "Type": "syslog",
            "Config": {"syslog-address": "udp://127.0.0.1:9"},
        },
        "HostConfig.MaskedPaths": [],
        "HostConfig.Memory": gib,
        "HostConfig.MemoryReservation": gib // 2,
        "HostConfig.MemorySwap": -1,
        "HostConfig.MemorySwappiness": 10,
        "HostConfig.OomKillDisable": True,
        "HostConfig.DeviceRequests": [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}],
        "HostConfig.Mounts": [{"Type": "tmpfs", "Target": "/other"}],
        "HostConfig.NetworkMode": "bridge",
        "HostConfig.NanoCpus": 10**9,
        "HostConfig.OomScoreAdj": 500,
        "HostConfig.PidMode": "host",
        "HostConfig.PidsLimit": 0,
        "HostConfig.PortBindings": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]},
        "HostConfig.Privileged": True,
        "HostConfig.PublishAllPorts": True,
        "HostConfig.ReadonlyPaths": [],
        "HostConfig.ReadonlyRootfs": False,
        "HostConfig.RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
        "HostConfig.SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"],
        "HostConfig.ShmSize": gib,
        "HostConfig.Sysctls": {"net.ipv4.ip_forward": "1"},
        "HostConfig.Tmpfs": {"/scratch": "exec"},
        "HostConfig.UTSMode": "host",
        "HostConfig.Ulimits": [{"Name": "core", "Soft": -1, "Hard": -1}],
        "HostConfig.UsernsMode": "host",
        "HostConfig.VolumesFrom": ["OTHER"],
        "Config.Cmd": ["--listen=127.0.0.1:8000"],
        "Config.Domainname": "example.org",
        "Config.Entrypoint": ["python3"],
        "Config.Env": ["LD_PRELOAD=/tmp/x.so"],
        "Config.ExposedPorts": {"8000/tcp": {}},
        "Config.Hostname": "registry",
        "Config.Healthcheck": {"Test": ["NONE"]},
        "Config.Labels": {"traefik.enable": "true"},
        "Config.OpenStdin": True,
        "Config.Shell": ["/bin/sh"],
        "Config.StopSignal": "SIGKILL",
        "Config.StopTimeout": 1,
        "Config.Tty": True,
        "Config.User": "0",
        "Config.Volumes": {"/data": {}},
        "Config.WorkingDir": "/opt",
    }


def test_each_of_sixty_holes_is_named_alone(
    make_containers: Callable[..., Containers], tmp_path: Path
) -> None:
    """Made by Docker's API itself, of what an engine is: one other value at a time."""
    made = make_containers()
    made.invoke("up")
    api: Any = docker.from_env().api
    told = made.container("tesseract-1").attrs
    changes = _changes(tmp_path)
    assert len(changes) >= 60

    def inspected(change: dict[str, Any]) -> dict[str, Any]:
        configuration = {**told["Config"], "HostConfig": dict(told["HostConfig"])}
        del configuration["Hostname"]  # with a host's UTS namespace it is refused
        for key, value in change.items():
            above, _, name = key.partition(".")
            holder = configuration["HostConfig"] if above == "HostConfig" else configuration
            holder[name] = [made.container("exporter").name] if value == ["OTHER"] else value
        identity = api.create_container_from_config(configuration)["Id"]
        try:
            return dict(api.inspect_container(identity))
        finally:
            api.remove_container(identity, force=True, v=True)

    def holes(attributes: dict[str, Any]) -> set[str]:
        return {finding.check for finding in told_of(made, attributes) if finding.failed}

    usual = holes(inspected({}))  # of another name, and not running
    silent = [
        key
        for key, value in changes.items()
        # The key itself, or a part of it.
        if not any(
            f"{one}.".startswith(f"{key}.") for one in holes(inspected({key: value})) - usual
        )
    ]
    assert silent == []
    made.invoke("down")


def told_of(made: Containers, attributes: dict[str, Any]) -> list[Finding]:
    """Return what `invoke verify` says of a container that is told to be the first replica."""
    client = docker.from_env()
    environ = {**made.environment, "CLOISTER_CONFIG": "/dev/null"}
    settings = config.load(flags=(), environ=environ).settings
    described = parts(plan(settings, 2), None, partial(image, client), ())
    (wanted,) = (part for part in described if part.service == "tesseract-1")
    seccomp = json.loads((ROOT / "compose" / "seccomp.json").read_text())
    information = client.info()
    engine = Engine(tuple(information["Runtimes"]), (), information["SwapLimit"])
    rules = expected.container(wanted, engine, seccomp)
    return list(compare("tesseract-1", expected.plain(attributes), rules))


def image(client: docker.DockerClient, service: str, name: str) -> Image:
    del service
    found = client.images.get(name)
    return Image(name, str(found.id), found.attrs["Config"])


def test_strangers_are_named_until_they_are_listed(
    make_containers: Callable[..., Containers],
) -> None:
    made = make_containers()
    made.invoke("up")
    client, engine = docker.from_env(), made.container("tesseract-1")
    joined = client.containers.run(
        f"cloister/exporter:{TAG}",
        entrypoint=["python3", "-c", "import signal; signal.pause()"],
        command=[],
        network_mode=f"container:{engine.id}",
        cap_add=["NET_ADMIN"],
        user="root",
        # As `/` of the machine would, it holds the sockets; those of no other test.
        volumes={str(made.state): {"bind": "/host", "mode": "ro"}},
        detach=True,
    )
    network = client.networks.get(f"{made.project}-default")
    neighbour = client.containers.run(
        f"cloister/exporter:{TAG}",
        entrypoint=["python3", "-c", "import signal; signal.pause()"],
        command=[],
        network=network.name,
        detach=True,
    )
    try:
        findings = made.verify(code=7)
        strange = {key: f for key, f in findings.items() if f["verdict"] == "open"}
        assert set(strange) == {
            ("tesseract-1", f"stranger.{joined.name}"),
            ("sockets", f"stranger.{joined.name}"),
            (network.name, f"stranger.{neighbour.name}"),
            (network.name, "Containers"),
        }
        listed = json.dumps([finding["difference"] for finding in strange.values()])
        again = made.json("verify", "--set", f"docker.allowed_differences={listed}")
        assert again["verdict"] == "accepted"
    finally:
        for container in (joined, neighbour):
            container.remove(force=True)
    made.verify()
    made.invoke("down")


_PAUSE = "import signal; signal.pause()"
_KEEP = """
import os, signal
page = open("/run/listen/page", "w")
page.write("text")
page.flush()
os.unlink("/run/listen/page")
signal.pause()
"""

# As a container of another engine: a root of its own, and a folder of this machine in it.
_ROOTED = """
import os, signal, subprocess, sys
new, folder = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "none", new], check=True)
os.mkdir(f"{new}/state")
subprocess.run(["mount", "--bind", folder, f"{new}/state"], check=True)
os.chroot(new)
print("ready", flush=True)
signal.pause()
"""


@contextmanager
def sharing(made: Containers) -> Iterator[Callable[..., Any]]:
    """Run containers that share with others, until the block ends."""
    client = docker.from_env()
    with ExitStack() as cleanup:

        def share(name: str, **shared: Any) -> Any:
            found = client.containers.run(
                f"cloister/exporter:{TAG}",
                name=f"{made.project}-{name}",
                entrypoint=["python3", "-c", _PAUSE],
                command=[],
                detach=True,
                **shared,
            )
            cleanup.callback(found.remove, force=True)
            return found

        yield share


def test_whoever_enters_a_running_container_is_named(
    make_containers: Callable[..., Containers], tmp_path: Path
) -> None:
    """Docker tells nothing of these: they are found by what the kernel says of each process."""
    made = make_containers(healing_enabled="false")
    made.invoke("up")
    engine, project = made.container("tesseract-1"), made.project
    volume = docker.from_env().volumes.create(
        f"{project}-sockets",
        driver_opts={"type": "none", "o": "bind", "device": f"{made.state}/run/http"},
    )
    # A process in the namespaces of the engine but for its network, and with its user.
    enter = ["nsenter", f"--target={engine.attrs['State']['Pid']}", "--pid", "--mount"]
    become = [
        "setpriv",
        "--pdeathsig=KILL",
        "--reuid=10001",
        "--regid=10001",
        "--clear-groups",
        "--bounding-set=-all",
    ]
    with ExitStack() as cleanup, sharing(made) as share:
        cleanup.callback(volume.remove)
        subprocess.run(
            ["docker", "exec", "-d", "-u", "root", str(engine.name), "python3", "-c", _PAUSE],
            check=True,
        )
        subprocess.run(
            ["docker", "exec", "-d", str(engine.name), "python3", "-c", _KEEP], check=True
        )
        entered = subprocess.Popen([*enter, *become, "python3", "-c", _PAUSE])
        cleanup.callback(entered.wait)
        cleanup.callback(entered.kill)
        # A service with mounts of its own has this machine's root, and is nobody.
        service = ["unshare", "--mount", "sh", "-c", "echo ready; exec sleep infinity"]
        rooted = ["unshare", "--mount", "python3", "-c", _ROOTED, str(tmp_path)]
        for command in (service, [*rooted, str(made.state / "run" / "http")]):
            apart = cleanup.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            cleanup.callback(apart.kill)
            assert apart.stdout is not None
            assert apart.stdout.readline() == b"ready\n"
        first = share("first", network_mode=f"container:{engine.id}")
        share("second", network_mode=f"container:{first.id}")
        first.stop(timeout=0)
        share("third", volumes={volume.name: {"bind": "/x", "mode": "ro"}})
        findings = made.verify(code=7)
    strange = {key: f for key, f in findings.items() if f["verdict"] == "open"}
    assert set(strange) == {
        ("tesseract-1", "kernel.user"),
        ("tesseract-1", "kernel.deleted"),
        ("tesseract-1", "stranger.process"),
        ("tesseract-1", f"stranger.{project}-second"),
        ("sockets", f"stranger.{project}-third"),
        ("sockets", "stranger.process"),
    }
    assert f"python3 (pid {apart.pid}, " in strange["sockets", "stranger.process"]["evidence"]
    assert "python3: Uid 0 0 0 0" in strange["tesseract-1", "kernel.user"]["evidence"]
    assert (
        "/run/listen/page (deleted) of 4 bytes"
        in strange["tesseract-1", "kernel.deleted"]["evidence"]
    )
    seen = strange["tesseract-1", "stranger.process"]["evidence"]
    assert "python3" in seen
    assert ", mnt, pid, control group /" in seen


def test_an_interface_in_the_place_of_the_gateways_is_named(
    make_containers: Callable[..., Containers],
) -> None:
    """As many ports as containers, and one of them is nobody's."""
    made = make_containers()
    made.invoke("up")
    network = docker.from_env().networks.get(f"{made.project}-default")
    bridge = f"br-{str(network.id)[:12]}"
    (port,) = (Path("/sys/class/net") / bridge / "brif").iterdir()
    with ExitStack() as cleanup:

        def ip(*words: str) -> None:
            subprocess.run(["ip", "link", *words], check=True)

        ip("add", "cloister-odd", "type", "veth", "peer", "name", "cloister-odd-2")
        cleanup.callback(ip, "delete", "cloister-odd")
        ip("set", port.name, "nomaster")
        cleanup.callback(ip, "set", port.name, "master", bridge)
        ip("set", "cloister-odd", "master", bridge)
        finding = made.verify(code=7)[str(network.name), "ports of the bridge"]
    assert (finding["verdict"], "cloister-odd on" in finding["evidence"]) == ("open", True)
    made.verify()


def test_an_engine_has_no_network_after_a_restart_and_cannot_be_joined_to_one(
    make_containers: Callable[..., Containers],
) -> None:
    made = make_containers()
    made.invoke("up")
    client = docker.from_env()

    def of_network() -> tuple[str, list[str], list[str]]:
        engine = made.container("tesseract-1")
        names = list(engine.attrs["NetworkSettings"]["Networks"])
        code = "import os; print(*os.listdir('/sys/class/net'))"
        _, output = made.execute("tesseract-1", "python3", "-c", code)
        return engine.attrs["HostConfig"]["NetworkMode"], names, output.split()

    before = of_network()
    assert before == ("none", ["none"], ["lo"])
    made.container("tesseract-1").restart()
    assert of_network() == before
    with pytest.raises(APIError, match="private \\(none\\) mode"):
        client.networks.get(f"{made.project}-default").connect(made.container("tesseract-1"))
    assert of_network() == before
    eventually(made.verify)


def test_an_engine_that_leaves_something_in_its_folder_is_named(
    make_containers: Callable[..., Containers],
) -> None:
    made = make_containers(healing_enabled="false")
    made.invoke("up")
    code = "open('/run/listen/page.md', 'w').write('text')"
    assert made.execute("tesseract-1", "python3", "-c", code) == (0, "")
    finding = made.verify(code=7)["tesseract-1", "its folder"]
    assert finding["verdict"] == "open"
    assert finding["evidence"].startswith("files: 1 (")
    assert "page.md" not in finding["evidence"]
    link = "import os; os.symlink('/run/http/gateway/sock', '/run/listen/other')"
    _, refused = made.execute("tesseract-1", "python3", "-c", link)
    assert "Operation not permitted" in refused
    made.invoke(*finding["fix"].split()[1:])
    made.verify()
    made.invoke("down")


def test_a_suspect_that_was_taken_over_changes_no_attempt(
    make_containers: Callable[..., Containers], tmp_path: Path
) -> None:
    """Its own probe says that nothing got through, whatever it is asked."""
    lying, override = tmp_path / "probe.py", tmp_path / "override.yaml"
    lying.write_text(
        "import json, sys\n"
        "wanted = json.loads(sys.argv[1])\n"
        "print(json.dumps([{'reached': False, 'detail': 'timed out'}] * len(wanted)))\n"
    )
    override.write_text(
        "services:\n"
        "  tesseract-1:\n"
        "    network_mode: !reset null\n"
        "    networks: {leak: }\n"
        f"    volumes: ['{lying}:/opt/cloister/cloister/inside/probe.py:ro']\n"
        "networks: {leak: {}}\n"
    )
    made = make_containers(docker_override=override)
    made.invoke("up")
    findings = made.verify(code=7)
    assert findings["tesseract-1", "this machine by TCP"]["verdict"] == "open"
    made.invoke("down")


def test_another_image_under_the_same_tag_is_named(
    make_containers: Callable[..., Containers],
) -> None:
    """What the tag names by now is what the container is of, and not what `up` made it of."""
    client, tag = docker.from_env(), f"{TAG}-moved"
    with ExitStack() as cleanup:
        for name in ("gateway", "exporter", "engine-tesseract"):
            client.images.get(f"cloister/{name}:{TAG}").tag(f"cloister/{name}", tag)
            cleanup.callback(client.images.remove, f"cloister/{name}:{tag}")
        made = make_containers(docker_tag=tag, healing_enabled="false")
        made.invoke("up")
        made.verify()
        before = made.container("exporter")
        recipe = io.BytesIO(f"FROM cloister/exporter:{TAG}\nUSER 10001:10001\n".encode())
        other, _ = client.images.build(fileobj=recipe, tag=f"cloister/exporter:{tag}", rm=True)
        configuration = {**before.attrs["Config"], "HostConfig": before.attrs["HostConfig"]}
        del configuration["Hostname"]  # that of the container before
        before.remove(force=True)
        api: Any = client.api
        api.create_container_from_config(configuration, name=before.name)
        made.container("exporter").start()
        finding = made.verify(code=7)["exporter", "Image"]
        assert finding["verdict"] == "open"
        assert str(other.id) in finding["evidence"]
        made.invoke("down")


def test_a_firewall_that_drops_what_containers_send_leaves_nothing_unproven(
    make_containers: Callable[..., Containers],
) -> None:
    client, project = docker.from_env(), make_containers().project
    with swept(client, project), ExitStack() as cleanup, sink() as heard:
        free = control(client, f"cloister/exporter:{TAG}", project)
        (told,) = free.containers["network"].attrs["NetworkSettings"]["Networks"].values()
        rule = ["INPUT", "-i", f"br-{told['NetworkID'][:12]}", "-j", "DROP"]
        subprocess.run(["iptables", "-I", *rule], check=True)
        cleanup.callback(subprocess.run, ["iptables", "-D", *rule], check=True)
        targets = Targets(
            *(host_addresses(), heard.port, heard.closed_port, heard.abstract, (), None),
            free.listener,
        )
        freely = reach_freely(free, targets, "firewall")
    for name in ("this machine by TCP", "this machine by UDP"):
        assert freely[name].reached
        assert freely[name].by != Try(reached=True, detail="").by
    doubtful = {n: one for n, one in freely.items() if not one.reached and one.expected}
    assert doubtful == {}


def throw_aways(made: Containers) -> list[Any]:
    client, mine = docker.from_env(), {"label": f"cloister.verify={made.project}"}
    filters: dict[str, Any] = {**mine}
    return [
        *client.containers.list(all=True, filters=filters),
        *client.networks.list(filters=filters),
    ]


def test_a_container_that_is_removed_while_it_is_probed_ends_the_proof(
    images: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, sleeping = "cloister-test-removed", ("sh", "-c", "exec sleep 600")
    monkeypatch.setattr(isolation_control, "_PROBE", sleeping)
    with swept(images, project), ThreadPoolExecutor() as threads:
        watching = isolation_control.observer(images, f"cloister/exporter:{TAG}", project)
        waiting = threads.submit(isolation_control.probe, watching, [{"kind": "facts"}])

        def begun() -> None:
            assert any("sleep 600" in row[-1] for row in watching.top()["Processes"])

        eventually(begun)
        watching.remove(force=True)
        with pytest.raises(IsolationError, match="did not end: No such "):
            waiting.result(timeout=60)


@pytest.mark.parametrize(
    ("signal_", "then"),
    [
        (signal.SIGINT, None),
        (signal.SIGTERM, None),
        (signal.SIGKILL, "verify"),
        (signal.SIGKILL, "down"),
    ],
)
def test_a_proof_that_is_cut_short_leaves_nothing_for_long(
    make_containers: Callable[..., Containers], signal_: signal.Signals, then: str | None
) -> None:
    made = make_containers()
    made.invoke("up")
    command = [sys.executable, "-m", "invoke", "verify"]
    with program(command, env=made.environment, stderr=subprocess.PIPE, text=True) as verify:
        assert verify.stderr is not None
        # By its own word, not by Docker's: that lists what it has not yet got hold of.
        assert any("from containers that are not sealed" in line for line in verify.stderr)
        assert len(throw_aways(made)) >= 3
        verify.send_signal(signal_)
        said = verify.communicate(timeout=400)[1]
    assert verify.returncode != 0, said
    if then:
        assert throw_aways(made)
        made.invoke(then)
    assert throw_aways(made) == []
    made.invoke("down")


def test_a_proof_keeps_no_command_waiting_and_is_repeated_after_it(
    make_containers: Callable[..., Containers],
) -> None:
    made = make_containers(tesseract_workers=1)
    made.invoke("up")
    command = [sys.executable, "-m", "invoke", "verify", "--watch", "1"]
    with program(command, env=made.environment, stderr=subprocess.PIPE, text=True) as verify:
        lines = verify.stderr
        assert lines is not None
        for wanted, change in (
            ("from containers that are not sealed", ("scale", "2")),
            ("the proof is repeated in 1 s", None),
            ("sealed: ", None),
            ("from containers that are not sealed", ("down",)),
        ):
            assert any(wanted in line for line in lines), wanted
            if change:
                made.invoke(*change)
        said = verify.communicate(timeout=400)[1]
    assert (verify.returncode, "nothing is up" in said) == (6, True), said
    assert throw_aways(made) == []


_MIRROR = """
        location = /elsewhere { internal; proxy_pass http://127.0.0.1:9; }
        location = /v1/models {
            mirror /elsewhere;
"""


def test_a_route_that_is_passed_on_is_named(make_containers: Callable[..., Containers]) -> None:
    made = make_containers()
    made.invoke("up")
    path = made.state / "gateway" / "nginx.conf"
    text = path.read_text()
    hole = "location = /tokenize { proxy_pass http://engine; }\n        location / {"
    path.write_text(text.replace("location / {", hole))
    made.container("vllm-nginx-gateway").kill("HUP")
    finding = made.verify(code=7)["vllm-nginx-gateway", "allow-list"]
    assert finding["verdict"] == "open"
    assert finding["evidence"] == "passed on: POST /tokenize"


def test_files_of_the_gateway_that_are_not_the_planned_ones_are_named(
    make_containers: Callable[..., Containers],
) -> None:
    made = make_containers()
    made.invoke("up")
    path, gateway = made.state / "gateway" / "nginx.conf", made.container("vllm-nginx-gateway")
    where = ("vllm-nginx-gateway", "its files")

    def workers() -> set[str]:
        return {row[1] for row in gateway.top()["Processes"] if "worker process" in row[-1]}

    def take_up(text: str) -> None:
        path.write_text(text)
        before = workers()
        gateway.kill("HUP")
        eventually(lambda: assert_other(before))

    def assert_other(before: set[str]) -> None:
        assert not workers() & before

    planned = path.read_text()
    take_up(planned.replace("        location = /v1/models {", _MIRROR))
    (path.parent / "further").write_text("x")
    finding = made.verify(code=7)[where]
    assert finding["verdict"] == "open"
    assert "a file too many: further; other content" in finding["evidence"]
    (path.parent / "further").unlink()
    path.write_text(planned)  # as if nothing had been, and nginx runs on with the other one
    finding = made.verify(code=7)[where]
    assert finding["evidence"] == "nginx.conf is newer than the configuration that nginx runs"
    made.invoke("restart", "--name", "vllm-nginx-gateway")
    assert made.verify()[where]["verdict"] == "sealed"
    made.invoke("down")


def test_what_does_not_run_proves_nothing(make_containers: Callable[..., Containers]) -> None:
    made = make_containers()
    made.invoke("up")
    subprocess.run(["docker", "stop", str(made.container("exporter").name)], check=True)
    said = made.invoke("verify", code=7).stderr
    assert "not running: exporter" in said
