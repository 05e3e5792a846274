"""The Docker engine is stopped and killed under load: every program of the service comes back."""

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
from conftest import TAG, Containers, required
from deployments import ROOT, eventually
from load import load
from load import until as sent
from pages import data_url, encoded, page, request
from private_engine import PrivateEngine
from repetitions import REPETITIONS

_BACK_S = 400  # Tesseract has 120 s to start, and this machine may be busy


@pytest.fixture(scope="module")
def engine(images: docker.DockerClient) -> Iterator[PrivateEngine]:
    del images  # they are built
    required("dockerd")
    # A socket's path ends at 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="cloister-engine-"))
    with PrivateEngine(folder) as made:
        made.load(
            *(f"cloister/{name}:{TAG}" for name in ("engine-tesseract", "exporter", "gateway"))
        )
        yield made
    shutil.rmtree(folder)


def invoke(service: Containers, *arguments: str, code: int = 0) -> None:
    """Run a task in this thread's network, which is not that of the tests' command server."""
    done = subprocess.run(
        [sys.executable, "-m", "invoke", *arguments],
        cwd=ROOT,
        env=service.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def service(engine: PrivateEngine, make_containers: Callable[..., Containers]) -> Containers:
    made = make_containers(tesseract_workers=1, replicas=2, healing_interval_s=2)
    made.settings["DOCKER_HOST"] = engine.host
    with engine.network():
        invoke(made, "up")
    return made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda one: one.name)
def test_everything_is_back_after_the_engine_was_away(
    engine: PrivateEngine, service: Containers, number: signal.Signals
) -> None:
    body = request(data_url(encoded(page("Page 2345"))))
    with engine.network():
        for _ in range(REPETITIONS.reboots):
            with load(
                service.url, page=body, at_once=2, pause_s=0.5, patience_s=_BACK_S
            ) as outcome:
                sent(outcome, 3)
                engine.end(number)
                invoke(service, "status", code=10)
                engine.start()
                eventually(lambda: invoke(service, "status"), within_s=_BACK_S)
                sent(outcome, 3)
            assert outcome.lost == 0, str(outcome)
