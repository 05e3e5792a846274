"""How the seal is judged, without a container."""

import copy
import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args
from unittest import mock
from unittest.mock import MagicMock, Mock

import pytest
from docker.models.containers import Container

from cloister import config
from cloister.config import Settings
from cloister.containers import sweep
from cloister.deployment.plan import Plan, plan
from cloister.errors import ConfigError, IsolationError
from cloister.inside import probe
from cloister.isolation import (
    control,
    expected,
    gatewayfiles,
    keys,
    looking,
    pause,
    place,
    places,
    present,
    routes,
    strangers,
    trying,
)
from cloister.isolation.acceptance import accept, list_unmatched
from cloister.isolation.attempts import Targets, checks, gateway_checks, merged
from cloister.isolation.control import Control
from cloister.isolation.differences import Expected, compare, exactly, line, normalize
from cloister.isolation.finding import Finding, Try, Verdict, paired, worst
from cloister.isolation.fixes import RECREATE, leave, remove, undo
from cloister.isolation.images import judge_profile, judge_variables
from cloister.isolation.mounts import Surroundings
from cloister.isolation.network import judge_settings, planned_settings, strange_network
from cloister.isolation.observed import observed
from cloister.isolation.part import Bridge, Engine, Image, Part
from cloister.isolation.parts import parts
from cloister.isolation.present import require_sealed
from cloister.isolation.scene import Scene
from cloister.isolation.strangers import Ours
from cloister.isolation.verify import Report, _image, _new, _recorded

INSPECTED = Path(__file__).parent / "inspected"
API = Path(__file__).parent / "docker_api"
ENGINES = sorted(path.name for path in INSPECTED.iterdir())
SERVICES = {"engine": "tesseract-1", "exporter": "exporter", "gateway": "vllm-nginx-gateway"}
TARGETS = Targets(
    ("192.0.2.1",), 4000, 4001, "name", ("192.0.2.53",), ("203.0.113.1", 443), ("10.0.0.2", 8000)
)
PLAIN = Engine(("runc", "io.containerd.runc.v2"), (), limits_swap=True)
SCRATCH = "/tmp"  # noqa: S108  # in a container
NOBODY: frozenset[str] = frozenset()


def load(*flags: str) -> Settings:
    environ = {"CLOISTER_CONFIG": "/dev/null", "CLOISTER_STATE_DIR": "/state"}
    own = ("docker.project=ocr", "docker.tag=VERSION", "tesseract.workers=2")
    return config.load(
        flags=("runtime=docker", "engine=tesseract", *own, *flags), environ=environ
    ).settings


def inspected(version: str, name: str) -> Any:
    return json.loads((INSPECTED / version / f"{name}.json").read_text())


def images(version: str) -> Callable[[str, str], Image]:
    """Give the images that the inspected containers were made of."""

    def image(service: str, name: str) -> Image:
        del service
        kind = {"engine-tesseract": "engine"}.get(name.partition("/")[2].partition(":")[0], "")
        told = inspected(version, kind or name.partition("/")[2].partition(":")[0])["image"]
        return Image(name, told["Id"], told["Config"])

    return image


def planned(*flags: str) -> Plan:
    return plan(load(*flags), 2)


def part(version: str, name: str) -> Part:
    described = parts(planned(), None, images(version), ())
    (found,) = (one for one in described if one.service == SERVICES[name])
    return found


def judged(
    version: str, name: str, told: Any, allowed: frozenset[str] = NOBODY
) -> dict[str, Finding]:
    """Return what is found, but for the one row of all that is as planned."""
    wanted = expected.container(part(version, name), PLAIN, {})
    found = accept(compare(SERVICES[name], expected.plain(told), wanted), allowed)
    return {one.check: one for one in found if one.verdict != "sealed"}


# Docker's word, against the plan


@pytest.mark.parametrize("version", ENGINES)
@pytest.mark.parametrize("name", SERVICES)
def test_a_container_as_planned_is_as_planned(version: str, name: str) -> None:
    assert judged(version, name, inspected(version, name)["container"]) == {}


@pytest.mark.parametrize("version", ENGINES)
def test_a_network_as_planned_is_as_planned(version: str) -> None:
    bridge = Bridge("ocr-default", "172.30.40.128/26", ("ocr-vllm-nginx-gateway",))
    told = expected.plain_network(inspected(version, "network"))
    found = compare("ocr-default", told, expected.network(bridge))
    assert [one.check for one in found if one.verdict != "sealed"] == []


@pytest.mark.parametrize(
    ("change", "sealed"),
    [
        ({}, True),
        ({"Gateway": "", "AuxiliaryAddresses": None}, True),
        ({"Gateway": "172.30.40.190"}, False),
        ({"IPRange": "172.30.40.160/28"}, False),
        ({"AuxiliaryAddresses": {"registry": "172.30.40.150"}}, False),
        ({"Subnet": "172.30.40.0/24"}, False),
    ],
)
def test_the_addresses_of_a_network_are_the_planned_ones(
    change: dict[str, Any], *, sealed: bool
) -> None:
    bridge = Bridge("ocr-default", "172.30.40.128/26", ("ocr-vllm-nginx-gateway",))
    told = inspected("20.10", "network")
    told["IPAM"]["Config"][0] |= change
    found = compare("ocr-default", expected.plain_network(told), expected.network(bridge))
    assert [f.check for f in found if f.failed] == ["IPAM.Config"] * (not sealed)


@pytest.mark.parametrize("version", ENGINES)
@pytest.mark.parametrize(
    ("key", "value", "sealed"),
    [
        ("Aliases", None, True),
        ("Aliases", ["vllm-nginx-gateway", "registry"], False),
        ("DNSNames", ["db"], False),
        ("IPAMConfig", {}, True),
        ("IPAMConfig", {"IPv4Address": "172.30.40.140"}, False),
    ],
)
def test_a_container_has_its_own_names_and_no_address_of_somebodys_choice(
    version: str, key: str, value: Any, *, sealed: bool
) -> None:
    described, told = part(version, "gateway"), inspected(version, "gateway")["container"]
    network = told["NetworkSettings"]["Networks"]["ocr-default"]
    wanted = expected.endpoint(described, told["Id"], "ocr-default", set())
    assert [f for f in compare("gateway", network, wanted) if f.failed] == []
    network[key] = value
    assert any(f.failed for f in compare("gateway", network, wanted)) is not sealed


def test_an_attached_network_has_one_more_name_and_the_engines_network_addresses() -> None:
    planned = plan(load("docker.engine_network=internal"), 2)
    described = {one.service: one for one in parts(planned, None, images("20.10"), ("other",))}
    assert {name: dict(one.addresses) for name, one in described.items()} == {
        "vllm-nginx-gateway": {"ocr-internal": "172.30.40.2"},
        "exporter": {"ocr-internal": "172.30.40.3"},
        "tesseract-1": {"ocr-internal": "172.30.40.10"},
    }
    for told, further, sealed in (
        ({"Aliases": ["cloister"]}, {"cloister"}, True),
        ({"Aliases": ["cloister"]}, NOBODY, False),
        ({"IPAMConfig": {"IPv4Address": "172.30.40.10"}}, NOBODY, True),
        ({"IPAMConfig": {"IPv4Address": "172.30.40.11"}}, NOBODY, False),
        ({"IPAMConfig": None}, NOBODY, False),
    ):
        whole = {"IPAMConfig": {"IPv4Address": "172.30.40.10"}, **told}
        wanted = expected.endpoint(described["tesseract-1"], "f" * 64, "ocr-internal", further)
        assert any(f.failed for f in compare("x", whole, wanted)) is not sealed, told


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("HostConfig.MemorySwap", -1),
        ("HostConfig.MemorySwap", 8 << 30),
        ("Config.Hostname", "registry"),
        ("Config.Labels", {"com.docker.compose.custom": "x"}),
        ("Config.Labels", {"com.docker.compose.version": "text of a page"}),
        ("Config.Labels", {"com.docker.compose.oneoff": "True"}),
    ],
)
def test_what_an_override_changes_in_silence_is_told(key: str, value: Any) -> None:
    told = inspected("20.10", "engine")["container"]
    above, _, name = key.partition(".")
    now = told[above][name]
    told[above][name] = {**now, **value} if isinstance(now, dict) else value
    assert [(one.check, one.verdict) for one in judged("20.10", "engine", told).values()] == [
        (key, "open")
    ]


def test_an_engine_that_cannot_limit_swap_says_so() -> None:
    told = inspected("20.10", "engine")["container"]
    told["HostConfig"]["MemorySwap"] = -1
    wanted = expected.container(part("20.10", "engine"), replace(PLAIN, limits_swap=False), {})
    assert not any(one.failed for one in compare("x", expected.plain(told), wanted))


