"""The images as they are built: what is in them, twice the same, the model's way into them."""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import docker
import pytest
from conftest import TAG, Containers
from deployments import ROOT
from hub import COMMIT, Hub, serving

from cloister import images as our_images
from cloister.containers import builder, compose

MODEL = "cloister/tiny"
FILES = {
    "config.json": b'{"model_type": "qwen2_5_vl"}',
    "model.safetensors": os.urandom(3_000_000),
    "tokenizer.json": b"{}",
    "modeling_evil.py": b"raise SystemExit",
    "pytorch_model.bin": b"pickle",
}


@pytest.fixture
def command(images: docker.DockerClient, tmp_path: Path) -> Containers:
    """Commands on the images under test, without a deployment."""
    del images
    (tmp_path / "cloister.yaml").touch()
    return Containers(tmp_path, 0, {"CLOISTER_DOCKER_TAG": TAG, "CLOISTER_GATEWAY_PORT": "8001"})


def test_every_image_is_as_it_has_to_be(command: Containers) -> None:
    facts = {fact["reference"]: fact for fact in command.json("images.test")}
    built = {image.name for image in our_images.catalogue().values() if image.stand_in}
    assert set(facts) == {f"cloister/{name}:{TAG}" for name in built}
    gateway = facts[f"cloister/gateway:{TAG}"]
    assert gateway["size_bytes"] <= 40_000_000
    assert gateway["shells"] == gateway["package_managers"] == []
    assert all(fact["user"] == "10001:10001" and not fact["setuid"] for fact in facts.values())
    listed = {entry["image"]: entry["built"] for entry in command.json("images.list")}
    assert {name for name, digest in listed.items() if digest} == built


def test_an_image_that_is_not_as_it_has_to_be_is_refused(command: Containers) -> None:
    bad = "FROM cloister/gateway:test\nUSER root\nLABEL org.opencontainers.image.title=\n"
    build = [*builder(), "build", "--tag=cloister/gateway:bad", "-"]
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    subprocess.run(build, input=bad, text=True, env=environment, check=True)
    flags = ("--image", "gateway", "--set", "docker.tag=bad")
    said = command.invoke("images.test", *flags, code=5).stderr
    assert "cloister/gateway:bad runs as `root`, not as 10001:10001" in said
    assert "lacks the labels title" in said
    docker.from_env().images.remove("cloister/gateway:bad")
    assert "was not built" in command.invoke("images.test", *flags, code=5).stderr


def test_two_builds_of_one_commit_have_the_same_gateway(images: docker.DockerClient) -> None:
    settings = our_images.Options(image="gateway", local=True)
    from cloister import config  # noqa: PLC0415

    environ = {"CLOISTER_CONFIG": "/dev/null", "CLOISTER_DOCKER_TAG": "again"}
    docker_settings = config.load(environ=environ).settings.docker
    (planned,) = our_images.plan_builds(settings, docker_settings, our_images.source())
    layers = []
    for _ in range(2):
        build = [*builder(), "build", "--no-cache", *planned.arguments]
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        subprocess.run(build, cwd=ROOT, env=environment, check=True, capture_output=True)
        layers.append(images.images.get(planned.reference).attrs["RootFS"]["Layers"])
    images.images.remove(planned.reference)
    assert layers[0] == layers[1]


def download(store: Path, hub: Hub, *, code: int) -> str:
    net = "172.30.252"
    environment = {
        "PATH": "/usr/bin:/bin",
        "CLOISTER_DOCKER_PROJECT": "cloister-download-test",
        "CLOISTER_DOCKER_TAG": TAG,
        "CLOISTER_NET": net,
        "CLOISTER_MODELS": str(store),
        "HF_ENDPOINT": f"http://{net}.193:{hub.port}",
    }
    file = f"--file={ROOT}/compose/compose.yaml"
    run = ("--profile=setup", "run", "--rm", "--no-TTY", "model-downloader", MODEL)
    try:
        done = subprocess.run(
            [*compose(), file, *run],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        down = [*compose(), file, "--profile=setup", "down"]
        subprocess.run(down, env=environment, check=True, capture_output=True)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def store(images: docker.DockerClient, tmp_path: Path) -> Path:
    del images
    made = tmp_path / "models"
    made.mkdir()
    os.chown(made, 10001, 10001)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    return made


def test_a_model_is_downloaded_once_verified_and_never_code(store: Path) -> None:
    with serving(Hub(MODEL, FILES)) as hub:
        assert f"/models/{MODEL}/{COMMIT}" in download(store, hub, code=0)
        folder = store / MODEL / COMMIT
        found = {path.name: path.read_bytes() for path in folder.iterdir()}
        ready = found.pop("READY").decode()
        assert found == {n: c for n, c in FILES.items() if not n.endswith((".py", ".bin"))}
        for name, content in found.items():
            assert f"{hashlib.sha256(content).hexdigest()}  {name}" in ready
        assert [path.name for path in store.iterdir()] == ["cloister"]
        fetched = [path for path in hub.asked if "/resolve/" in path]
        assert not [path for path in fetched if path.endswith((".py", ".bin"))]
        hub.asked.clear()
        download(store, hub, code=0)
        assert [path for path in hub.asked if "/resolve/" in path] == []


def test_wrong_bytes_of_the_right_size_never_become_a_model(store: Path) -> None:
    with serving(Hub(MODEL, FILES, corrupt="model.safetensors")) as hub:
        said = download(store, hub, code=4)
        assert "`model.safetensors` is not what the hub says it is" in said
        assert not (store / MODEL).exists()
        hub.corrupt = ""
        download(store, hub, code=0)
        assert (store / MODEL / COMMIT / "READY").exists()


def test_a_baked_model_is_in_the_image_a_layer_a_shard(
    command: Containers, images: docker.DockerClient, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    contents = {"config.json": b"{}", "a.safetensors": b"a" * 1000, "b.safetensors": b"b" * 1000}
    lines = []
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        lines.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    flags = ("images.build", "--image", "vllm-cpu", "--local", "--bake")
    model = ("--set", f"model.folder={folder}")
    assert "has no READY" in command.invoke(*flags, *model, code=4).stderr
    (folder / "READY").write_text("".join(lines))
    command.invoke(*flags, *model)
    plain = images.images.get(f"cloister/vllm-cpu:{TAG}").attrs["RootFS"]["Layers"]
    baked = images.images.get(f"cloister/vllm-cpu:{TAG}-model").attrs["RootFS"]["Layers"]
    assert len(baked) == len(plain) + 3
    listing: Any = images.containers.run(
        f"cloister/vllm-cpu:{TAG}-model",
        ["-c", "import os; print(sorted(os.listdir('/model')))"],
        entrypoint=["python3"],
        remove=True,
    )
    assert listing.decode().strip() == str(sorted([*contents, "READY"]))
    (folder / "b.safetensors").write_bytes(b"c" * 1000)
    assert "is not what was downloaded" in command.invoke(*flags, *model, code=4).stderr
