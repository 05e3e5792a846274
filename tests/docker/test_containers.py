"""The docker runtime with the embedded engine, as a user meets it."""

import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import pytest
import requests
from conftest import TAG, Containers
from deployments import ROOT, SAMPLES, eventually
from fleets import events, happened, known, standings
from pages import data_url, encoded, page, request

from cloister.containers import compose
from cloister.scoring import cer


@pytest.fixture(scope="module")
def up(make_containers: Callable[..., Containers]) -> Containers:
    made = make_containers(replicas=2, healing_interval_s=10, healing_silence_s=60)
    made.invoke("up")
    return made


def read(made: Containers, text: str, **fields: object) -> requests.Response:
    body = request(data_url(encoded(page(text))), **fields)
    return requests.post(f"{made.url}/v1/chat/completions", json=body, timeout=60)


def test_a_page_is_read_through_the_gateway(up: Containers) -> None:
    text = up.invoke("ocr", str(SAMPLES / "letter.png")).stdout
    assert cer((SAMPLES / "letter.md").read_text(), text) < 0.03, text


def test_status_health_and_metrics_tell_of_every_replica(up: Containers) -> None:
    def running() -> None:
        status = up.json("status")
        assert {p["name"]: p["state"] for p in status["programs"]} == dict.fromkeys(
            ("exporter", "tesseract-1", "tesseract-2", "gateway", "watchdog"), "running"
        )
        assert all((program["memory_mib"] or 0) > 0 for program in status["programs"])
        replicas = [p for p in status["programs"] if p["name"].startswith("tesseract")]
        # Not while one reads a test page of the watchdog's.
        assert all(replica["running"] == 0 for replica in replicas)

    def told() -> None:
        metrics = requests.get(f"{up.url}/metrics", timeout=10).text
        for number in (1, 2):
            assert f'cloister_replica_up{{replica="tesseract-{number}"}} 1.0' in metrics

    # Old engines make their first health check only after a whole interval.
    eventually(running, within_s=400)
    assert up.json("health")["engine"].startswith("tesseract/")
    eventually(told)


def test_a_stream_and_an_error_come_through(up: Containers) -> None:
    streamed = read(up, "Page 2345", stream=True)
    assert streamed.text.rstrip().endswith("data: [DONE]")
    assert "2345" in streamed.text
    refused = requests.get(f"{up.url}/version", timeout=10)
    assert refused.status_code == 404
    assert refused.json()["error"]["code"] == "unknown_url"


def test_logs_name_every_request_without_its_body(up: Containers) -> None:
    headers = read(up, "Page 7777").headers
    identity = headers["X-Request-ID"]
    assert headers["X-Cloister-Replica"] in {"tesseract-1", "tesseract-2"}

    def logged() -> str:
        lines = up.invoke("logs", "--name", "gateway", "--lines", "50").stdout.splitlines()
        found = [line for line in lines if identity in line]
        assert found  # nginx writes it after its answer
        return found[0]

    line: str = eventually(logged)
    entry = json.loads(line[line.index("{") :])
    assert (entry["status"], entry["path"]) == (200, "/v1/chat/completions")
    assert "7777" not in line
    assert "no log `nothing`" in up.invoke("logs", "--name", "nothing", code=6).stderr


def test_a_second_up_changes_nothing_and_a_setting_only_what_it_is_for(up: Containers) -> None:
    before = {name: up.container(name).id for name in ("gateway", "tesseract-1", "exporter")}
    assert up.json("up")["started"] == []
    up.invoke("up", "--set", "gateway.metrics_allow=10.0.0.0/8")  # a reload, no restart
    assert {name: up.container(name).id for name in before} == before
    eventually(lambda: _forbidden(up))
    assert up.json("up", "--set", "tesseract.queue_depth=7")["started"] == [
        "tesseract-1",
        "tesseract-2",
    ]
    assert up.container("gateway").id == before["gateway"]


def _forbidden(made: Containers) -> None:
    assert requests.get(f"{made.url}/metrics", timeout=10).status_code == 403


def test_a_killed_engine_comes_back(up: Containers) -> None:
    engine = up.container("tesseract-2")
    before = engine.attrs["State"]["Pid"]
    known(up, "tesseract-2", before)  # or the watchdog would miss no process
    already = len(events(up, "tesseract-2"))
    # Not `docker kill`, which Docker takes for a wish to stop.
    subprocess.run(["kill", "-9", str(before)], check=True)

    def back() -> None:
        engine.reload()
        assert engine.attrs["State"]["Pid"] not in {0, before}
        assert up.json("status")["up"]
        assert set(standings(up).values()) == {"serving"}

    # Until then it may be taken out any moment, and the next test takes the other one.
    happened(up, "recovered", "tesseract-2", already, within_s=400)
    eventually(back, within_s=200)
    assert read(up, "Page 3456").status_code == 200


def test_a_killed_gateway_comes_back_though_it_was_reloaded(up: Containers) -> None:
    """Docker takes the HUP of a reload for a wish to stop the container."""
    gateway = up.container("gateway")
    before = gateway.attrs["State"]["Pid"]
    subprocess.run(["kill", "-9", str(before)], check=True)

    def back() -> None:
        gateway.reload()
        assert gateway.attrs["State"]["Pid"] not in {0, before}
        assert read(up, "Page 3457").status_code == 200

    eventually(back, within_s=200)