def leaves(told: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the way to every value: objects of names, and lists, are values."""
    for name, value in told.items():
        way = (*above, name)
        if isinstance(value, dict) and value and ".".join(way) not in keys.CONTAINER_WHOLE:
            yield from leaves(value, way)
        else:
            yield way


def changed(told: Any, way: tuple[str, ...]) -> Any:
    """Return a copy in which one value is another one of the same kind."""
    made = copy.deepcopy(told)
    *above, name = way
    inner = made
    for step in above:
        inner = inner[step]
    value = inner.get(name)
    if isinstance(value, bool):
        inner[name] = not value
    elif isinstance(value, int):
        inner[name] = value + 1
    elif isinstance(value, str):
        inner[name] = f"{value}x"
    elif isinstance(value, list):
        last = value[-1] if value else None
        inner[name] = [*value, dict.fromkeys(last, "x") if isinstance(last, dict) else "x"]
    else:
        inner[name] = {**(value or {}), "x": "y"}
    return made


@pytest.mark.parametrize("version", ENGINES)
@pytest.mark.parametrize("name", SERVICES)
def test_no_key_can_be_changed_in_silence(version: str, name: str) -> None:
    """Whatever Docker tells of a container and means something: another value is a hole."""
    told = inspected(version, name)["container"]
    silent = []
    for way in leaves(told):
        key = ".".join(way)
        free = key in keys.CONTAINER_FREE or any(
            key.startswith(one) for one in keys.CONTAINER_FREE if one.endswith(".")
        )
        # A network's own row is another test; newer engines may hide more of /proc than planned.
        if free or way[:2] == ("NetworkSettings", "Networks") or way[-1] in _LONGER_IS_FINE:
            continue
        found = judged(version, name, changed(told, way))
        if not any(one.verdict == "open" for one in found.values()):
            silent.append(key)
    assert silent == []


_LONGER_IS_FINE = {"MaskedPaths", "ReadonlyPaths"}
# Every key of a container's HostConfig and Config in Docker's API, versions 1.41 to 1.51.
_SCHEMA = (
    *(f"HostConfig.{name}" for name in (API / "host_config.txt").read_text().split()),
    *(f"Config.{name}" for name in (API / "config.txt").read_text().split()),
)


@pytest.mark.parametrize("key", _SCHEMA)
def test_every_key_of_the_api_is_known_and_a_hole_at_another_value(key: str) -> None:
    told = inspected("20.10", "engine")["container"]
    above, _, name = key.partition(".")
    if any(one in {key, f"{key}."} for one in keys.CONTAINER_FREE):
        return
    off = copy.deepcopy(told)
    off[above].setdefault(name, None)
    assert judged("20.10", "engine", off) == {}, "known"
    strange = copy.deepcopy(told)
    strange[above][name] = {"x": "y"} if isinstance(told[above].get(name), dict) else ["x"]
    assert any(one.verdict == "open" for one in judged("20.10", "engine", strange).values())


@pytest.mark.parametrize(
    ("value", "verdict"), [(None, "unknown"), (False, "unknown"), ({}, "unknown"), ("x", "open")]
)
def test_a_key_of_a_newer_engine_is_told(value: Any, verdict: str) -> None:
    told = inspected("20.10", "engine")["container"]
    told["HostConfig"]["Teleport"] = value
    found = judged("20.10", "engine", told)
    assert {key: one.verdict for key, one in found.items()} == {"HostConfig.Teleport": verdict}
    (finding,) = found.values()
    assert ("invoke up" in str(finding.fix)) == (verdict == "open"), "a new container has it, too"


def test_what_is_listed_is_an_accepted_risk_at_that_value_only() -> None:
    told = inspected("20.10", "engine")["container"]
    told["HostConfig"]["ExtraHosts"] = ["db:10.0.0.1"]
    (finding,) = judged("20.10", "engine", told).values()
    assert finding.difference == 'tesseract-1 HostConfig.ExtraHosts ["db:10.0.0.1"]'
    allowed = frozenset({finding.difference})
    assert [f.verdict for f in judged("20.10", "engine", told, allowed).values()] == ["accepted"]
    told["HostConfig"]["ExtraHosts"].append("other:10.0.0.2")
    assert [f.verdict for f in judged("20.10", "engine", told, allowed).values()] == ["open"]


def test_a_listed_difference_is_compared_however_it_was_written() -> None:
    written = json.dumps(['tesseract-1 HostConfig.Sysctls {"b": 1, "a": 2}'])
    assert load(f"docker.allowed_differences={written}").docker.allowed_differences == (
        line("tesseract-1", "HostConfig.Sysctls", {"a": 2, "b": 1}),
    )


MOUNTED = [
    {"Type": "bind", "Source": "/data", "Destination": "/data", "RW": True},
    {"Type": "volume", "Name": "a", "Destination": "/a"},
    {"Type": "bind", "Source": "/b", "Destination": "/b"},
]


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("Mounts", MOUNTED),
        ("HostConfig.Binds", ["/data:/data", "/b:/b:ro", "/c:/c"]),
        ("HostConfig.Ulimits", [{"Name": n, "Soft": 1, "Hard": 1} for n in ("core", "cpu", "as")]),
        ("HostConfig.GroupAdd", ["44", "109", "0"]),
        ("HostConfig.Devices", [{"PathOnHost": f"/dev/{name}"} for name in "cab"]),
    ],
)
def test_a_listed_difference_is_accepted_in_every_order_of_a_list(
    key: str, values: list[Any]
) -> None:
    """Docker keeps mounts in a map: each `docker inspect` has them in another order."""
    told = inspected("20.10", "engine")["container"]
    *above, name = key.split(".")
    holder = told[above[0]] if above else told
    seen = set()
    for listed in itertools.permutations(values):
        load_line = f"tesseract-1 {key} {json.dumps(listed)}"
        (written,) = load(
            f"docker.allowed_differences={json.dumps([load_line])}"
        ).docker.allowed_differences
        allowed = frozenset({normalize(written)})
        for order in itertools.permutations(values):
            holder[name] = list(order)
            (finding,) = judged("20.10", "engine", told, allowed).values()
            assert finding.verdict == "accepted", (listed, order)
            seen.add((finding.evidence, finding.difference))
    assert len(seen) == 1, "it is printed in one order"


@pytest.mark.parametrize(
    "key",
    [
        *("Config.Cmd", "Config.Entrypoint", "Args", "HostConfig.Dns", "HostConfig.DnsSearch"),
        # The first address of a host counts, and the last container that mounts at a path.
        *("HostConfig.ExtraHosts", "HostConfig.VolumesFrom"),
    ],
)
def test_the_order_of_words_means_something(key: str) -> None:
    assert line("a", key, ["x", "y"]) != line("a", key, ["y", "x"])


def test_a_listed_difference_may_have_spaces_in_its_name() -> None:
    on_network = line("exporter on ocr-internal", "Aliases", ["registry"])
    mounted = line("exporter", "kernel.mounts./a b", "ext4 /x of /dev/x")
    written = json.dumps([on_network, mounted])
    listed = load(f"docker.allowed_differences={written}").docker.allowed_differences
    assert tuple(map(normalize, listed)) == (on_network, mounted)


def test_a_listed_line_that_matches_nothing_is_told() -> None:
    told = inspected("20.10", "engine")["container"]
    told["HostConfig"]["ExtraHosts"] = ["db:10.0.0.1"]
    right = line("tesseract-1", "HostConfig.ExtraHosts", ["db:10.0.0.1"])
    wrong = {
        line("tesseract-1", "HostConfig.Nonsense", value=True),
        line("tesseract-9", "HostConfig.ExtraHosts", ["db:10.0.0.1"]),
        line("tesseract-1", "HostConfig.ExtraHosts", ["db:10.0.0.2"]),
    }
    allowed = frozenset({right, *wrong})
    found = list(list_unmatched(judged("20.10", "engine", told, allowed).values(), allowed))
    assert [one.check for one in found] == sorted(wrong)
    assert {(one.subject, one.verdict) for one in found} == {
        ("docker.allowed_differences", "accepted")
    }
    assert all("matches nothing" in one.evidence for one in found)


def test_what_an_override_or_a_person_did_has_a_fix_that_undoes_it() -> None:
    gateway, engine = part("20.10", "gateway"), part("20.10", "engine")
    command = "docker network disconnect other ocr-vllm-nginx-gateway"
    assert leave(gateway, ["ocr-default", "other"]) == f"invoke network.attach other, or {command}"
    assert leave(gateway, ["ocr-default"]) == RECREATE
    assert leave(engine, ["leak"]) == RECREATE, "it has to be on no network"
    assert undo(None) == RECREATE
    assert undo(Path("/o.yaml"), command).startswith("if `/o.yaml` makes it, change that file, ")
    assert undo(Path("/o.yaml"), command).endswith(f"invoke up; if not, {command}")
    bridge = Bridge("ocr-default", "172.30.40.128/26", ("ocr-vllm-nginx-gateway",))
    assert remove(bridge, ["guest", "ocr-vllm-nginx-gateway"]) == (
        "docker network disconnect ocr-default guest"
    )


def test_a_key_that_is_not_told_at_all_is_missed() -> None:
    told = inspected("20.10", "engine")["container"]
    del told["HostConfig"]["CapDrop"]
    assert judged("20.10", "engine", told)["HostConfig.CapDrop"].verdict == "open"


def test_a_replica_of_vllm_has_its_model_its_card_and_its_variables() -> None:
    settings = load("engine=vllm-cpu", "docker.engine_network=internal", "docker.baked=false")
    image = Image("x", "sha256:1", {"Env": ["A=b"]})
    described = parts(plan(settings, 2), Path("/models/m"), lambda *_: image, ("other",))
    (engine,) = (one for one in described if one.service.startswith("vllm-nanonets"))
    gateway = next(one for one in described if one.service == "vllm-nginx-gateway")
    assert {str(mount.target): mount.writable for mount in engine.mounts} == {"/model": False}
    assert engine.environment["HF_HUB_OFFLINE"] == "1"
    assert engine.networks == ("ocr-internal",)
    assert gateway.networks == ("ocr-default", "ocr-internal", "other")


class Store:
    """A Docker engine that has images."""

    def __init__(self, **images: str) -> None:
        self.images = self
        self._images = images

    def get(self, name: str) -> Any:
        return mock.Mock(id=self._images.get(name, name), attrs={"Config": {}})


def test_containers_are_compared_with_the_images_that_up_made_them_of() -> None:
    store: Any = Store(tag="sha256:moved")
    assert _image(store, {}, "exporter", "tag") == Image("tag", "sha256:moved", {})
    recorded = {"exporter": "sha256:of-up"}
    found = _image(store, recorded, "exporter", "tag")
    assert found == Image("tag", "sha256:of-up", {})
    # And probes run in that one.
    described = {"exporter": replace(part("20.10", "exporter"), image=found)}
    scene = Scene(store, load(), {}, described, NOBODY, recorded)
    assert scene.probe_image == "sha256:of-up"


def test_without_a_record_of_its_image_nothing_is_proven() -> None:
    described = {name: part("20.10", kind) for kind, name in SERVICES.items()}
    scene = Scene(Store(), load(), {}, described, NOBODY, {"exporter": "sha256:of-up"})  # type: ignore[arg-type]  # an engine that has images alone
    found = [(one.subject, one.verdict) for one in _recorded(scene)]
    assert found == [("tesseract-1", "unproven"), ("vllm-nginx-gateway", "unproven")]


def test_the_profile_is_the_one_that_is_pinned() -> None:
    profile = Path(__file__).parents[2] / "compose" / "seccomp.json"
    content = profile.read_bytes()
    assert judge_profile(content).verdict == "sealed"
    # Whoever edits it before `up` does not make it the plan.
    finding = judge_profile(content.replace(b'"accept"', b'"accept", "bpf"'))
    assert (finding.verdict, finding.difference) == ("open", None)


@pytest.mark.parametrize(
    ("variable", "strange"),
    [
        ("PYTHONPATH=/opt/cloister", False),
        ("PYTHONUNBUFFERED=1", False),
        ("LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64:", False),
        ("LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4", False),
        ("LD_PRELOAD=/tmp/x.so", True),
        ("LD_PRELOAD=/usr/lib/a.so /run/listen/x.so", True),
        ("LD_LIBRARY_PATH=/usr/lib:/opt/../tmp", True),
        ("LD_AUDIT=x.so", True),
        ("PYTHONPATH=/opt/cloister:/tmp", True),
        ("PYTHONSTARTUP=/tmp/x.py", True),
        ("PYTHONHOME=/optional", True),
        ("https_proxy=http://192.0.2.1", True),
        ("ALL_PROXY=socks5://192.0.2.1", True),
        ("http_proxy=", False),
    ],
)
def test_an_image_brings_no_other_code_and_no_way_out(variable: str, *, strange: bool) -> None:
    image = Image("x", "sha256:1", {"Env": ["PATH=/usr/bin", variable]})
    made = replace(part("20.10", "engine"), image=image)
    found = list(judge_variables(made))
    name, _, value = variable.partition("=")
    assert [(one.check, one.verdict) for one in found] == [(f"image.{name}", "open")] * strange
    allowed = frozenset({line("tesseract-1", f"image.{name}", value)})
    assert all(one.verdict == "accepted" for one in accept(judge_variables(made), allowed))


@pytest.mark.parametrize("name", SERVICES)
def test_our_own_images_bring_nothing(name: str) -> None:
    assert list(judge_variables(part("20.10", name))) == []


# Who else is there


MEMBERS = {SERVICES[name]: inspected("20.10", name)["container"] for name in SERVICES}
IDENTITIES = {name: inspected("20.10", name)["container"]["Id"] for name in SERVICES}
OURS = Ours(MEMBERS, {"/run/listen", "/run/http", "/etc/cloister"}, ("ocr-default",))
GUEST = "f" * 64


def guest(**networks: Any) -> Any:
    return {
        "Id": GUEST,
        "Name": "/guest",
        "Config": {"Image": "busybox"},
        "NetworkSettings": {"Networks": networks or {"bridge": {}}},
    }


def machine(*processes: Any, **changes: Any) -> dict[str, Any]:
    """Return what the kernel says of the engine, the exporter and the gateway, and of others."""
    firsts: dict[str, dict[str, Any]] = {
        identity: {
            "pid": 10 + number,
            "mounts": [mount("/run/listen", root=f"/state/run/http/{name}")],
        }
        for number, (name, identity) in enumerate(IDENTITIES.items())
    }
    own = [
        process(told["pid"], container=identity, namespaces=spaces(told["pid"]))
        for identity, told in firsts.items()
    ]
    nobody: dict[str, Any] = {"others": {}, "views": [], "unknown": [], "count": 99}
    return {"containers": firsts, "processes": [*own, *processes], **nobody, **changes}


def spaces(number: int, **others: Any) -> dict[str, Any]:
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
    return {**{kind: f"{kind}:[{number}]" for kind in kinds}, "network": number, **others}


def named(facts: dict[str, Any], *others: Any, allowed: frozenset[str] = NOBODY) -> list[Finding]:
    return list(accept(strangers.strangers(OURS, others, facts), allowed))


@pytest.mark.parametrize("kind", ["cgroup", "ipc", "mnt", "net", "network", "pid", "uts"])
def test_a_stranger_in_a_namespace_is_named_until_it_is_listed(kind: str) -> None:
    shared = {kind: spaces(10)[kind]}
    told = machine(process(70, container=GUEST, comm="sh", namespaces=spaces(70, **shared)))
    (finding,) = named(told, guest())
    assert (finding.subject, finding.check, finding.verdict) == (
        "tesseract-1",
        "stranger.guest",
        "open",
    )
    assert f"sh (pid 70, {kind}, control group /docker/{GUEST})" in finding.evidence
    assert finding.difference == 'tesseract-1 stranger.guest "busybox"'
    (finding,) = named(told, guest(), allowed=frozenset({finding.difference}))
    assert finding.verdict == "accepted"


def test_processes_of_no_container_and_of_another_one_of_ours_are_strangers() -> None:
    entered = process(71, container=None, comm="nsenter", namespaces=spaces(71, net="net:[10]"))
    unseen = process(72, container="e" * 64, comm="ctr", namespaces={"network": 10})
    ours = process(73, container=IDENTITIES["exporter"], namespaces=spaces(11, net="net:[10]"))
    found = {one.check: one for one in named(machine(entered, unseen, ours)) if one.failed}
    assert set(found) == {"stranger.process", f"stranger.{'e' * 12}", "stranger.exporter"}
    assert found["stranger.process"].difference == 'tesseract-1 stranger.process "nsenter"'


def test_a_process_that_cannot_be_told_apart_is_no_proof() -> None:
    assert [one.verdict for one in named(machine(unknown=["odd"]))] == ["unproven"]


def test_a_container_on_one_of_our_networks_is_named() -> None:
    (finding,) = named(machine(), guest(**{"ocr-default": {}}))
    assert (finding.subject, finding.verdict) == ("ocr-default", "open")


@pytest.mark.parametrize(
    ("root", "device", "strange"),
    [
        ("/", "8:1", True),
        ("/state/run/http", "8:1", True),
        ("/state/run/http/engine", "8:1", True),
        ("/state/run/http/engine/below", "8:1", True),
        ("/state/run/http/engineer", "8:1", False),
        ("/srv/data", "8:1", False),
        ("/", "8:2", False),
    ],
)
def test_a_folder_of_the_sockets_is_found_by_whatever_way(
    root: str, device: str, *, strange: bool
) -> None:
    """A link, or a volume whose device the folder is, has another path; not another place."""
    mounts = [mount("/x", root=root, device=device)]
    others = {GUEST: {"mounts": mounts}}
    found = named(machine(others=others), guest())
    assert [(one.subject, one.failed) for one in found] == [
        ("sockets" if strange else "this machine", strange)
    ]
    # And of an engine that is not this one.
    unlisted = {**process(70, container="e" * 64, comm="sh"), "mounts": mounts}
    (finding,) = named(machine(views=[unlisted]))
    assert (finding.subject, finding.failed) == (found[0].subject, strange)
    if strange:
        assert finding.difference == f'sockets stranger.{"e" * 12} "sh"'
        assert finding.evidence == (
            f"sh (pid 70, control group /docker/{'e' * 64}) "
            "mounts the folder of the sockets at `/x`"
        )


def test_what_the_first_process_of_a_container_does_not_see_is_of_that_container() -> None:
    view = {**process(70, container=GUEST, comm="sh"), "mounts": [mount("/x", root="/state/run")]}
    (finding,) = named(machine(others={GUEST: {"mounts": []}}, views=[view]), guest())
    assert (finding.verdict, finding.fix) == ("open", "docker rm -f guest")
    assert finding.difference == 'sockets stranger.guest "busybox"'


def test_a_container_that_shares_nothing_is_no_stranger() -> None:
    (finding,) = named(machine(others={GUEST: {"mounts": None}}), guest())
    assert (finding.verdict, finding.evidence) == (
        "sealed",
        "none among 99 processes and 1 other containers",
    )


def test_a_port_that_is_no_containers_is_named() -> None:
    judge = partial(strangers.judge_ports, "br-1", "ocr-default")
    links = [{"lo": [1, 1], "eth0": [4, 7]}, {"lo": [1, 1]}]
    assert judge({"veth1": [7, 4]}, links).verdict == "sealed"
    # As many as there are containers, and another one.
    finding = judge({"veth2": [8, 4]}, links)
    assert (finding.verdict, "veth2 on br-1" in finding.evidence) == ("open", True)
    assert judge({"veth1": [7, 5]}, links).verdict == "open"
    assert judge(None, links).verdict == "unproven"


# What nginx took up

EARLY, WRITTEN, LATE, NOW = 10.0, 20.0, 30.0, 40.0


@pytest.mark.parametrize(
    ("starts", "now", "verdict"),
    [
        ([(LATE, LATE), (LATE, LATE)], NOW, "sealed"),
        ([(LATE, LATE), (EARLY, EARLY)], NOW, "open"),
        # Nobody could be looked at, such as where /proc hides processes.
        ([], NOW, "unproven"),
        # The clock was set back, and forth, since the container was started.
        ([(EARLY, LATE)], NOW, "unproven"),
        ([(LATE, EARLY)], NOW, "unproven"),
        # It was set back since the file was written.
        ([(EARLY, EARLY)], WRITTEN - 1, "unproven"),
    ],
)
def test_workers_of_nginx_began_after_its_file_was_written(
    starts: list[tuple[float, float]], now: float, verdict: str
) -> None:
    finding = gatewayfiles.judge_files((), WRITTEN, starts, now)
    assert (finding.check, finding.verdict) == ("its files", verdict)
    if verdict == "open":
        assert finding.evidence == "nginx.conf is newer than the configuration that nginx runs"
    # What differs is open, whatever the clocks say.
    found = gatewayfiles.judge_files(("a file too many: x",), WRITTEN, starts, now)
    assert found.verdict == "open"
    missing = ("a file is missing: nginx.conf",)
    assert gatewayfiles.judge_files(missing, None, starts, now).verdict == "open"


# What lies where they listen


def test_a_folder_of_a_socket_has_nothing_else(tmp_path: Path) -> None:
    engine, spool = tmp_path / "engine-1", tmp_path / "spool"
    engine.mkdir()
    spool.mkdir()
    (spool / "access.log").touch()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(engine / "sock"))
        find = partial(places.contents, {"tesseract-1": engine}, spool / "access.log")
        assert [one.verdict for one in find()] == ["sealed", "sealed"]
        (engine / "text of a page").write_text("secret")
        (spool / "other").touch()
        found, of_spool = find()
        assert (found.verdict, found.subject) == ("open", "tesseract-1")
        assert found.evidence.startswith("files: 1 (")
        assert "page" not in found.evidence.removesuffix(f"`{engine}`")
        assert found.fix == "invoke restart --name tesseract-1"
        assert (of_spool.verdict, of_spool.subject) == ("open", "spool")
        assert "restart" not in str(of_spool.fix), "the spool is no program"
        (engine / "text of a page").unlink()
        (engine / "sock").unlink()
        (engine / "sock").symlink_to("/run/other")
        assert next(find()).verdict == "open"
    (engine / "sock").unlink()
    engine.rmdir()
    found = next(find())
    assert (found.verdict, "No such file" in found.evidence) == ("unproven", True)


# The kernel's word

ENGINE = IDENTITIES["engine"]
CONTAINER_FOLDER = f"/docker/containers/{ENGINE}"
SOCKETS = [2049, 77]
ROOT = [55, 2]
SHUT = {"interfaces": ["lo"], "addresses": ["127.0.0.1", "::1%lo"], "routes": list[Any]()}
NODES = [["/dev/null", "c", 1, 3], ["/dev/tty", "c", 5, 0]]


def facts(*processes: Any, mounts: Any = None, **changes: Any) -> dict[str, Any]:
    """Return what the kernel says of an engine as planned, and of further processes in it."""
    names = ["PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "HOSTNAME"]
    usual = mounts if mounts is not None else [*MOUNTS.values()]
    first = {
        "pid": 10,
        "environment": names,
        "mounts": usual,
        "sockets": [],
        "nodes": NODES,
        "network": SHUT,
        **changes,
    }
    return {"containers": {ENGINE: first}, "processes": [process(10), *processes]}


def mount(point: str, options: str = "rw", **changes: Any) -> dict[str, Any]:
    own = {"device": "8:1", "type": "ext4", "root": "/x", "source": "/dev/x", "super": "rw"}
    return {
        "point": point,
        "options": options,
        "file": [2049, 5],
        "character": None,
        **own,
        **changes,
    }


def own(point: str, kind: str, options: str, **changes: Any) -> dict[str, Any]:
    """Return a mount of a file system of the container's own."""
    return mount(point, options, type=kind, root="/", device=f"0:{hash(point) % 1000}") | changes


MOUNTS = {
    one["point"]: one
    for one in (
        own("/", "overlay", "ro,relatime", file=ROOT),
        own("/proc", "proc", "rw,nosuid", device="0:89"),
        mount("/proc/bus", "ro,nosuid", type="proc", root="/bus", device="0:89"),
        own("/proc/acpi", "tmpfs", "ro,relatime", super="ro"),
        mount("/proc/kcore", type="tmpfs", root="/null", device="0:90", character=[1, 3]),
        own("/dev", "tmpfs", "rw,nosuid", device="0:90"),
        own("/dev/pts", "devpts", "rw,nosuid"),
        own("/dev/shm", "tmpfs", "rw,nosuid"),  # noqa: S108  # in a container
        own("/sys", "sysfs", "ro,nosuid"),
        own("/sys/fs/cgroup", "cgroup2", "ro,nosuid"),
        mount("/etc/hosts", root=f"{CONTAINER_FOLDER}/hosts"),
        mount("/usr/sbin/docker-init", "ro,relatime", root="/usr/bin/tini-static"),
        own(SCRATCH, "tmpfs", "rw,nosuid,nodev,noexec", file=[99, 1]),
        mount("/run/listen", file=SOCKETS),
    )
}


def process(pid: int, **changes: Any) -> dict[str, Any]:
    identity = changes.get("container", ENGINE)
    ids = dict.fromkeys(("Uid", "Gid"), "10001\t10001\t10001\t10001")
    return {
        **dict.fromkeys(("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"), "0" * 16),
        **ids,
        "NoNewPrivs": "1",
        "Seccomp": "2",
        "Seccomp_filters": "1",
        "TracerPid": "0",
        "root": ROOT,
        "folder": [ROOT[0], 7],
        "Groups": "10001",
        "core": ["0", "0"],
        "pid": pid,
        "comm": "docker-init",
        "container": ENGINE,
        "cgroup": f"/docker/{identity}" if identity else "/user.slice",
        "namespaces": spaces(10),
        "deleted": [],
        **changes,
    }


def observe(
    told: dict[str, Any], allowed: frozenset[str] = NOBODY, *, gpu: int | None = None
) -> dict[str, Finding]:
    hidden = frozenset({"/proc/acpi", "/proc/bus", "/proc/kcore"})
    around = Surroundings(frozenset({"0:5", "8:1"}), {"/run/listen": SOCKETS}, hidden)
    engine = replace(part("20.10", "engine"), gpu=gpu)
    found = accept(observed(engine, ENGINE, told, around), allowed)
    return {one.check: one for one in found if one.verdict != "sealed"}


def with_mount(point: str, **changes: Any) -> dict[str, Any]:
    usual = MOUNTS.get(point) or mount(point)
    return facts(mounts=[*({**MOUNTS, point: {**usual, **changes}}).values()])


def test_processes_as_planned_are_as_planned() -> None:
    assert observe(facts(process(11, comm="python3", Groups=""))) == {}


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"CapBnd": "00000000a80425fb"}, "kernel.capabilities"),
        ({"CapEff": "000001ffffffffff"}, "kernel.capabilities"),
        ({"NoNewPrivs": "0"}, "kernel.no_new_privileges"),
        ({"Seccomp": "0"}, "kernel.seccomp"),
        ({"Uid": "0\t0\t0\t0"}, "kernel.user"),
        ({"Uid": "10001\t0\t10001\t10001"}, "kernel.user"),
        ({"Gid": "0\t0\t0\t0"}, "kernel.user"),
        ({"Groups": "10001 999"}, "kernel.user"),
        ({"TracerPid": "4711"}, "kernel.tracer"),
        ({"core": ["0", "unlimited"]}, "kernel.core"),
        ({"namespaces": spaces(10, net="net:[1]")}, "kernel.namespaces"),
        ({"namespaces": spaces(10, mnt="mnt:[1]")}, "kernel.namespaces"),
        ({"namespaces": {}}, "kernel.namespaces"),
        (
            {"deleted": [{"path": "/run/listen/x", "device": 2049, "bytes": 9}]},
            "kernel.deleted",
        ),
    ],
)
@pytest.mark.parametrize("comm", ["python3", "docker-init"])
@pytest.mark.parametrize("pid", [10, 11])
def test_every_process_is_judged_whatever_its_name(
    changes: dict[str, Any], check: str, comm: str, pid: int
) -> None:
    """The first one, and one that `docker exec` started, by a name that anybody may take."""
    told = facts(process(pid, comm=comm, **changes))
    if pid == 10:
        told["processes"] = told["processes"][1:]
    if (pid, check) == (10, "kernel.namespaces"):
        # The others are compared with the first: it is in its own, if they can be read.
        assert bool(observe(told)) == (changes["namespaces"] == {})
        return
    found = observe(told)
    assert {key: one.verdict for key, one in found.items()} == {check: "open"}
    assert f"(pid {pid})" in found[check].evidence
    assert comm in (found[check].difference or "")
    allowed = frozenset({found[check].difference or ""})
    assert [one.verdict for one in observe(told, allowed).values()] == ["accepted"]


