"""A model's whole way: from a hub, by the downloader's container, to vLLM, mounted and baked in.

Its weights are noise in the shapes and names of the real ones, in several shards, with the real
checkpoint's fault: `tie_word_embeddings` is false outside, and there is no head.
"""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
from conftest import TAG, Containers
from deployments import ROOT, eventually
from hub import COMMIT, Hub, serving
from pages import data_url, encoded, page, request

from cloister.containers import compose
from cloister.containers.execs import execute

MODEL = "nanonets/Nanonets-OCR2-3B"
_WEIGHTS = """
import json, pathlib, transformers, torch
folder = pathlib.Path("/model")
config = transformers.AutoConfig.from_pretrained(folder)
torch.manual_seed(4)
model = transformers.AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
model.save_pretrained(folder, max_shard_size="200KB")
text = json.loads((folder / "config.json").read_text())
text["tie_word_embeddings"] = False
text["text_config"]["tie_word_embeddings"] = True
(folder / "config.json").write_text(json.dumps(text))
"""


@pytest.fixture(scope="module")
def files(
    images: docker.DockerClient,
    vllm_image: None,
    tiny_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, bytes]:
    """The model as a repository has it, made by transformers itself."""
    del vllm_image
    folder = tmp_path_factory.mktemp("weights") / "model"
    shutil.copytree(tiny_model, folder)
    images.containers.run(
        f"cloister/vllm-cpu:{TAG}",
        ["-c", _WEIGHTS],
        entrypoint=["python3"],
        user="0:0",
        network_mode="none",
        volumes={str(folder): {"bind": "/model", "mode": "rw"}},
        remove=True,
    )
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    shards = [name for name in found if name.endswith(".safetensors")]
    assert len(shards) >= 2
    assert b"lm_head" not in b"".join(found[name][:100_000] for name in shards)
    return found | {"modeling_evil.py": b"raise SystemExit", "pytorch_model.bin": b"\x80\x02."}


@pytest.fixture(scope="module")
def made(
    make_containers: Callable[..., Containers], tmp_path_factory: pytest.TempPathFactory
) -> Containers:
    store = tmp_path_factory.mktemp("models")
    for folder in (store, *store.parents[:2]):
        folder.chmod(0o755)
    return make_containers(
        engine="vllm-cpu",
        model_store=store,
        vllm_eager="true",
        vllm_kv_cache_gib=1,
        vllm_max_model_len=4096,
        vllm_max_pixels=401_408,
        ocr_max_tokens=128,  # noise goes on as long as it may
        healing_enabled="false",  # it would restart the one that reads noise
    )


def store(made: Containers) -> Path:
    return Path(made.settings["CLOISTER_MODEL_STORE"])


@contextmanager
def reaching(made: Containers, chosen: Hub) -> Iterator[Hub]:
    """Serve a hub where the downloader's container looks for it."""
    with serving(chosen) as hub:
        net = made.settings["CLOISTER_DOCKER_SUBNET"].rpartition(".")[0]
        made.settings["HF_ENDPOINT"] = f"http://{net}.193:{hub.port}"
        yield hub
        del made.settings["HF_ENDPOINT"]


@pytest.fixture
def hub(made: Containers, files: dict[str, bytes]) -> Iterator[Hub]:
    with reaching(made, Hub(MODEL, files, token="hf_secret")) as hub:  # noqa: S106
        made.settings["HF_TOKEN"] = "hf_secret"  # noqa: S105
        yield hub
        del made.settings["HF_TOKEN"]


@pytest.fixture
def downloaded(made: Containers, files: dict[str, bytes]) -> None:
    """The model in the store, also where the test of its download was not run."""
    if not (store(made) / MODEL / COMMIT / "READY").exists():
        with reaching(made, Hub(MODEL, files)):
            made.invoke("download")


