"""What is planned for containers, without one."""

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import requests
import yaml
from docker.errors import DockerException
from requests.exceptions import ReadTimeout

import cloister
from cloister import config, containers, gateway, images, sockets
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
from cloister.runtimes import GATEWAY, Changes
from cloister.runtimes.docker import overlay, preflight, states
from cloister.runtimes.docker.runtime import DockerRuntime

ROOT = Path(__file__).parents[2]
PLACE = Place(Path("/run/cloister"), None, Path("/run/spool/access.log"))
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


@pytest.mark.parametrize(
    ("folder", "flags"),
    [
        ("tesseract", ()),
        ("vllm", ("engine=vllm-cuda",)),
        ("vllm-2", ("engine=vllm-cuda", "replicas=2")),
    ],
)
def test_the_gateway_of_plain_compose_is_the_default_one(
    golden: Callable[[str, str], None], folder: str, flags: tuple[str, ...]
) -> None:
    golden(f"../../../compose/gateway/{folder}/nginx.conf", nginx_text(load(*flags)))


def test_the_overlay_of_engines_on_an_internal_network(golden: Callable[[str, str], None]) -> None:
    settings = load("replicas=2", "docker.engine_network=internal")
    golden("compose-internal.yaml", rendered(settings))
    assert any("internal.yaml" in flag for flag in overlay.files(settings, Path("/overlay")))


@pytest.mark.parametrize("engine", ["tesseract", "vllm-cpu"])
def test_an_engine_that_listens_by_tcp_has_no_folder_for_a_socket(engine: str) -> None:
    settings = load(f"engine={engine}", "docker.engine_network=internal")
    (mounts,) = re.findall(r"-1:\n(?:    .*\n)*    volumes: (.*)\n", rendered(settings))
    model = "'${CLOISTER_MODEL_FOLDER}:/model:ro'" if engine == "vllm-cpu" else ""
    assert mounts == f"!override [{model}]"


@pytest.mark.parametrize("flags", [("replicas=2",), ("docker.engine_network=internal",)])
def test_every_folder_of_a_deployment_is_relabelled_where_a_host_has_selinux(
    flags: tuple[str, ...],
) -> None:
    folders = re.findall(r"'(/state/[^']+)'", rendered(load(*flags)))
    assert len(folders) >= 7
    assert all(folder.endswith((":z", ":ro,z")) for folder in folders)


def test_the_gateway_passes_commands_on_to_engines_on_a_network() -> None:
    text = nginx_text(load("replicas=2", "docker.engine_network=internal"))
    assert "location /-/replicas/tesseract-2/ {" in text
    assert "server 172.30.40.11:8000 weight=1" in text
    assert "/-/replicas/" not in nginx_text(load())


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
    given = overlay.variables(load(), Path("/m"))
    # The downloader is started as whoever the model store belongs to; the overlay with a model
    # inside is for plain Compose, by hand.
    assert named == {*given, "CLOISTER_USER", "CLOISTER_DEVICE", "CLOISTER_MODEL"}