def test_a_first_process_that_was_moved_elsewhere_is_named() -> None:
    told = facts()
    told["processes"] = [process(12)]
    assert set(observe(told)) == {"kernel.namespaces"}


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"root": [2049, 2]}, "kernel.root"),
        ({"root": None}, "kernel.root"),
        ({"folder": [2050, 2]}, "kernel.folder"),
        ({"folder": None}, "kernel.folder"),
        ({"Seccomp_filters": "2"}, "kernel.seccomp"),
        ({"Seccomp_filters": None}, "kernel.seccomp"),
    ],
)
def test_a_process_is_where_the_first_one_is(changes: dict[str, Any], check: str) -> None:
    """One in all the namespaces of a container may have this machine's root all the same."""
    assert set(observe(facts(process(11, **changes)))) == {check}


def test_a_kernel_that_does_not_count_filters_does_so_for_nobody() -> None:
    told = facts(process(11))
    for one in told["processes"]:
        one["Seccomp_filters"] = None
    assert observe(told) == {}


def test_a_file_that_is_open_and_deleted_is_a_hole_only_where_it_outlives_the_container() -> None:
    scratch = {"path": f"{SCRATCH}/x", "device": 99, "bytes": 9}
    assert observe(facts(process(11, deleted=[scratch]))) == {}