def test_restart_takes_one_after_the_other(up: Containers) -> None:
    with ThreadPoolExecutor(1) as pool:
        restart = pool.submit(up.invoke, "restart", "--name", "tesseract-1")
        answers = []
        while not restart.done():
            answers.append(read(up, "Page 4567").status_code)
    assert set(answers) == {200}
    assert restart.result().stderr.splitlines()[-1] == "restarted tesseract-1"


def test_another_project_finds_the_gateway_once_attached(up: Containers) -> None:
    client = docker.from_env()
    network = client.networks.create(f"{up.project}-llama")
    probe = ["python3", "-m", "cloister.inside.ask", "http://cloister:8001/v1/models"]

    def asked() -> bool:
        image, where = f"cloister/exporter:{TAG}", str(network.name)
        try:
            client.containers.run(image, [], entrypoint=probe, network=where, remove=True)
        except docker.errors.ContainerError:
            return False
        return True

    up.invoke("up")  # as it was configured, so that only the network is new
    try:
        assert not asked()
        up.invoke("network.attach", str(network.name))
        assert asked()
        assert up.json("up")["started"] in ([], ["gateway"])
        assert asked(), "`up` forgot the network"
        finding = up.verify()["gateway", f"neighbour {network.name}"]
        assert finding["verdict"] == "warning"
        up.invoke("network.detach", str(network.name))
        assert not asked()
        assert "no network `nowhere`" in up.invoke("network.attach", "nowhere", code=6).stderr
        own = up.invoke("network.attach", f"{up.project}-internal", code=6).stderr
        assert "Cloister's own network" in own
    finally:
        network.remove()


def test_down_leaves_nothing_and_up_works_again(up: Containers) -> None:
    up.invoke("down")
    client = docker.from_env()
    label: dict[str, Any] = {"label": f"com.docker.compose.project={up.project}"}
    assert client.containers.list(all=True, filters=label) == []
    assert client.networks.list(filters=label) == []
    assert up.invoke("down").stderr.splitlines()[-1] == "nothing was up"
    assert "nothing is up" in up.invoke("verify", code=6).stderr
    up.invoke("up")
    assert read(up, "Page 5678").status_code == 200


def test_plain_compose_runs_the_same_files(
    make_containers: Callable[..., Containers], tmp_path: Path
) -> None:
    place = make_containers()  # for a project, a subnet and a port that nobody else has
    net = place.settings["CLOISTER_DOCKER_SUBNET"].rpartition(".")[0]
    # The file that is shipped, at addresses that nobody here uses.
    text = (ROOT / "compose" / "gateway" / "nginx.conf").read_text()
    tmp_path.chmod(0o755)
    (tmp_path / "nginx.conf").write_text(text.replace("172.30.40", net))
    environment = {
        "PATH": "/usr/bin:/bin",
        "CLOISTER_DOCKER_PROJECT": place.project,
        "CLOISTER_DOCKER_TAG": TAG,
        "CLOISTER_GATEWAY_PORT": str(place.port),
        "CLOISTER_NET": net,
        "CLOISTER_GATEWAY_FOLDER": str(tmp_path),
    }
    files = [f"--file={ROOT}/compose/{name}.yaml" for name in ("compose", "tesseract")]

    def run(*arguments: str) -> None:
        subprocess.run([*compose(), *files, *arguments], env=environment, check=True, timeout=400)

    try:
        run("up", "--detach", "--wait")
        body = request(data_url(encoded(page("Page 6789"))))
        answer = requests.post(f"{place.url}/v1/chat/completions", json=body, timeout=60)
        assert "6789" in answer.text
    finally:
        run("down")


@pytest.mark.usefixtures("vllm_image")
def test_what_is_missing_is_said_with_what_to_type(
    make_containers: Callable[..., Containers], up: Containers, tmp_path: Path
) -> None:
    made = make_containers()
    said = made.invoke("up", "--set", "docker.tag=none", code=6).stderr
    assert "images are missing: `cloister/gateway:none`" in said
    assert "hint: invoke images.build" in said
    said = made.invoke("up", "--set", "engine=vllm-cpu", code=4).stderr
    assert "no model `nanonets/Nanonets-OCR2-3B`" in said
    assert "hint: invoke download --model nanonets/Nanonets-OCR2-3B" in said
    vllm = ("--set", "engine=vllm-cpu", "--set", f"model.folder={tmp_path}")
    assert "holds no model" in made.invoke("up", *vllm, code=4).stderr
    subnet = up.settings["CLOISTER_DOCKER_SUBNET"]
    said = made.invoke("up", "--set", f"docker.subnet={subnet}", code=6).stderr
    assert f"the network `{up.project}" in said
    assert "docker.subnet" in said
    said = made.invoke("up", "--set", f"gateway.port={up.port}", code=6).stderr
    assert f"port {up.port} on 127.0.0.1 cannot be used" in said


def test_an_engine_that_is_not_there_is_said_so(make_containers: Callable[..., Containers]) -> None:
    made = make_containers()
    made.settings["DOCKER_HOST"] = "unix:///nowhere/docker.sock"
    said = made.invoke("up", code=10).stderr
    assert "no Docker engine runs here" in said
    assert "--set runtime=process" in said
    del made.settings["DOCKER_HOST"]
