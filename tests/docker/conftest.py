"""Real containers: our images on stand-in bases, started by the real commands and by Compose.

Without a Docker engine these tests are skipped with the reason; with CI=true that is a failure.
"""

import fcntl
import gc
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NoReturn, Self

import docker
import pytest
import requests
from deployments import ROOT, WORKERS, Claims, Stack, eventually, free_ports
from docker.errors import DockerException
from downloads import run_patiently

from benchmarks import synthetic_model
from cloister.containers.execs import execute
from cloister.files import exclusive
from suites.strict import is_strict

# Of images: each checkout has its own, so that runs of two of them do not exchange their images.
TAG = f"test-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"
_NUMBERS = Claims("subnet", range(1, 150))  # of projects and their subnets
_BUILD_S = 3600
# Of scripts/prerequisites.sh: the run that started the engine does not stop it under another one.
_DOCKERD_FILE = Path("/run/cloister-dockerd")


# The longest files first, or one worker is left with them at the end. The first needs no vLLM,
# whose image is being built meanwhile.
_ORDER = ("test_bundle", "test_vllm", "test_tune", "test_verify", "test_model", "test_publishing")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _ORDER.index(item.path.stem) if item.path.stem in _ORDER else 99)


def skip(reason: str) -> NoReturn:
    """Skip a test for what this machine lacks; in CI that is a failure."""
    if is_strict():
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
    """The engine, or the reason why there is none."""
    with ExitStack() as held:
        if os.access(_DOCKERD_FILE, os.R_OK):
            fcntl.flock(held.enter_context(_DOCKERD_FILE.open()), fcntl.LOCK_SH)
        found = _connect()
        if isinstance(found, str):
            skip(f"no Docker engine: {found}")
        yield held.enter_context(closing(found))


def _connect() -> docker.DockerClient | str:
    """Return the engine, or why there is none.

    Where nobody answers, docker's client drops its socket without closing it, and only the frames
    of the exception have it. They go here: a test that is skipped keeps its reason to the end.
    """
    with warnings.catch_warnings(category=ResourceWarning, action="ignore"):
        try:
            found = docker.from_env()
            found.ping()
        except DockerException as error:
            reason = str(error)
        else:
            return found
        gc.collect()
    return reason