def test_the_container_downloads_what_is_served_and_shows_no_token(
    made: Containers, hub: Hub
) -> None:
    hub.pace = 20_000_000
    seen: list[str] = []
    done = threading.Event()
    held = ExitStack()

    def look() -> None:
        client = docker.from_env()
        flags: dict[str, Any] = {"label": f"com.docker.compose.project={made.project}"}
        while not done.is_set():
            found = client.containers.list(filters=flags, ignore_removed=True)
            seen.extend(json.dumps(c.attrs) for c in found)
            if seen:
                held.close()

    held.enter_context(hub.guard)  # nothing is served before the container was seen
    looking = threading.Thread(target=look)
    looking.start()
    try:
        said = made.invoke("download")
    finally:
        done.set()
        looking.join()
        held.close()
    assert "every byte verified" in said.stdout
    assert "licence: none declared" in said.stderr
    assert seen
    assert not [text for text in seen if "hf_secret" in text]
    folder = store(made) / MODEL / COMMIT
    found = {path.name for path in folder.iterdir()}
    assert found == {n for n in hub.files if not n.endswith((".py", ".bin"))} | {"READY"}
    assert not [path for path in hub.asked if path.endswith((".py", ".bin"))]
    hub.asked.clear()
    made.invoke("download")
    assert hub.asked == []
    subprocess.run(["sha256sum", "--check", "--quiet", "READY"], cwd=folder, check=True)


def test_what_the_container_refuses_comes_back_with_its_code(made: Containers, hub: Hub) -> None:
    said = made.invoke("download", "--revision", "nope", code=4).stderr
    assert "error: the hub has no such revision" in said
    made.settings["HF_TOKEN"] = "hf_wrong"  # noqa: S105
    assert "HF_TOKEN" in made.invoke("download", "--revision", "main", code=4).stderr
    assert "hf_wrong" not in said
    assert hub.asked


