"""What is planned for containers, without one."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from docker.errors import DockerException

import cloister
from cloister import config, containers, gateway, images
from cloister.config import Settings
from cloister.deployment.access import Access
from cloister.deployment.plan import door, plan, programs
from cloister.engines import choose
from cloister.engines.vllm.options import Options, joined
from cloister.errors import DeploymentError, ImageError, ToolError
from cloister.gateway import Place
from cloister.images.bake import dockerfile
from cloister.images.build import Options as BuildOptions
from cloister.images.build import Source
from cloister.inside.health import Sight, canary, judge, totals
from cloister.placement import Seat
from cloister.runtimes.docker import overlay, preflight, states
from cloister.runtimes.docker.runtime import DockerRuntime

ROOT = Path(__file__).parents[2]
PLACE = Place(Path("/run/cloister"), None)
SOURCE = Source("0123456789abcdef0123456789abcdef01234567", 1_700_000_000)


def load(*flags: str) -> Settings:
    environ = {"CLOISTER_CONFIG": "/dev/null", "CLOISTER_STATE_DIR": "/state"}
    return config.load(
        flags=("runtime=docker", "engine=tesseract", *flags), environ=environ
    ).settings


def nginx_text(settings: Settings) -> str:
    return gateway.render(door(plan(settings, 2), Access(), {}, {}), PLACE)


def rendered(
    settings: Settings, attached: tuple[str, ...] = (), seats: tuple[Seat, ...] = ()
) -> str:
    planned = plan(settings, 4, seats)
    text = overlay.render(settings, programs(planned, Path("/model")), attached)
    return text.replace(str(ROOT), "PROJECT")


def test_the_gateway_of_plain_compose_is_the_default_one(
    golden: Callable[[str, str], None],
) -> None:
    text = nginx_text(load())
    golden("../../../compose/gateway/nginx.conf", text)


def test_the_overlay_of_two_replicas(golden: Callable[[str, str], None]) -> None:
    settings = load("replicas=2", "tesseract.tessdata_dir=/data", "docker.subnet=10.1.2.0/24")
    golden("compose-tesseract.yaml", rendered(settings, ("llama", "docling")))


def test_the_overlay_of_two_gpus(golden: Callable[[str, str], None]) -> None:
    golden(
        "compose-vllm-cuda.yaml",
        rendered(load("engine=vllm-cuda", "replicas=2"), seats=(Seat(0, 90), Seat(3, 45))),
    )


def test_the_overlay_of_an_image_that_carries_its_model(
    golden: Callable[[str, str], None],
) -> None:
    settings = load("engine=vllm-cpu", "docker.baked=true")
    golden("compose-baked.yaml", rendered(settings).replace(cloister.VERSION, "VERSION"))


def test_every_variable_of_the_compose_files_has_a_value() -> None:
    texts = [path.read_text() for path in (ROOT / "compose").glob("*.yaml")]
    named = {name for text in texts for name in re.findall(r"\$\{(CLOISTER_\w+)", text)}
    given = overlay.variables(load(), gateway=Path("/g"), model=Path("/m"))
    # The downloader is started as whoever the model store belongs to; the overlay with a model
    # inside is for plain Compose, by hand.
    assert named == {*given, "CLOISTER_USER", "CLOISTER_DEVICE"}


def test_the_compose_files_name_the_version_that_is_built() -> None:
    for path in (ROOT / "compose").glob("*.yaml"):
        tags = re.findall(r"CLOISTER_DOCKER_TAG:-([^}]+)", path.read_text())
        assert set(tags) <= {cloister.VERSION}, path


def test_metrics_are_for_this_machine_only_where_they_were_before() -> None:
    text = nginx_text(load())
    assert "172.30.40.129/32 1;" in text
    closed = nginx_text(load("gateway.metrics_allow=10.0.0.0/8"))
    assert "172.30.40.129" not in closed


def test_vllms_command_line(golden: Callable[[str, str], None]) -> None:
    options = {
        device: Options(
            model="/model",
            device=device,
            load_format="dummy" if device == "cpu" else "safetensors",
            eager=1,
        )
        for device in ("cuda", "cpu")
    }
    options["tuned"] = Options(
        model="/model",
        device="cuda",
        max_num_seqs=256,
        max_num_batched_tokens=16384,
        api_server_count=4,
        quantization="fp8",
        kv_cache_dtype="fp8",
        mm_cache="off",
        further=joined(["--stream-interval=10", '--compilation-config={"level":3,"a":"$b #c"}']),
    )
    found = {
        device: {"command": option.serve(), "environment": option.environment()}
        for device, option in options.items()
    }
    golden("vllm-serve.json", json.dumps(found, indent=2) + "\n")
    for option in options.values():
        assert Options.parse(option.flags()) == option
        assert not any("trust" in word or "api-key" in word for word in option.serve())


@pytest.mark.parametrize(
    ("engine", "gpu", "model", "chosen"),
    [
        ("auto", True, True, "vllm-cuda"),
        ("auto", True, False, "tesseract"),
        ("auto", False, True, "tesseract"),
        ("vllm-cpu", False, False, "vllm-cpu"),
    ],
)
def test_auto_takes_vllm_where_a_gpu_and_a_model_are(
    engine: str,
    gpu: bool,  # noqa: FBT001  # a parameter of the test
    model: bool,  # noqa: FBT001
    chosen: str,
) -> None:
    assert choose(engine, gpu=gpu, model=model) == chosen


# Images


def builds(**options: Any) -> tuple[images.Build, ...]:
    return images.plan_builds(BuildOptions(**options), load().docker, SOURCE)


def test_the_builds(golden: Callable[[str, str], None]) -> None:
    found = images.plan_builds(
        BuildOptions(engine="cpu", local=True), load().docker, SOURCE, authority=Path("/ca.crt")
    )
    text = json.dumps({build.reference: build.arguments for build in found}, indent=2) + "\n"
    golden("builds.json", text.replace(cloister.VERSION, "VERSION"))


def test_the_catalogue_is_what_is_in_the_folders() -> None:
    folders = {path.parent.name for path in (ROOT / "images").glob("*/Dockerfile")}
    assert {image.dockerfile for image in images.catalogue().values()} == folders
    for folder in folders:
        assert (ROOT / "images" / folder / "Dockerfile.dockerignore").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image": "nothing"}, "no image `nothing`; there are gateway"),
        ({"engine": "rocm"}, "no engine `rocm`; there are cuda, cpu"),
        ({"base": "debian:12"}, "`--base` is for one image, and 4 would be built"),
        ({"engine": "cuda", "local": True}, "vllm-cuda has no stand-in base"),
        ({"bake": True}, "`--bake` puts the model into vLLM's image"),
    ],
)
def test_a_wrong_build_is_refused_before_anything_is_built(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ImageError, match=re.escape(words)):
        builds(**options)


def test_a_base_of_ones_own_is_taken_and_told() -> None:
    (build,) = builds(image="vllm-cuda", base="registry.example/vllm@sha256:00")
    assert "--build-arg=BASE=registry.example/vllm@sha256:00" in build.arguments
    label = "--label=org.opencontainers.image.base."
    assert {f"{label}name=registry.example/vllm", f"{label}digest=sha256:00"} < {*build.arguments}


def test_a_baked_model_has_a_layer_a_shard() -> None:
    files = ("a.safetensors", "config.json", "sub/b.safetensors", "sub/c.json", "tokenizer.json")
    assert dockerfile("vllm:1", files).splitlines() == [
        "FROM vllm:1",
        'COPY --chmod=0444 ["config.json", "tokenizer.json", "/model/"]',
        'COPY --chmod=0444 ["sub/c.json", "/model/sub/"]',
        'COPY --chmod=0444 ["a.safetensors", "/model/"]',
        'COPY --chmod=0444 ["sub/b.safetensors", "/model/sub/"]',
    ]


# The health check


def metrics(progress: float, running: float) -> dict[str, float]:
    text = (
        "# HELP vllm:generation_tokens_total tokens\n"
        f'vllm:generation_tokens_total{{engine="0"}} {progress}\n'
        f'vllm:num_requests_running{{engine="0"}} {running}\n'
        'vllm:num_requests_waiting{engine="0"} 0.0\n'
    )
    return totals(text)


@pytest.mark.parametrize(
    ("progress", "running", "last", "verdict"),
    [
        (10, 0, None, "idle"),
        (10, 1, None, "busy"),
        (10, 1, Sight(10, 950), "busy"),
        (10, 1, Sight(10, 800), "hung"),
        (11, 1, Sight(10, 800), "busy"),
        (3, 1, Sight(10, 800), "busy"),  # restarted: its counters began again
        (10, 0, Sight(10, 800), "idle"),
    ],
)
def test_health_is_judged_by_progress(
    progress: float, running: float, last: Sight | None, verdict: str
) -> None:
    found, sight = judge(metrics(progress, running), last, at_s=1000, stall_s=120)
    assert found == verdict
    assert sight.progress == progress


@pytest.mark.parametrize(
    ("loads", "verdicts"),
    [
        ([(0, 10, 0), (900, 10, 0), (1020, 10, 1), (1021, 10, 1)], "idle idle busy hung"),
        ([(0, 10, 1), (119, 11, 1), (238, 11, 1), (240, 11, 1)], "busy busy busy hung"),
        ([(0, 10, 1), (130, 10, 1), (131, 10, 0), (240, 10, 1)], "busy hung idle busy"),
    ],
)
def test_a_stall_is_counted_from_the_last_progress_or_from_when_it_was_last_idle(
    loads: list[tuple[float, float, float]], verdicts: str
) -> None:
    sight, found = None, []
    for at_s, progress, running in loads:
        verdict, sight = judge(metrics(progress, running), sight, at_s=at_s, stall_s=120)
        found.append(verdict)
    assert " ".join(found) == verdicts


def test_the_canary_is_an_image_of_four_tokens() -> None:
    request = json.loads(canary())
    assert request["max_tokens"] == 1
    assert request["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png")


def test_no_compose_file_publishes_a_port_but_the_gateways() -> None:
    for path in (ROOT / "compose").glob("*.yaml"):
        text = path.read_text().replace("!override", "")  # Compose's own tag
        services = yaml.safe_load(text).get("services", {})
        assert {name for name, service in services.items() if "ports" in service} <= {"gateway"}


# Docker itself


@pytest.mark.parametrize(
    ("status", "code", "health", "state"),
    [
        ("exited", 0, None, "stopped"),
        ("exited", 1, None, "failed"),
        ("exited", 137, "unhealthy", "failed"),
        ("dead", 0, None, "failed"),
        ("restarting", 1, None, "backoff"),
        ("running", 0, None, "running"),
        ("running", 0, "starting", "starting"),
        ("running", 0, "unhealthy", "failed"),
    ],
)
def test_a_container_that_ended_by_itself_is_told_from_one_that_was_stopped(
    status: str, code: int, health: str | None, state: str
) -> None:
    told: dict[str, Any] = {"Status": status, "ExitCode": code, "Pid": 0}
    told |= dict.fromkeys(("StartedAt", "FinishedAt"), "2026-11-30T07:50:00.123456789Z")
    told |= {"Health": {"Status": health}} if health else {}
    container = mock.Mock(attrs={"State": told, "Created": "2026-11-30T07:49:00Z"})
    found = states.of("gateway", container)
    assert (found.name, found.state, found.pid) == ("gateway", state, None)


class FakeDocker:
    """As much of the SDK's client as `connect` asks."""

    def __init__(self, version: str) -> None:
        self._version = version

    def version(self) -> dict[str, str]:
        return {"Version": self._version}