def test_a_deleted_file_in_memory_is_found_on_a_file_system_of_several_numbers() -> None:
    """A subvolume of btrfs has a number of its own, and memory maps have the file system's."""
    told = with_mount("/run/listen", device="0:47")
    for device in (SOCKETS[0], os.makedev(0, 47)):
        file = {"path": "/run/listen/x", "device": device, "bytes": 9}
        assert set(observe({**told, "processes": [process(10, deleted=[file])]})) == {
            "kernel.deleted"
        }


@pytest.mark.parametrize(
    "environment", [["PATH", "LD_PRELOAD"], None], ids=["another one", "unreadable"]
)
def test_a_variable_that_nobody_planned_is_a_hole(environment: Any) -> None:
    assert set(observe(facts(environment=environment))) == {"kernel.environment"}


def test_a_socket_that_no_process_of_the_containers_holds_is_a_hole() -> None:
    told = facts(sockets=["tcp 00000000:1F90", "unix @x"])
    (finding,) = observe(told).values()
    assert (finding.check, finding.verdict, finding.passing) == ("kernel.sockets", "open", True)
    assert finding.evidence == "nobody's tcp 00000000:1F90, nobody's unix @x"


@pytest.mark.parametrize(
    ("node", "gpu", "wrong"),
    [
        (["/dev/zero", "c", 1, 5], None, False),
        (["/dev/zero", "c", 1, 1], None, True),
        (["/dev/zero", "b", 1, 5], None, True),
        (["/dev/mem", "c", 1, 1], 0, True),
        (["/dev/sda", "b", 8, 0], 0, True),
        (["/dev/nvidia0", "c", 195, 0], 0, False),
        (["/dev/nvidia0", "c", 195, 0], None, True),
        (["/dev/nvidia0", "b", 8, 0], 0, True),
        (["/dev/nvidia3", "c", 195, 3], 0, False),  # Docker counts them otherwise
        (["/dev/nvidia0", "c", 195, 1], 0, True),
        (["/dev/nvidia0", "c", 1, 1], 0, True),
        (["/dev/nvidiactl", "c", 195, 255], 0, False),
        (["/dev/nvidia-modeset", "c", 195, 254], 0, False),
        (["/dev/nvidia-uvm", "c", 511, 0], 0, False),
        (["/dev/nvidia-uvm", "c", 195, 1], 0, True),
        (["/dev/nvidia-caps/nvidia-cap1", "c", 195, 1], 0, True),
    ],
)
def test_a_device_that_nobody_planned_is_a_hole(
    node: list[Any], gpu: int | None, *, wrong: bool
) -> None:
    found = observe(facts(nodes=[*NODES, node]), gpu=gpu)
    assert set(found) == ({"kernel.devices"} if wrong else set())