@pytest.mark.parametrize(
    ("project", "names"),
    [
        ("cloister", {"vllm-nginx-gateway", "vllm-nanonets-ocr-2", "cloister-tesseract-1"}),
        ("other", {"other-vllm-nginx-gateway", "other-vllm-nanonets-ocr-2", "other-tesseract-1"}),
    ],
)
def test_containers_have_the_names_that_commands_look_for(project: str, names: set[str]) -> None:
    settings = load(f"docker.project={project}")
    given = overlay.variables(settings, None)

    def value(found: re.Match[str]) -> str:
        name, sign, word = found.groups()
        return word if (sign == ":+") == bool(given[name]) else given[name]

    def filled(text: str) -> str:
        inner = re.sub(r"\$\{(\w+)(:-|:\+)?([^${}]*)\}", value, text)
        return inner if inner == text else filled(inner)

    containers = {}
    for path in (ROOT / "compose").glob("*.yaml"):
        text = re.sub("!override|!reset", "", path.read_text())
        for service, described in yaml.safe_load(text).get("services", {}).items():
            if name := described.get("container_name"):
                containers[service] = filled(name)
    assert names <= set(containers.values())
    for service, name in containers.items():
        assert overlay.container_name(settings.docker, service) == name


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
        text = re.sub("!override|!reset", "", path.read_text())  # Compose's own tags
        services = yaml.safe_load(text).get("services", {})
        assert {name for name, service in services.items() if "ports" in service} <= {GATEWAY}


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
    attrs = {"State": told, "Created": "2026-11-30T07:49:00Z", "Image": "sha256:1"}
    container = mock.Mock(attrs=attrs)
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
    monkeypatch.setattr(containers.daemon, "_ENDPOINTS_PAUSE_S", 0.0)
    runtime = DockerRuntime(load("runtime=docker", f"state_dir={tmp_path}"))
    monkeypatch.setattr(runtime, "_containers", lambda: {"gateway": object()})
    for name in ("connect", "sweep"):
        monkeypatch.setattr(containers, name, mock.Mock())
    monkeypatch.setattr(containers, "members", mock.Mock(return_value={}))
    errors = [DeploymentError("Compose failed: network x has active endpoints")] * 2
    compose = mock.Mock(side_effect=[*errors, ""])
    monkeypatch.setattr(runtime, "_compose", compose)
    assert runtime.stop()
    assert compose.call_args_list == [mock.call("down", "--remove-orphans")] * 3
    compose.side_effect = DeploymentError("Compose failed: no space left on device")
    with pytest.raises(DeploymentError, match="no space left"):
        runtime.stop()
    assert compose.call_count == 4, "another error is none that passes"


def test_down_removes_what_an_earlier_one_left_though_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runtime = DockerRuntime(load("runtime=docker", f"state_dir={tmp_path}"))
    monkeypatch.setattr(runtime, "_containers", dict)
    for name in ("connect", "sweep"):
        monkeypatch.setattr(containers, name, mock.Mock())
    monkeypatch.setattr(containers, "members", mock.Mock(return_value={}))
    left = tmp_path / "run" / "http" / "engine-1" / "d"
    left.mkdir(parents=True)
    with monkeypatch.context() as failing:
        failing.setattr(sockets, "remove_all", mock.Mock(side_effect=OSError(5, "no disk")))
        with pytest.raises(DeploymentError, match="cannot be emptied: no disk") as raised:
            runtime.stop()
        assert "sudo rm -rf" in str(raised.value.hint)
    assert not runtime.stop(), "nothing ran"
    assert not (tmp_path / "run" / "http").exists()


def container(folder: Path | None, grace_s: int | None = None) -> mock.Mock:
    """Return a container that listens in a folder of this machine."""
    mounts = [{"Source": "/srv/data", "Destination": "/data"}]
    mounts += [{"Source": str(folder), "Destination": "/run/listen"}] if folder else []
    configured = {} if grace_s is None else {"StopTimeout": grace_s}
    return mock.Mock(attrs={"Mounts": mounts, "Config": configured})


