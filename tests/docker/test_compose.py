"""The Compose files against CIS Docker Benchmark 1.8, section 5, as Compose itself reads them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import docker
import pytest
from deployments import ROOT
from downloads import run_patiently

from cloister import config
from cloister.containers import compose
from cloister.deployment.plan import plan, programs
from cloister.runtimes.docker import overlay

OVERLAYS = ("tesseract", "vllm-cuda", "vllm-cpu")


@pytest.fixture(scope="module", params=OVERLAYS)
def effective(request: pytest.FixtureRequest) -> Any:
    files = [f"--file={ROOT}/compose/{name}.yaml" for name in ("compose", request.param)]
    command = [*compose(), *files, "--profile=setup", "config", "--format=json"]
    environment = {"PATH": "/usr/bin:/bin", "CLOISTER_MODEL_FOLDER": "/model"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture(
    params=["vllm-nginx-gateway", "exporter", "model-downloader", "engine"],
)
def service(effective: Any, request: pytest.FixtureRequest) -> Any:
    services: dict[str, Any] = effective["services"]
    name = request.param
    if name == "engine":
        (name,) = set(services) - {"vllm-nginx-gateway", "exporter", "model-downloader"}
    return {"name": name, **services[name]}


def test_5_4_capabilities_5_5_privileged_5_26_new_privileges(service: Any) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert not service.get("privileged")
    assert "no-new-privileges:true" in service["security_opt"]


def test_5_6_5_14_5_32_mounts(service: Any) -> None:
    for mount in service.get("volumes", []):
        target = mount["target"]
        if target in {"/run/listen", "/run/spool"} or service["name"] == "model-downloader":
            assert mount["type"] == "volume"
        else:
            assert target == "/etc/cloister" or target.startswith(("/run/http/", "/model"))
            assert mount["read_only"]
        assert "docker.sock" not in mount["source"]


def test_5_8_5_9_5_14_ports(service: Any) -> None:
    if service["name"] == "vllm-nginx-gateway":
        (port,) = service["ports"]
        assert port["host_ip"] == "127.0.0.1"
        assert int(port["target"]) > 1024
    else:
        assert "ports" not in service


def test_5_10_5_16_5_17_5_21_5_31_name_spaces(service: Any) -> None:
    for key in ("pid", "ipc", "cgroup", "uts", "userns_mode"):
        assert service.get(key) in {None, "private"}, key


def test_5_11_5_12_5_19_5_29_limits(service: Any) -> None:
    assert int(service["mem_limit"]) > 0
    assert service["pids_limit"] > 0
    assert service["ulimits"]["nofile"] == 16384


def test_5_13_read_only_root_and_4_1_user(service: Any) -> None:
    assert service["read_only"] is True
    assert service["user"] == "10001:10001"
    for mount in service.get("tmpfs", []):
        assert "nosuid" in mount
        assert "nodev" in mount


def test_5_15_restarts_are_bounded_by_backoff_and_5_28_images_are_named(service: Any) -> None:
    assert service["restart"] == ("no" if service["name"] == "model-downloader" else "always")
    assert not service["image"].endswith(":latest")
    assert "build" not in service


def test_5_18_devices(service: Any) -> None:
    assert "devices" not in service
    reserved = service.get("deploy", {}).get("resources", {}).get("reservations", {})
    for device in reserved.get("devices", []):
        assert device["device_ids"] == ["0"]
        assert "count" not in device


def test_logs_rotate_and_an_init_reaps(service: Any) -> None:
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
    assert service["init"] is True


def test_networks_are_those_of_the_design(effective: Any) -> None:
    (engine,) = set(effective["services"]) - {"vllm-nginx-gateway", "exporter", "model-downloader"}
    services = effective["services"]
    on = {name: set(service.get("networks") or ()) for name, service in services.items()}
    assert on == {
        "vllm-nginx-gateway": {"default"},
        "exporter": set(),
        engine: set(),
        "model-downloader": {"cloister-download"},
    }
    modes = {name: service.get("network_mode") for name, service in services.items()}
    assert modes == {
        "vllm-nginx-gateway": None,
        "exporter": "none",
        engine: "none",
        "model-downloader": None,
    }
    assert {effective["networks"][name]["name"] for name in effective["networks"]} == {
        "cloister-default",
        "cloister-download",
    }


def test_sockets_lie_where_nothing_can_grow(effective: Any) -> None:
    volumes = dict(effective["volumes"])
    del volumes["models"]
    for name, volume in volumes.items():
        options = volume["driver_opts"]
        assert options["type"] == "tmpfs", name
        assert {"noexec", "nosuid", "nodev", "nr_inodes=16"} <= set(options["o"].split(","))
        assert options["o"].startswith("size=64m" if name == "spool" else "size=64k")


def test_a_grace_period_is_longer_than_vllms_own(effective: Any) -> None:
    (engine,) = set(effective["services"]) - {"vllm-nginx-gateway", "exporter", "model-downloader"}
    if engine == "vllm-nanonets-ocr-1":
        assert effective["services"][engine]["stop_grace_period"] == "2m30s"


def test_compose_2_reads_the_same_files(images: docker.DockerClient, tmp_path: Path) -> None:
    """Debian's Compose is of the 2 series, and ours of the 5 series."""
    environ = {"CLOISTER_CONFIG": "/dev/null"}
    install = "apt-get -qq update && apt-get -qq install -y docker-compose"
    script = []
    for engine in OVERLAYS:
        flags = ["runtime=docker", f"engine={engine}", "replicas=2"]
        settings = config.load(flags=flags, environ=environ).settings
        started = programs(plan(settings, 2), Path("/model"))
        rendered = tmp_path / f"{engine}.yaml"
        rendered.write_text(overlay.render(settings, started, ()))
        files = " ".join(overlay.files(settings, rendered))
        script.append(f"docker-compose {files} config --quiet")
    script.append("docker-compose version --short")
    container = images.containers.run(
        "cloister-base/debian:trixie-slim",
        ["sleep", "3600"],  # it ends, and goes, also where this process is killed
        environment={"CLOISTER_MODEL_FOLDER": "/model", "DEBIAN_FRONTEND": "noninteractive"},
        volumes=[f"{ROOT}/compose:{ROOT}/compose:ro", f"{tmp_path}:{tmp_path}:ro"],
        detach=True,
        auto_remove=True,
    )
    inside = ["docker", "exec", str(container.id), "sh", "-ec"]
    try:
        run_patiently([*inside, install])
        done = subprocess.run([*inside, "\n".join(script)], stdout=subprocess.PIPE, check=True)
    finally:
        container.remove(force=True)
    assert done.stdout.startswith(b"2.")