def test_a_second_gpu_is_a_hole() -> None:
    both = [[f"/dev/nvidia{number}", "c", 195, number] for number in (0, 1)]
    (finding,) = observe(facts(nodes=[*NODES, *both]), gpu=0).values()
    assert (finding.check, finding.verdict, finding.evidence) == (
        "kernel.devices",
        "open",
        "2 GPUs instead of one: /dev/nvidia0 /dev/nvidia1",
    )


NETWORKS = {
    "default": {
        "IPAddress": "172.30.40.130",
        "IPPrefixLen": 26,
        "Gateway": "172.30.40.129",
        "GlobalIPv6Address": "",
    },
}
NETWORK = {
    "interfaces": ["eth0", "lo"],
    "addresses": ["172.30.40.130", "127.0.0.1", "::1%lo", "fe80::42:acff:fe1e:2882%eth0"],
    "routes": [
        ["eth0", "0.0.0.0/0.0.0.0", "172.30.40.129"],
        ["eth0", "172.30.40.128/255.255.255.192", "0.0.0.0"],  # noqa: S104  # no gateway
        ["eth0", "fe80::/64", "::"],
        ["eth0", "ff00::/8", "::"],
    ],
}


@pytest.mark.parametrize(
    ("key", "value", "seen"),
    [
        ("interfaces", "eth2", "eth0, eth2 for 1 networks"),
        ("interfaces", "dummy0", "dummy0"),
        ("addresses", "10.0.0.1", "10.0.0.1"),
        ("addresses", "169.254.1.1", "169.254.1.1"),
        ("addresses", "2001:db8::1%eth0", "2001:db8::1%eth0"),
        (
            "routes",
            ["eth0", "0.0.0.0/0.0.0.0", "172.30.40.140"],
            "0.0.0.0/0.0.0.0 by 172.30.40.140 on eth0",
        ),
        (
            "routes",
            ["eth0", "10.0.0.0/255.0.0.0", "172.30.40.129"],
            "10.0.0.0/255.0.0.0 by 172.30.40.129 on eth0",
        ),
        ("routes", ["eth0", "::/0", "fe80::1"], "::/0 by fe80::1 on eth0"),
        ("routes", ["eth0", "2001:db8::/32", "::"], "2001:db8::/32 by :: on eth0"),
        ("routes", ["eth0", "fe80::/64", "fe80::1"], "fe80::/64 by fe80::1 on eth0"),
    ],
)
def test_what_docker_did_not_put_into_a_network_is_a_hole(key: str, value: Any, seen: str) -> None:
    assert list(strange_network(NETWORK, NETWORKS)) == []
    more = {**NETWORK, key: [*cast("list[Any]", NETWORK[key]), value]}
    assert list(strange_network(more, NETWORKS)) == [(key, seen)]
    (finding,) = observe(facts(network={**SHUT, key: [value]})).values()
    assert (finding.check, finding.verdict) == (f"kernel.{key}", "open")