@pytest.mark.usefixtures("downloaded")
def test_noise_gets_no_pages_until_it_is_called_noise(made: Containers) -> None:
    """The hub is gone; the weights are served read-only, with the override of the profile."""
    said = made.invoke("up", code=6, timeout_s=1800).stderr
    assert "cannot read" in said
    body = request(data_url(encoded(page("Page 2345"))), max_tokens=8)
    url = f"{made.url}/v1/chat/completions"
    refused = requests.post(url, json=body, timeout=60)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_replica")
    container = made.container("vllm-nanonets-ocr-1")
    said = made.invoke("up", "--set", "model.synthetic=true", timeout_s=1800).stderr
    assert "the weights are noise" in said
    assert made.container("vllm-nanonets-ocr-1").id == container.id
    answer = requests.post(url, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 8
    mounts = {mount["Destination"]: mount["RW"] for mount in container.attrs["Mounts"]}
    assert mounts == {"/model": False, "/run/listen": True}
    assert "--tie-word-embeddings=true" in container.attrs["Args"]
    # What is served is not removed.
    flags = ("--model", MODEL, "--set", "model.synthetic=true")
    assert "is being served" in made.invoke("models.remove", *flags, code=4).stderr
    assert "files are what was locked" in made.invoke("models.verify").stdout


@pytest.mark.usefixtures("downloaded")
def test_an_image_carries_the_model_and_needs_no_mount(
    made: Containers, images: docker.DockerClient
) -> None:
    made.invoke("images.build", "--image", "vllm-cpu", "--local", "--bake", timeout_s=2400)
    plain = images.images.get(f"cloister/vllm-cpu:{TAG}").attrs["RootFS"]["Layers"]
    baked = images.images.get(f"cloister/vllm-cpu:{TAG}-model").attrs["RootFS"]["Layers"]
    shards = list((store(made) / MODEL / COMMIT).glob("*.safetensors"))
    assert len(baked) == len(plain) + 1 + len(shards)
    flags = ("--set", "model.synthetic=true", "--set", "docker.baked=true")
    made.invoke("up", *flags, "--set", f"model.store={store(made)}-none", timeout_s=1800)
    (mount,) = made.container("vllm-nanonets-ocr-1").attrs["Mounts"]
    assert mount["Destination"] == "/run/listen"
    eventually(lambda: _reads(made))
    made.invoke("down", timeout_s=900)
    images.images.remove(f"cloister/vllm-cpu:{TAG}-model")


def _reads(made: Containers) -> None:
    body = request(data_url(encoded(page("Page 2345"))), max_tokens=8)
    answer = requests.post(f"{made.url}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text


@pytest.mark.usefixtures("downloaded")
def test_a_changed_byte_is_neither_verified_nor_baked(made: Containers) -> None:
    shard = sorted((store(made) / MODEL / COMMIT).glob("*.safetensors"))[1]
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    said = made.invoke("models.verify", code=4).stderr
    assert f"{shard.name}` is not what was downloaded" in said
    bake = ("images.build", "--image", "vllm-cpu", "--local", "--bake")
    assert "is not what was downloaded" in made.invoke(*bake, code=4, timeout_s=2400).stderr
    made.invoke("models.remove", "--model", MODEL)
    assert not list(store(made).rglob("*.safetensors"))


_SMALL = """
services:
  vllm-nanonets-ocr-1: &small
    command: ["--model=/model", "--device=cpu", "--listen=unix:/run/listen/sock", "--eager=1",
      "--kv-cache-gib=1", "--max-model-len=4096", "--max-pixels=401408"]
  vllm-nanonets-ocr-2: *small
"""


def test_a_checkout_needs_nothing_but_compose(
    make_containers: Callable[..., Containers], files: dict[str, bytes], tmp_path: Path
) -> None:
    """Download, up, ps, logs, health, two replicas, and a container of another project."""
    place = make_containers()  # for a project, a subnet and a port that nobody else has
    net, prefix = place.settings["CLOISTER_DOCKER_SUBNET"].rpartition(".")[0], f"{place.project}-"
    (tmp_path / "small.yaml").write_text(_SMALL)
    environment = {
        "PATH": "/usr/bin:/bin",
        "CLOISTER_DEVICE": "cpu",
        "CLOISTER_DOCKER_PROJECT": place.project,
        "CLOISTER_DOCKER_TAG": TAG,
        "CLOISTER_GATEWAY_PORT": str(place.port),
        "CLOISTER_NET": net,
    }
    chosen = ("compose.yaml", "compose/second-cpu.yaml", str(tmp_path / "small.yaml"))
    command = [*compose(), *(f"--file={name}" for name in chosen)]

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [*command, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    client = docker.from_env()
    other = client.networks.create(f"{prefix}other")
    engine = f"{prefix}vllm-nanonets-ocr-1"
    try:
        with serving(Hub(MODEL, files)) as hub:
            environment["HF_ENDPOINT"] = f"http://{net}.193:{hub.port}"
            run("--profile=setup", "up", "model-downloader")
        run("up", "--detach", "--wait", "--wait-timeout=1500")
        listed = run("ps", "--format={{.Service}} {{.State}}").splitlines()
        names = ("exporter", "vllm-nanonets-ocr-1", "vllm-nanonets-ocr-2", "vllm-nginx-gateway")
        assert sorted(listed) == [f"{name} running" for name in names]
        assert "/run/listen/sock" in run("logs", "vllm-nanonets-ocr-1")
        assert requests.get(f"{place.url}/health", timeout=30).status_code == 200
        served = [_served(place) for _ in range(4)]
        assert set(served) == {"vllm-nanonets-ocr-1", "vllm-nanonets-ocr-2"}
        gateway = f"{prefix}vllm-nginx-gateway"
        subprocess.run(["docker", "network", "connect", str(other.name), gateway], check=True)
        ask = ["python3", "-m", "cloister.inside.ask"]
        other_project = client.containers.run(
            f"cloister/exporter:{TAG}",
            [],
            entrypoint=["python3", "-c", "import signal; signal.pause()"],
            network=other.name,
            detach=True,
        )
        try:
            models = execute(other_project, [*ask, f"http://{gateway}/v1/models"], within_s=300)
            assert MODEL.encode() in models[1]
        finally:
            other_project.remove(force=True)
        # In the engine's own container there is nothing to send by, and its health has a socket.
        code = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"
        tried = execute(client.containers.get(engine), ["python3", "-c", code], within_s=300)
        assert b"Network is unreachable" in tried[2]
        inside = client.containers.get(f"{prefix}exporter")
        health = "http+unix://%2Frun%2Fhttp%2Fengine-1%2Fsock/health"
        assert json.loads(execute(inside, [*ask, health], within_s=300)[1])["status"] == 200
    finally:
        run("down", "--volumes")
        other.remove()


def _served(place: Containers) -> str:
    body = request(data_url(encoded(page("Page 1234"))), max_tokens=4)
    answer = requests.post(f"{place.url}/v1/chat/completions", json=body, timeout=300)
    assert answer.status_code == 200, answer.text
    return answer.headers["X-Cloister-Replica"]