# As a file of the user's own may name its services, whatever the engine.
@pytest.mark.parametrize("name", ["redis-1", "tesseract-1", "gateway"])
def test_a_service_of_the_users_own_leaves_the_sockets_of_others(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runtime = DockerRuntime(load("engine=vllm-cpu", f"state_dir={tmp_path}"))
    # It mounts an engine's folder, as one that `extends` an engine does, or none of ours.
    own = container(tmp_path / "run" / "http" / "engine-1" if name == "redis-1" else None)
    monkeypatch.setattr(runtime, "_containers", lambda: {name: own})
    served = [tmp_path / "run" / "http" / folder / "sock" for folder in ("engine-1", "gateway")]
    with contextlib.ExitStack() as listening:
        for path in served:
            path.parent.mkdir(parents=True)
            listening.enter_context(contextlib.closing(sockets.listen(path)))
        runtime.start(name)
        runtime.remove({name})
        assert all(map(sockets.is_served, served))
    own.start.assert_called_once()
    own.remove.assert_called_once()


def test_a_container_that_starts_or_goes_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "run" / "http" / "engine-1"
    folder.mkdir(parents=True)
    runtime = DockerRuntime(load(f"state_dir={tmp_path}"))
    monkeypatch.setattr(runtime, "_containers", lambda: {"tesseract-1": container(folder)})
    (folder / "page.md").write_text("text")
    runtime.start("tesseract-1")
    assert list(folder.iterdir()) == []
    runtime.remove({"tesseract-1"})
    assert not folder.exists()


def test_a_container_that_is_replaced_leaves_nothing_to_the_next_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither does one that somebody removed; and those that stay keep their sockets."""
    settings = load(f"state_dir={tmp_path}", "replicas=3")
    runtime = DockerRuntime(settings)
    names = ("tesseract-1", "tesseract-3", "exporter", "redis")
    monkeypatch.setattr(runtime, "_containers", lambda: dict.fromkeys(names, container(None)))
    changes = Changes(frozenset({"tesseract-2"}), frozenset({"tesseract-1", "exporter", "redis"}))
    monkeypatch.setattr(runtime, "changes", lambda _: changes)
    left = [tmp_path / "run" / "http" / f"engine-{number}" / "page.md" for number in (1, 2, 3)]
    for path in left:
        path.parent.mkdir(parents=True)
        path.write_text("text")
    calls = []

    def compose(*arguments: str) -> str:
        stops = arguments[0] == "stop"
        calls.append(arguments if stops else arguments[-3:])
        assert [path.exists() for path in left] == [stops, stops, True]
        return ""

    monkeypatch.setattr(runtime, "_compose", compose)
    only = {"tesseract-1", "tesseract-2", "redis"}
    inside = tuple(one for one in programs(plan(settings, 4), None) if one.role != "watchdog")
    assert runtime.apply(inside, only) == ("redis", "tesseract-1", "tesseract-2")
    assert calls == [("stop", "tesseract-1"), ("redis", "tesseract-1", "tesseract-2")]


def test_docker_is_given_the_time_that_a_container_needs_to_stop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The SDK waits 10 s longer than for any answer where it is told no time."""
    runtime = DockerRuntime(load(f"state_dir={tmp_path}"))
    slow, users = container(None, 310), container(None)
    monkeypatch.setattr(runtime, "_containers", lambda: {"gateway": slow, "redis": users})
    runtime.remove({"gateway", "redis"})
    slow.stop.assert_called_once_with(timeout=310)
    users.stop.assert_called_once_with(timeout=None)
    runtime.halt("gateway")
    assert slow.stop.call_args == mock.call(timeout=310)


@pytest.mark.parametrize(
    "error",
    [
        ReadTimeout("UnixHTTPConnectionPool(host='localhost'): Read timed out."),
        requests.exceptions.ConnectionError("Remote end closed connection without response"),
    ],
)
def test_an_engine_that_goes_silent_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runtime = DockerRuntime(load(f"state_dir={tmp_path}"))
    stuck = container(None)
    stuck.stop.side_effect = stuck.logs.side_effect = error
    monkeypatch.setattr(runtime, "_containers", lambda: {"tesseract-1": stuck})
    for ask in (lambda: runtime.halt("tesseract-1"), lambda: runtime.tail("tesseract-1", 1)):
        with pytest.raises(ToolError, match=re.escape(f"does not answer: {error}")):
            ask()
    client = mock.Mock(**{"version.side_effect": error})
    monkeypatch.setattr("docker.from_env", lambda **_: client)
    with pytest.raises(ToolError, match="does not answer"):
        containers.connect()


def test_no_container_makes_links_nodes_or_attributes_beside_its_socket() -> None:
    """A link leads elsewhere; an attribute holds text that no list of the folder shows."""
    profile = json.loads((ROOT / "compose" / "seccomp.json").read_text())
    allowed = {name for rule in profile["syscalls"] for name in rule["names"]}
    forbidden = {"symlink", "symlinkat", "mknod", "mknodat"}
    forbidden |= {"setxattr", "lsetxattr", "fsetxattr", "setxattrat"}
    assert not forbidden & allowed