@pytest.fixture(scope="session")
def images(
    client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> docker.DockerClient:
    """Build what is tested on a stand-in for Debian, under a tag of its own."""
    _build_once(tmp_path_factory, "debian")
    return client


@pytest.fixture(scope="session")
def vllm_image(client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Build vLLM's image, in minutes in which another worker builds the others and tests them."""
    del client
    _build_once(tmp_path_factory, "vllm-cpu", "--image", "vllm-cpu")


def _build_once(factory: pytest.TempPathFactory, base: str, *chosen: str) -> None:
    """Build the chosen images in the first worker that needs them; the others wait."""
    folder = factory.getbasetemp()
    if WORKERS > 1:
        folder = folder.parent  # the one that the workers of this run share
    outcome = folder / f"{base}.txt"
    with exclusive(folder / f"{base}.lock", wait_s=_BUILD_S):
        if not outcome.exists():
            outcome.write_text(f"the images on {base} failed to build in another worker")
            # The script itself tries again what it gets from a mirror.
            script = str(ROOT / "scripts" / "local-bases.sh")
            subprocess.run([script, base], check=True, timeout=_BUILD_S)
            build = ["images.build", "--local", *chosen, "--set", f"docker.tag={TAG}"]
            environment = {**os.environ, "CLOISTER_CONFIG": "/dev/null"}
            command = [sys.executable, "-m", "invoke", *build]
            run_patiently(
                command, within_s=_BUILD_S / 2, cwd=ROOT, env=environment, timeout=_BUILD_S
            )
            outcome.write_text("")
    if outcome.read_text():
        pytest.fail(outcome.read_text())


class Registry:
    """A real registry on this machine that can be killed; engines speak plain HTTP to loopback."""

    def __init__(self, folder: Path) -> None:
        self.address, self.log = f"127.0.0.1:{free_ports(1)}", folder / "log"
        self._config = folder / "config.yml"
        storage = {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
        }
        written = {"version": 0.1, "storage": storage, "http": {"addr": self.address}}
        self._config.write_text(json.dumps(written))

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = ["docker-registry", "serve", str(self._config)]
            self._program = subprocess.Popen(command, stdout=log, stderr=log)
        url = f"http://{self.address}/v2/"
        eventually(lambda: requests.get(url, timeout=5).raise_for_status(), within_s=120)

    def kill(self) -> None:
        self._program.kill()
        self._program.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def required(program: str) -> None:
    """Skip without a program, with the reason; in CI that is a failure."""
    if shutil.which(program) is None:
        skip(f"`{program}` is not installed")


@pytest.fixture(scope="session")
def registry_program(
    client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    """A registry, empty at first."""
    del client
    required("docker-registry")
    with Registry(tmp_path_factory.mktemp("registry")) as made:
        yield made


@pytest.fixture(scope="session")
def registry(registry_program: Registry) -> str:
    """Its address."""
    return registry_program.address


@pytest.fixture(scope="session")
def tiny_model() -> Iterator[Path]:
    """A model with the right shapes but for their size, and without weights."""
    folder = Path(tempfile.mkdtemp(prefix="cloister-model-"))
    folder.chmod(0o755)
    synthetic_model.write(folder / "tiny", "tiny")
    yield folder / "tiny"
    shutil.rmtree(folder)


class Containers(Stack):
    """A deployment in containers."""

    @property
    def project(self) -> str:
        return self.settings["CLOISTER_DOCKER_PROJECT"]

    def invoke(
        self, *arguments: str, code: int = 0, timeout_s: float = 1800
    ) -> subprocess.CompletedProcess[str]:
        """Run a task as a user would; images and containers take their time."""
        return super().invoke(*arguments, code=code, timeout_s=timeout_s)

    def container(self, service: str) -> Any:
        return docker.from_env().containers.get(f"{self.project}-{service}")

    def execute(self, service: str, *command: str) -> tuple[int | None, str]:
        """Run a command inside a container; return its exit code, and its output and errors."""
        code, output, errors = execute(self.container(service), command, within_s=300)
        return code, (output + errors).decode()

    def verify(self, *arguments: str, code: int = 0) -> dict[tuple[str, str], dict[str, str]]:
        """Return the findings of `invoke verify` by place and check."""
        report = self.json("verify", *arguments, code=code)
        assert report["sealed"] is (code == 0)
        return {(f["subject"], f["check"]): f for f in report["findings"]}


def _remove_leftovers(prefix: str) -> None:
    """Remove what a killed run left of a project whose number is free: it is nobody's."""
    with closing(docker.from_env()) as engine:
        # Docker takes a filter for a pattern; the names of containers begin with a slash.
        mine: dict[str, Any] = {"name": f"^/?{prefix}"}
        for container in engine.containers.list(all=True, filters=mine, ignore_removed=True):
            container.remove(force=True)
        for network in engine.networks.list(filters=mine):
            network.reload()  # a list has no containers
            for attached in network.containers:
                network.disconnect(attached, force=True)
            network.remove()


@pytest.fixture(scope="module")
def make_containers(images: docker.DockerClient) -> Iterator[Callable[..., Containers]]:
    """Make deployments in containers, each with a project and addresses of its own."""
    del images
    with ExitStack() as cleanup:

        def make(**settings: object) -> Containers:
            state = Path(tempfile.mkdtemp(prefix="cloister-"))
            state.chmod(0o755)
            cleanup.callback(shutil.rmtree, state)
            (state / "cloister.yaml").touch()
            port, number = free_ports(10), _NUMBERS.take()
            assert number is not None, "other runs of the tests hold all subnets"
            _remove_leftovers(f"cloister-test-{number}-")
            defaults = {
                "runtime": "docker",
                "engine": "tesseract",
                "docker_tag": TAG,
                "docker_project": f"cloister-test-{number}",
                "docker_subnet": f"172.30.{100 + number}.0/24",
                # Docker inspects every container at each look, and the machine is busy with the
                # tests. Tests of what a watchdog finds have it look more often.
                "healing_interval_s": 30,
                "healing_silence_s": 120,  # some looks that a busy machine leaves without answer
            }
            text = {
                f"CLOISTER_{key.upper()}": str(value)
                for key, value in {**defaults, **settings}.items()
            }
            made = Containers(state, port, text)
            cleanup.callback(made.invoke, "down")
            return made

        yield make