def test_a_network_of_both_kinds_of_addresses_has_routes_of_both() -> None:
    six = {"GlobalIPv6Address": "fd00::3", "GlobalIPv6PrefixLen": 64, "IPv6Gateway": "fd00::1"}
    networks = {"other": {**NETWORKS["default"], **six}}
    routes = [["eth0", "::/0", "fd00::1"], ["eth0", "fd00::/64", "::"]]
    addresses = [*cast("list[str]", NETWORK["addresses"]), "fd00::3%eth0"]
    told = {
        **NETWORK,
        "addresses": addresses,
        "routes": [*cast("list[Any]", NETWORK["routes"]), *routes],
    }
    assert list(strange_network(told, networks)) == []
    assert [kind for kind, _ in strange_network(told, NETWORKS)] == [
        "addresses",
        "routes",
        "routes",
    ]


def test_a_container_on_no_network_has_the_loopback_alone() -> None:
    none = {"none": {"IPAddress": "", "IPPrefixLen": 0, "Gateway": "", "GlobalIPv6Address": ""}}
    assert list(strange_network(SHUT, none)) == []
    assert list(strange_network({**SHUT, "routes": [["lo", "::1/128", "::"]]}, none)) == []
    kinds = {kind for kind, _ in strange_network(NETWORK, none)}
    assert kinds == {"interfaces", "addresses", "routes"}
    assert list(strange_network(None, none)) == [("interfaces", "they cannot be read")]


def test_settings_of_a_network_are_as_planned_or_a_hole() -> None:
    gateway = part("20.10", "gateway")
    wanted = planned_settings(gateway)
    assert wanted == {**gateway.sysctls, "net.ipv4.conf.all.route_localnet": "0"}
    assert wanted["net.ipv4.ip_forward"] == "0"
    assert list(judge_settings(gateway, wanted)) == []
    for name in wanted:
        (finding,) = judge_settings(gateway, {**wanted, name: "1"})
        assert (finding.check, finding.verdict) == (f"kernel.{name}", "open")
        allowed = frozenset({finding.difference or ""})
        (accepted,) = accept(judge_settings(gateway, {**wanted, name: "1"}), allowed)
        assert accepted.verdict == "accepted"
    assert len(list(judge_settings(gateway, {}))) == len(wanted)
    assert planned_settings(part("20.10", "engine")) == {}


def test_what_is_wrong_counts_when_it_is_wrong_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that Docker is about to confine is root for a moment."""
    fine = Finding("engine", "kernel", "sealed", "")
    lasting, passing, late = (Finding("engine", name, "open", "", passing=True) for name in "abc")
    looks = iter([[fine, lasting, passing], [fine, lasting, late], [fine, lasting, passing]])
    monkeypatch.setattr(looking, "_look_once", lambda *_: next(looks))
    scene, watching = cast("Scene", None), cast("Container", None)
    assert looking.look(scene, watching) == [fine, lasting]
    looks = iter([[fine, passing], [fine]])
    assert looking.look(scene, watching) == [fine]
    looks = iter([[fine]])
    assert looking.look(scene, watching) == [fine]


def test_a_stranger_is_found_however_short_it_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that is started again each second has another name each time."""
    kernel = Finding("engine", "kernel", "sealed", "")
    none = Finding("this machine", "strangers", "sealed", "none")
    first, second, third = (Finding("engine", f"stranger.x{n}", "open", "") for n in range(3))
    scene, watching = cast("Scene", None), cast("Container", None)
    looks = iter([[kernel, first], [kernel, second], [kernel, third]])
    monkeypatch.setattr(looking, "_look_once", lambda *_: next(looks))
    assert looking.look(scene, watching) == [kernel, first, second, third]
    looks = iter([[kernel, first], [kernel, none]])
    assert looking.look(scene, watching) == [kernel, first]
    # What Docker starts in a container is not yet in its control group; as long as that.
    entering = [replace(one, passing=True) for one in (first, second, third)]
    looks = iter([[kernel, entering[0]], [kernel, none]])
    assert looking.look(scene, watching) == [kernel, none]
    looks = iter([[kernel, one] for one in entering])
    assert looking.look(scene, watching) == [kernel, *entering]


@pytest.mark.parametrize(
    ("comm", "container", "passing"),
    [
        ("runc:?2:INIT?", None, True),
        ("dockerd", None, True),
        ("dockerd-2", None, False),
        ("dockerd", GUEST, False),
        ("runc:?2:INIT?", GUEST, False),
        ("sh", None, False),
        ("sh", GUEST, False),
    ],
)
def test_only_what_docker_itself_starts_may_pass(
    comm: str, container: str | None, *, passing: bool
) -> None:
    told = machine(process(70, container=container, comm=comm))
    (finding,) = named(told, guest())
    assert (finding.verdict, finding.passing) == ("open", passing)


def test_rights_may_pass_and_files_and_mounts_never() -> None:
    deleted = {"path": "/run/listen/x", "device": 2049, "bytes": 9}
    told = facts(process(11, CapEff="1", deleted=[deleted]), environment=None)
    told["containers"][ENGINE]["mounts"].append(mount("/guest"))
    found = observe(told)
    assert {check: one.passing for check, one in found.items()} == {
        "kernel.capabilities": True,
        "kernel.deleted": False,
        "kernel.environment": False,
        "kernel.mounts./guest": False,
    }


def test_what_is_wrong_at_the_end_and_was_not_before_is_added() -> None:
    before = [Finding("a", "x", "open", ""), Finding("a", "y", "sealed", "")]
    after = [
        Finding("a", "x", "open", ""),
        Finding("a", "y", "open", ""),
        Finding("a", "z", "sealed", ""),
    ]
    assert _new(before, after) == [Finding("a", "y", "open", "")]


@pytest.mark.parametrize(
    ("point", "changes"),
    [
        ("/", {"options": "rw,relatime"}),
        ("/dev/shm", {"type": "ext4", "root": "/srv", "device": "8:1"}),  # noqa: S108
        ("/dev/shm", {"device": "0:5"}),  # noqa: S108  # this machine's
        ("/dev/shm", {"root": "/below"}),  # noqa: S108
        ("/dev", {"type": "devtmpfs"}),
        ("/sys", {"options": "rw,nosuid"}),
        ("/proc", {"device": "0:5"}),
        ("/proc/bus", {"root": "/sys"}),
        ("/proc/bus", {"options": "rw"}),
        ("/proc/bus", {"device": "0:5"}),
        ("/proc/acpi", {"super": "rw"}),
        ("/proc/kcore", {"character": [1, 11]}),
        ("/sys/fs/cgroup", {"options": "rw,nosuid"}),
        ("/sys/fs/cgroup/host", {"type": "ext4"}),
        ("/etc/hosts", {"root": "/etc/hosts"}),
        ("/etc/hosts", {"root": f"/docker/containers/{GUEST}/hosts"}),
        ("/usr/sbin/docker-init", {"options": "rw"}),
        ("/usr/sbin/docker-init", {"root": "/srv/program"}),
        (SCRATCH, {"options": "rw,noexec"}),
        (SCRATCH, {"options": "rw,nosuid,nodev"}),
        (SCRATCH, {"device": "0:5"}),
        (SCRATCH, {"type": "ext4"}),
        ("/run/listen", {"file": [2049, 78]}),
        ("/run/listen", {"file": None}),
        ("/run/nvidia/socket", {}),
    ],
)
def test_a_mount_that_is_not_as_planned_is_a_hole(point: str, changes: dict[str, Any]) -> None:
    found = observe(with_mount(point, **changes))
    assert found.pop(f"kernel.mounts.{point}").verdict == "open"
    # What is hidden of another /proc is not hidden of this one.
    assert set(found) == ({"kernel.mounts./proc/bus"} if point == "/proc" else set())


