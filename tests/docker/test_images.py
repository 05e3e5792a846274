"""The images as they are built: what is in them, twice the same, the model's way into them."""

import os
import subprocess
from pathlib import Path

import docker
import pytest
from conftest import TAG, Containers
from deployments import ROOT
from downloads import run_patiently

from cloister import images as our_images
from cloister.containers import builder

_BASE = "--build-arg=BASE="


@pytest.fixture
def command(images: docker.DockerClient, tmp_path: Path) -> Containers:
    """Commands on the images under test, without a deployment."""
    del images
    (tmp_path / "cloister.yaml").touch()
    return Containers(tmp_path, 0, {"CLOISTER_DOCKER_TAG": TAG, "CLOISTER_GATEWAY_PORT": "8001"})


@pytest.mark.usefixtures("vllm_image")
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
    bad = f"FROM cloister/gateway:{TAG}\nUSER root\nLABEL org.opencontainers.image.title=\n"
    build = [*builder(), "build", f"--tag=cloister/gateway:{TAG}-bad", "-"]
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    subprocess.run(build, input=bad, text=True, env=environment, check=True)
    flags = ("--image", "gateway", "--set", f"docker.tag={TAG}-bad")
    said = command.invoke("images.test", *flags, code=5).stderr
    assert f"cloister/gateway:{TAG}-bad runs as `root`, not as 10001:10001" in said
    assert "lacks the labels title" in said
    docker.from_env().images.remove(f"cloister/gateway:{TAG}-bad")
    assert "was not built" in command.invoke("images.test", *flags, code=5).stderr


@pytest.mark.parametrize("name", ["gateway", "exporter"])
def test_two_builds_of_one_commit_have_the_same_layers(
    images: docker.DockerClient, name: str
) -> None:
    settings = our_images.Options(image=name, local=True)
    from cloister import config  # noqa: PLC0415

    environ = {"CLOISTER_CONFIG": "/dev/null", "CLOISTER_DOCKER_TAG": f"{TAG}-again"}
    docker_settings = config.load(environ=environ).settings.docker
    authority = our_images.authority()
    (planned,) = our_images.plan_builds(
        settings, docker_settings, our_images.source(), authority=authority
    )
    (given,) = [one for one in planned.arguments if one.startswith(_BASE)]
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    # What is built without the cache replaces what the cache has, from which other tests build at
    # the same time. So this is on a base that nothing else is built on.
    own = f"cloister-base/again:{TAG}-{name}"
    text = f"FROM {given.removeprefix(_BASE)}\nRUN touch /again\n"
    base = [*builder(), "build", f"--tag={own}", "-"]
    subprocess.run(base, input=text, text=True, env=environment, check=True)
    layers = []
    for _ in range(2):
        build = [*builder(), "build", "--no-cache", f"{_BASE}{own}", *planned.arguments]
        build.remove(given)
        run_patiently(build, cwd=ROOT, env=environment)
        layers.append(images.images.get(planned.reference).attrs["RootFS"]["Layers"])
    for reference in (planned.reference, own):
        images.images.remove(reference)
    assert layers[0] == layers[1]
