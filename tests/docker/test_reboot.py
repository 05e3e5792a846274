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


def started(engine: PrivateEngine) -> dict[str, str]:
    """Return when each running container was started."""
    listed = ("docker", f"--host={engine.host}", "ps", "--quiet", "--no-trunc")
    running = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split()
    form = "--format={{.Name}} {{.State.StartedAt}}"
    told = subprocess.run(
        [*listed[:2], "inspect", form, *running], check=True, capture_output=True, text=True
    )
    return dict(line.split() for line in told.stdout.splitlines())


def test_containerd_is_killed_and_no_page_is_lost(
    engine: PrivateEngine, service: Containers
) -> None:
    body = request(data_url(encoded(page("Page 2345"))))
    with engine.network():
        before = started(engine)
        with load(service.url, page=body, at_once=2, pause_s=0.5, patience_s=_BACK_S) as outcome:
            sent(outcome, 3)
            engine.kill_containerd()
            sent(outcome, 3)
            eventually(lambda: invoke(service, "status"), within_s=_BACK_S)
        assert outcome.lost == 0, str(outcome)
        assert started(engine) == before


def test_containers_that_outlive_the_engine_are_not_started_again(
    engine: PrivateEngine, service: Containers
) -> None:
    body = request(data_url(encoded(page("Page 2345"))))
    with engine.network():
        engine.end(signal.SIGTERM)
        engine.keeps_containers = True
        engine.start()
        eventually(lambda: invoke(service, "status"), within_s=_BACK_S)
        before = started(engine)
        with load(service.url, page=body, at_once=2, pause_s=0.5, patience_s=_BACK_S) as outcome:
            sent(outcome, 3)
            engine.end(signal.SIGTERM)
            # No page is read meanwhile: docker-proxy, which has the port, ends with dockerd.
            invoke(service, "status", code=10)
            engine.start()
            eventually(lambda: invoke(service, "status"), within_s=_BACK_S)
            sent(outcome, 3)
        assert outcome.lost == 0, str(outcome)
        assert started(engine) == before