@pytest.mark.parametrize("point", ["/proc/acpi", "/proc/bus", "/proc/kcore"])
def test_what_docker_hides_of_the_kernels_is_hidden(point: str) -> None:
    told = facts(mounts=[one for one in MOUNTS.values() if one["point"] != point])
    (finding,) = observe(told).values()
    assert (finding.check, finding.evidence) == (f"kernel.mounts.{point}", "it is not mounted")


def test_what_docker_says_to_hide_counts_as_far_as_it_exists() -> None:
    told = copy.deepcopy(MEMBERS["tesseract-1"])
    told["HostConfig"] |= {"MaskedPaths": ["/proc/self", "/proc/none"], "ReadonlyPaths": None}
    around = looking._surround(part("20.10", "engine"), told, {**machine(), "devices": []})
    assert around.hidden == {"/proc/self"}


def test_a_mount_over_another_one_and_one_that_is_missing_are_named() -> None:
    twice = facts(mounts=[*MOUNTS.values(), MOUNTS["/run/listen"]])
    assert set(observe(twice)) == {"kernel.mounts./run/listen"}
    missing = [one for point, one in MOUNTS.items() if point != "/run/listen"]
    assert set(observe(facts(mounts=missing))) == {"kernel.mounts./run/listen"}
    assert "kernel.mounts./" in observe(facts(mounts=[]))


@pytest.mark.parametrize(
    ("point", "changes", "strange"),
    [
        ("/dev/nvidia0", {"character": [195, 0]}, False),
        ("/dev/nvidia-caps/nvidia-cap1", {"character": [237, 1]}, False),
        ("/dev/nvidia0", {"character": [195, 1]}, True),
        ("/dev/nvidia0", {}, True),
        ("/usr/bin/nvidia-smi", {"options": "ro,nosuid"}, False),
        ("/usr/bin/nvidia-smi", {"options": "rw"}, True),
        ("/usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05", {"options": "ro"}, False),
        ("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.95.05", {"options": "ro"}, False),
        ("/run/nvidia-persistenced/socket", {"options": "ro"}, True),
        ("/run/nvidia-fabricmanager/socket", {"options": "ro"}, True),
        ("/tmp/nvidia-mps", {"options": "ro"}, True),  # noqa: S108  # in a container
        ("/usr/lib/x86_64-linux-gnu/libcuda.so/../../x", {"options": "ro"}, True),
    ],
)
def test_a_drivers_files_are_planned_with_a_gpu_and_its_daemons_sockets_never(
    point: str, changes: dict[str, Any], *, strange: bool
) -> None:
    told = with_mount(point, **changes)
    assert set(observe(told, gpu=0)) == ({f"kernel.mounts.{point}"} if strange else set())
    assert f"kernel.mounts.{point}" in observe(told), "without a GPU nothing of it is planned"


# Attempts