@pytest.mark.parametrize("version", ["19.03.15", "1.13.1", "unknown"])
def test_an_engine_that_is_too_old_is_said_so(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docker.from_env", lambda **_: FakeDocker(version))
    with pytest.raises(ToolError, match=re.escape(f"version {version}; expected 20.10")):
        containers.connect()


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (PermissionError(13, "Permission denied"), "usermod -aG docker"),
        (FileNotFoundError(2, "No such file or directory"), "--set runtime=process"),
        (ConnectionRefusedError(111, "Connection refused"), "no Docker engine runs here"),
        (TimeoutError("read timed out"), "does not answer: "),
    ],
)
def test_an_engine_that_cannot_be_reached_is_said_with_what_to_type(
    reason: OSError, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        # As the SDK words it, whose exception keeps no cause.
        raise DockerException(f"Error while fetching server API version: {reason}")

    monkeypatch.setattr("docker.from_env", refuse)
    with pytest.raises(ToolError) as raised:
        containers.connect()
    assert words in str(raised.value)
    assert len(str(raised.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("info", "refused"),
    [
        ({"Runtimes": {"runc": {}}}, True),
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, False),
        ({"Runtimes": {}, "CDISpecDirs": ["/etc/cdi"]}, False),
    ],
)
def test_a_gpu_engine_needs_an_engine_that_gives_gpus(
    info: dict[str, Any],
    refused: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    client = mock.Mock(**{"info.return_value": info})
    if not refused:
        preflight._require_gpu_runtime(client)
        return
    with pytest.raises(DeploymentError, match="no NVIDIA runtime") as raised:
        preflight._require_gpu_runtime(client)
    assert "nvidia-ctk runtime configure" in str(raised.value)


@pytest.mark.parametrize(
    ("subnet", "project", "refused"),
    [
        ("172.30.40.0/24", "another", True),
        ("172.16.0.0/12", "another", True),
        ("172.30.40.0/25", "cloister", False),
        ("172.30.41.0/24", "another", False),
        ("fd00::/64", "another", False),
    ],
)
def test_addresses_that_another_network_has_are_refused(
    subnet: str,
    project: str,
    refused: bool,  # noqa: FBT001
) -> None:
    network = mock.Mock(
        attrs={
            "Labels": {"com.docker.compose.project": project},
            "IPAM": {"Config": [{"Subnet": subnet}]},
        }
    )
    client = mock.Mock(**{"networks.list.return_value": [network]})
    if not refused:
        preflight._require_free_addresses(client, load().docker)
        return
    with pytest.raises(DeploymentError, match=r"docker\.subnet"):
        preflight._require_free_addresses(client, load().docker)


def test_down_waits_until_docker_releases_the_endpoints_of_a_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Seen on Docker 20.10 under load: the containers were gone, and their endpoints not yet."""
    monkeypatch.setattr(sys.modules[DockerRuntime.__module__], "_ENDPOINTS_PAUSE_S", 0.0)
    runtime = DockerRuntime(load("runtime=docker", f"state_dir={tmp_path}"))
    monkeypatch.setattr(runtime, "_containers", lambda: {"gateway": object()})
    errors = [DeploymentError("Compose failed: network x has active endpoints")] * 2
    compose = mock.Mock(side_effect=[*errors, ""])
    monkeypatch.setattr(runtime, "_compose", compose)
    assert runtime.stop()
    assert compose.call_args_list == [mock.call("down", "--remove-orphans")] * 3
    compose.side_effect = DeploymentError("Compose failed: no space left on device")
    with pytest.raises(DeploymentError, match="no space left"):
        runtime.stop()
    assert compose.call_count == 4, "another error is none that passes"