@pytest.mark.parametrize(
    ("attempt", "control", "verdict"),
    [
        (Try(reached=True, detail="x"), Try(reached=True, detail="y"), "open"),
        (Try(reached=True, detail="x"), Try(reached=False, detail="y"), "open"),
        (Try(reached=False, detail="x"), Try(reached=True, detail="y"), "sealed"),
        (Try(reached=False, detail="x"), Try(reached=False, detail="y"), "unproven"),
        (
            Try(reached=False, detail="x", is_late=True),
            Try(reached=True, detail="y"),
            "unproven",
        ),
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
    late = {"reached": False, "detail": "late", "late": True}
    assert merged([blocked, through]) == Try(reached=True, detail="yes")
    assert merged([blocked, blocked]) == Try(reached=False, detail="no")
    assert merged([blocked, late]).is_late
    assert merged([]) == Try(reached=False, detail="nothing to try")


def test_every_attempt_has_a_kind_that_the_probe_knows() -> None:
    for planned_checks in (checks(TARGETS, "nonce"), gateway_checks(TARGETS, "nonce")):
        kinds = {attempt["kind"] for check in planned_checks for attempt in check.attempts}
        assert kinds <= set(probe._KINDS)
        assert all(check.attempts and check.fix for check in planned_checks)
        names = [check.name for check in planned_checks]
        assert len(names) == len(set(names))


def test_at_least_thirty_ways_out_are_tried() -> None:
    assert len(checks(TARGETS, "nonce")) >= 30


def test_each_silent_way_is_told_by_a_nonce_of_its_own() -> None:
    silent = [check for check in checks(TARGETS, "nonce") if check.is_silent]
    nonces = [check.nonces for check in silent]
    assert all(len(found) == 1 for found in nonces)
    assert len(set(nonces)) == len(silent)


def test_what_a_machine_lacks_is_absent_and_not_unproven() -> None:
    lacking = {"reached": False, "detail": "killed by SIGSEGV", "missing": True}
    refused = {"reached": False, "detail": "(ENOSYS)"}
    assert trying._is_missing([lacking, lacking])
    assert not trying._is_missing([lacking, refused])


@pytest.mark.parametrize(("reached_here", "verdict"), [(True, "sealed"), (False, "absent")])
def test_where_a_firewall_keeps_containers_out_this_machine_is_the_control(
    monkeypatch: pytest.MonkeyPatch, *, reached_here: bool, verdict: str
) -> None:
    def probe_container(_: Container, attempts: list[Any]) -> list[Any]:
        return [{"reached": False, "detail": "dropped"} for _ in attempts]

    def probe_here(attempts: list[Any]) -> list[Any]:
        return [{"reached": reached_here, "detail": "echo"} for _ in attempts]

    monkeypatch.setattr(trying, "probe", probe_container)
    monkeypatch.setattr(probe, "attempt_all", probe_here)
    free = Control({"network": Mock(), "host": Mock()}, ("10.0.0.2", 8000))
    tried = trying.reach_freely(free, TARGETS, "nonce")
    shut = Try(reached=False, detail="unreachable")
    finding = paired("engine", "way", shut, tried["this machine by TCP"], fix="")
    assert (finding.verdict, finding.failed) == (verdict, False)
    assert not reached_here or "this machine itself, and no container: echo" in finding.evidence
    # What needs rights is not tried here, and proves nothing.
    assert paired("engine", "way", shut, tried["io_uring"], fix="").verdict == "unproven"


@pytest.mark.parametrize("late", ["container", "here"])
def test_an_attempt_that_is_late_somewhere_does_not_say_that_there_is_nothing_to_reach(
    monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    def fail(attempts: list[Any], where: str) -> list[Any]:
        return [{"reached": False, "detail": "no", "late": late == where} for _ in attempts]

    monkeypatch.setattr(trying, "probe", lambda _, attempts: fail(attempts, "container"))
    monkeypatch.setattr(probe, "attempt_all", lambda attempts: fail(attempts, "here"))
    free = Control({"network": Mock(), "host": Mock()}, ("10.0.0.2", 8000))
    tried = trying.reach_freely(free, TARGETS, "nonce")["this machine by TCP"]
    shut = Try(reached=False, detail="unreachable")
    assert paired("engine", "way", shut, tried, fix="").verdict == "unproven"


def test_an_attempt_that_cannot_be_made_on_this_machine_is_no_proof(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(attempts: list[Any], **what: Any) -> list[Any]:
        return [{"reached": False, "detail": "no process for it", **what} for _ in attempts]

    monkeypatch.setattr(trying, "probe", lambda _, attempts: fail(attempts))
    monkeypatch.setattr(probe, "attempt_all", partial(fail, broken=True))
    free = Control({"network": Mock(), "host": Mock()}, ("10.0.0.2", 8000))
    with pytest.raises(IsolationError, match="on this machine: no process for it"):
        trying.reach_freely(free, TARGETS, "nonce")


def test_rows_that_fail_come_first_and_attempts_that_were_shut_are_a_count() -> None:
    shut = [
        paired(
            "engine", name, Try(reached=False, detail=name), Try(reached=True, detail="y"), fix=""
        )
        for name in ("a", "b")
    ]
    others = [
        Finding(subject, verdict, verdict, "seen")
        for verdict in get_args(Verdict)
        for subject in ("gateway", "engine")
    ]
    rows = present._rows(present._sort([*shut, *others]))
    assert [row[:2] for row in rows] == [
        (verdict, subject)
        for verdict, subjects in {
            "open": ("engine", "gateway"),
            "unproven": ("engine", "gateway"),
            "unknown": ("engine", "gateway"),
            "accepted": ("engine", "gateway"),
            "absent": ("engine", "gateway"),
            "sealed": ("engine", "engine", "gateway"),
        }.items()
        for subject in subjects
    ]
    (count,) = (row for row in rows if "ways out" in row[2])
    assert count[:3] == ("sealed", "engine", "2 ways out shut")


def test_the_verdict_is_the_worst_one() -> None:
    def row(verdict: Any) -> Finding:
        return Finding("a", "b", verdict, "c")

    assert worst([row("sealed"), row("accepted"), row("absent")]) == "accepted"
    assert worst([row("open"), row("unknown"), row("sealed")]) == "open"
    assert worst([]) == "unproven"
    report = Report(sealed=False, verdict="unknown", engine_version="1", findings=(row("unknown"),))
    with pytest.raises(IsolationError, match=r"unknown: a: b \(unknown\)"):
        require_sealed(report)


@pytest.mark.parametrize(
    ("text", "expected_place"),
    [
        (None, None),
        ("192.0.2.1", ("192.0.2.1", 443)),
        ("example.com:8080", ("example.com", 8080)),
    ],
)
def test_a_place_outside(text: str | None, expected_place: tuple[str, int] | None) -> None:
    assert place(text) == expected_place


@pytest.mark.parametrize(
    "text",
    ["", "a b", "host:port", "host:70000", ":1", "http://host", "x:²", "x:-1"],
)
def test_a_wrong_place_outside(text: str) -> None:
    with pytest.raises(ConfigError):
        place(text)


def test_rules_come_before_freedom() -> None:
    wanted = Expected({"a.b": exactly(1)}, free=frozenset({"a."}))
    assert [f.verdict for f in compare("x", {"a": {"b": 2, "c": 3}}, wanted)] == ["open", "sealed"]


@pytest.mark.parametrize("wrong", ["", "tesseract-1", "tesseract-1 HostConfig.Init", "a b {"])
def test_what_is_no_difference_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match="must have lines"):
        load(f"docker.allowed_differences={json.dumps([wrong])}")


def test_a_pause_between_proofs_is_a_second_at_least() -> None:
    assert (pause(0), pause(5)) == (0, 5)
    with pytest.raises(ConfigError, match="--watch -1"):
        pause(-1)


# The gateway

REFUSAL = (404, b'{"error": {"code": "unknown_url"}}')


@pytest.mark.parametrize(
    ("answers", "verdict", "evidence"),
    [
        ({}, "sealed", "refused"),
        ({"GET /load": (0, b"timed out")}, "unproven", "no answer to GET /load: timed out"),
        ({"GET /load": (200, b"{}")}, "open", "passed on: GET /load"),
        ({"GET /ping": (0, b"x"), "GET /load": (502, b"")}, "open", "passed on: GET /load"),
        ({"GET /v1/models": (0, b"timed out")}, "unproven", "answered with nothing: timed out"),
    ],
)
def test_a_request_without_an_answer_was_not_passed_on_and_proves_nothing(
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, tuple[int, bytes]],
    verdict: str,
    evidence: str,
) -> None:
    told = {"GET /v1/models": (200, b"{}"), **answers}
    monkeypatch.setattr(routes, "_ask", lambda _, __, route: told.get(route, REFUSAL))
    finding = routes.allow_list(cast("Any", None), cast("Any", None))
    assert (finding.verdict, evidence in finding.evidence) == (verdict, True)


@pytest.mark.parametrize(("times", "verdict"), [(2, "sealed"), (1000, "unproven")])
def test_a_replica_that_is_away_for_a_moment_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, times: int, verdict: str
) -> None:
    monkeypatch.setattr(routes, "_REPLICA_S", 0.5)
    monkeypatch.setattr(routes, "_PAUSE_S", 0.01)
    away = [(502, b"")] * times

    def ask(_: object, __: object, route: str) -> tuple[int, bytes]:
        if route != "GET /v1/models":
            return REFUSAL
        return away.pop() if away else (200, b"{}")

    monkeypatch.setattr(routes, "_ask", ask)
    finding = routes.allow_list(cast("Any", None), cast("Any", None))
    assert (finding.verdict, "502" in finding.evidence) == (verdict, verdict == "unproven")


# The throw-away containers and the listener


LISTENED = """
import socket
from cloister.isolation.sinks import sink

def connect(family, address):
    connection = socket.socket(family)
    connection.settimeout(10)
    connection.connect(address)
    return connection

with sink() as heard:
    by_tcp = (socket.AF_INET, ("127.0.0.1", heard.port))
    waiting = connect(*by_tcp)
    # Whoever is answered came after that one, which was accepted as well.
    for way in (by_tcp, (socket.AF_UNIX, f"\\0{heard.abstract}")):
        with connect(*way) as connection:
            connection.sendall(b"word")
            assert (connection.recv(100), connection.recv(100)) == (b"word", b"")
    assert heard.heard("word")
assert waiting.recv(100) == b""
waiting.close()
"""


def test_the_listener_echoes_and_ends_in_silence_whoever_is_connected() -> None:
    command = [sys.executable, "-W", "error", "-c", LISTENED]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


TAKEN = """
import asyncio, socket, sys
from cloister.isolation.sinks import sink

count, family, taken = int(sys.argv[1]), int(sys.argv[2]), []
create = asyncio.BaseEventLoop.create_server


async def create_and_take(loop, *arguments):
    # Another program has the port for datagrams.
    server = await create(loop, *arguments)
    if len(taken) < count:
        taken.append(socket.socket(family, socket.SOCK_DGRAM))
        if family == socket.AF_INET6:
            taken[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken[-1].bind(("", server.sockets[0].getsockname()[1]))
    return server


asyncio.BaseEventLoop.create_server = create_and_take
try:
    with sink() as heard:
        assert heard.port not in {one.getsockname()[1] for one in taken}
        with socket.socket(type=socket.SOCK_DGRAM) as asking:
            asking.settimeout(10)
            asking.sendto(b"word", ("127.0.0.1", heard.port))
            assert asking.recv(100) == b"word"
finally:
    for one in taken:
        one.close()
"""


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_listener_takes_another_port_where_one_is_taken_for_datagrams(family: int) -> None:
    command = [sys.executable, "-W", "error", "-c", TAKEN, "2", str(int(family))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_listener_that_cannot_be_opened_says_why() -> None:
    command = [sys.executable, "-W", "error", "-c", TAKEN, "100", str(int(socket.AF_INET))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "IsolationError: no listener could be opened" in done.stderr
    assert "Address already in use" in done.stderr
    assert "ResourceWarning" not in done.stderr
    assert "Exception in thread" not in done.stderr


def test_what_a_proof_left_is_removed_by_its_label() -> None:
    containers, networks = Mock(), Mock()
    client = Mock()
    client.containers.list.return_value = [containers]
    client.networks.list.return_value = [networks]
    sweep(client, "ocr")
    containers.remove.assert_called_once_with(force=True)
    networks.remove.assert_called_once_with()
    filters = {"label": "cloister.verify=ocr"}
    client.containers.list.assert_called_once_with(all=True, ignore_removed=True, filters=filters)
    client.networks.list.assert_called_once_with(filters=filters)


def test_a_neighbour_may_do_what_the_suspect_may() -> None:
    """Its attempts at files of the kernel are none where those are hidden from it alone."""
    client = MagicMock()
    client.api.create_host_config.side_effect = lambda **given: dict(given)
    host = {"SecurityOpt": ["seccomp=x"], "MaskedPaths": [], "ReadonlyPaths": ["/proc/bus"]}
    suspect = Mock(id="f00", attrs={"Config": {"User": "7"}, "HostConfig": {**host, "Binds": "x"}})
    control.neighbour(client, "image", "ocr", suspect)
    made = client.api.create_container.call_args.kwargs
    assert made["user"] == "7"
    found = made["host_config"]
    assert host.items() <= found.items()
    assert (found["network_mode"], found.get("Binds")) == ("container:f00", None)


def test_throw_away_containers_end_by_themselves() -> None:
    """They are root, and nobody may be left to remove them."""
    assert control._WAIT == ["sleep", "1800"]
    assert control._LISTEN[:2] == ["timeout", "1800"]
