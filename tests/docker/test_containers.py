"""The docker runtime with the embedded engine, as a user meets it."""

import json
import os
import shutil
import subprocess
import sys
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
from load import load
from load import until as sent
from pages import data_url, encoded, page, request
from repetitions import REPETITIONS

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
            ("exporter", "tesseract-1", "tesseract-2", "vllm-nginx-gateway", "watchdog"), "running"
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


def test_a_container_that_somebody_killed_or_paused_comes_back(up: Containers) -> None:
    """Docker itself starts none of these: for it, a user has stopped them."""
    names = ("vllm-nginx-gateway", "exporter", "tesseract-1")
    before = {name: up.container(name).attrs["State"]["StartedAt"] for name in names}
    for name in names[:2]:
        up.container(name).kill()
    up.container("tesseract-1").pause()
    assert "vllm-nginx-gateway: " in up.invoke("status", code=1).stderr

    def back() -> None:
        up.invoke("status")
        assert "2345" in read(up, "Page 2345").text
        for name in names:
            assert up.container(name).attrs["State"]["StartedAt"] != before[name]

    eventually(back, within_s=400)


def test_a_load_test_reaches_engines_past_the_gateway(up: Containers, tmp_path: Path) -> None:
    flags = ("--workload=quick", "--no-self-check", "--seconds=6", "--first=2", "--last=2")
    command = [sys.executable, "-m", "loadtests", f"--out={tmp_path}", *flags, "--direct"]
    subprocess.run(command, cwd=ROOT, env=up.environment, check=True, timeout=240)
    through, direct = json.loads((tmp_path / "report.json").read_text())["stages"]
    assert (through["direct"], direct["direct"]) == (False, True)
    assert through["faults"] == direct["faults"] == {}
    # The gateway draws among the replicas with the fewest: a few pages may all be of one.
    assert set(through["by_replica"]) <= {"tesseract-1", "tesseract-2"}
    assert sum(through["by_replica"].values()) >= through["good"] > 0
    assert direct["good"] > 0


def test_logs_name_every_request_without_its_body(up: Containers) -> None:
    headers = read(up, "Page 7777").headers
    identity = headers["X-Request-ID"]
    assert headers["X-Cloister-Replica"] in {"tesseract-1", "tesseract-2"}

    def logged() -> str:
        lines = up.invoke(
            "logs", "--name", "vllm-nginx-gateway", "--lines", "50"
        ).stdout.splitlines()
        found = [line for line in lines if identity in line]
        assert found  # nginx writes it after its answer
        return found[0]

    line: str = eventually(logged)
    entry = json.loads(line[line.index("{") :])
    assert (entry["status"], entry["path"]) == (200, "/v1/chat/completions")
    assert "7777" not in line
    assert "no log `nothing`" in up.invoke("logs", "--name", "nothing", code=6).stderr


def test_a_second_up_changes_nothing_and_a_setting_only_what_it_is_for(up: Containers) -> None:
    before = {
        name: up.container(name).id for name in ("vllm-nginx-gateway", "tesseract-1", "exporter")
    }
    assert up.json("up")["started"] == []
    up.invoke("up", "--set", "gateway.metrics_allow=10.0.0.0/8")  # a reload, no restart
    assert {name: up.container(name).id for name in before} == before
    eventually(lambda: _forbidden(up))
    assert up.json("up", "--set", "tesseract.queue_depth=7")["started"] == [
        "tesseract-1",
        "tesseract-2",
    ]
    assert up.container("vllm-nginx-gateway").id == before["vllm-nginx-gateway"]


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


def test_a_killed_gateway_comes_back_though_its_socket_stays(up: Containers) -> None:
    """nginx ends with code 1 where a socket lies that it is to listen on."""
    gateway = up.container("vllm-nginx-gateway")
    before = gateway.attrs["State"]["Pid"]
    subprocess.run(["kill", "-9", str(before)], check=True)

    def back() -> None:
        gateway.reload()
        assert gateway.attrs["State"]["Pid"] not in {0, before}
        assert read(up, "Page 3457").status_code == 200

    eventually(back, within_s=200)
    assert up.json("status")["up"]


def test_an_engine_hides_no_text_in_attributes_of_its_folder(up: Containers) -> None:
    script = "import os; os.setxattr('/run/listen', 'user.page', b'text')"
    _, output = up.execute("tesseract-1", "python3", "-c", script)
    assert "PermissionError" in output


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

    def asked(url: str = "http://cloister/v1/models") -> bool:
        image, where = f"cloister/exporter:{TAG}", str(network.name)
        probe = ["python3", "-m", "cloister.inside.ask", url]
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
        assert up.json("up")["started"] in ([], ["vllm-nginx-gateway"])
        assert asked(), "`up` forgot the network"
        assert asked("http://cloister:8001/v1/models"), "as earlier versions had it"
        up.verify()
        up.invoke("network.detach", str(network.name))
        assert not asked()
        network.connect(up.container("vllm-nginx-gateway"))
        assert asked(f"http://{up.project}-vllm-nginx-gateway/v1/models")
        finding = up.verify(code=7)["vllm-nginx-gateway", "NetworkSettings.Networks"]
        assert finding["verdict"] == "open", "nobody said that it is meant"
        network.disconnect(up.container("vllm-nginx-gateway"))
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


def test_containers_follow_processes_that_were_stopped_or_killed(
    make_containers: Callable[..., Containers],
) -> None:
    """In the state folder of another user's sockets, spool and files of nginx."""
    made = make_containers()
    for end in (lambda: made.invoke("down"), made.kill_all):
        made.invoke("up", "--set=runtime=process")
        assert read(made, "Page 6781").status_code == 200
        end()
        made.invoke("up")
        assert read(made, "Page 6782").status_code == 200
        assert [path.name for path in (made.state / "gateway").iterdir()] == ["nginx.conf"]
        assert '"/v1/chat/completions"' in requests.get(f"{made.url}/metrics", timeout=60).text
        made.invoke("down")
        assert not (made.state / "run" / "http").exists()
    made.invoke("up", "--set=runtime=process")
    assert read(made, "Page 6783").status_code == 200


def test_plain_compose_runs_the_same_files(
    make_containers: Callable[..., Containers],
) -> None:
    place = make_containers()  # for a project, a subnet and a port that nobody else has
    net = place.settings["CLOISTER_DOCKER_SUBNET"].rpartition(".")[0]
    environment = {
        "PATH": "/usr/bin:/bin",
        "CLOISTER_DOCKER_PROJECT": place.project,
        "CLOISTER_DOCKER_TAG": TAG,
        "CLOISTER_GATEWAY_PORT": str(place.port),
        "CLOISTER_NET": net,
    }
    files = [f"--file={ROOT}/compose/{name}.yaml" for name in ("compose", "tesseract")]

    def run(*arguments: str) -> None:
        subprocess.run([*compose(), *files, *arguments], env=environment, check=True, timeout=400)

    try:
        run("up", "--detach", "--wait")
        # The default project alone has fixed names, which a second one could not have as well.
        gateway = place.container("vllm-nginx-gateway").name
        assert gateway == f"{place.project}-vllm-nginx-gateway"
        body = request(data_url(encoded(page("Page 6789"))))
        answer = requests.post(f"{place.url}/v1/chat/completions", json=body, timeout=60)
        assert "6789" in answer.text
        _is_nobodys_but_composes(place)
        _no_line_is_lost_without_a_word(place)
    finally:
        run("down", "--volumes")


def _is_nobodys_but_composes(place: Containers) -> None:
    """Let commands find containers of their project that `invoke up` did not make."""
    started = place.container("vllm-nginx-gateway").attrs["State"]["StartedAt"]
    for command in ("up", "down"):
        assert "is already up by plain Compose" in place.invoke(command, code=6).stderr
    assert "nothing is up" in place.invoke("status", code=1).stderr
    assert place.container("vllm-nginx-gateway").attrs["State"]["StartedAt"] == started


def _no_line_is_lost_without_a_word(place: Containers) -> None:
    """Stop the exporter while there is room for the log's lines, and while there is none."""
    exporter, fill = place.container("exporter"), "open('/spool/full', 'wb').write(bytes(64 << 20))"

    def ask(count: int) -> None:
        with requests.Session() as session:
            for _ in range(count):
                assert session.get(f"{place.url}/v1/models", timeout=60).ok

    def counted_and_missing() -> tuple[float, float]:
        url = "http+unix://%2Frun%2Flisten%2Fsock/metrics"
        code, output = place.execute("exporter", "python3", "-m", "cloister.inside.ask", url)
        assert code == 0, output
        pairs = (line.rpartition(" ") for line in json.loads(output)["body"].splitlines())
        series = {name.removeprefix("cloister_gateway_"): value for name, _, value in pairs}
        assert "log_lines_missing" in series, "the second scrape knows"
        models = 'requests_total{key="",route="/v1/models",status="200"}'
        return float(series.get(models, 0)), float(series["log_lines_missing"])

    def in_spool(code: str) -> None:
        docker.from_env().containers.run(
            f"cloister/exporter:{TAG}",
            ["-c", code],
            entrypoint="python3",
            network_mode="none",
            volumes={f"{place.project}_spool": {"bind": "/spool"}},
            remove=True,
        )

    assert eventually(counted_and_missing) == (0, 0)
    exporter.stop()
    ask(REPETITIONS.counted_requests)
    exporter.start()
    assert eventually(counted_and_missing, within_s=60) == (REPETITIONS.counted_requests, 0)

    exporter.stop()
    with pytest.raises(docker.errors.ContainerError, match="No space left on device"):
        in_spool(fill)
    ask(200)
    in_spool("import os; os.remove('/spool/full')")
    exporter.start()
    counted, missing = eventually(counted_and_missing, within_s=60)
    assert 0 < counted < 200
    # And of a health check, now and then.
    assert 200 <= counted + missing < 220


def test_scaling_leaves_the_gateway_as_it_is_and_loses_no_page(
    make_containers: Callable[..., Containers],
) -> None:
    made = make_containers(tesseract_workers=1, gateway_slow_start_s=1)
    made.invoke("up")

    def gateway() -> tuple[str, str]:
        attributes = made.container("vllm-nginx-gateway").attrs
        return attributes["Id"], attributes["State"]["StartedAt"]

    before, body = gateway(), request(data_url(encoded(page("Page 2345"))))
    with load(made.url, page=body, at_once=2) as outcome:
        sent(outcome, 5)
        made.invoke("scale", "4")
        sent(outcome, 10)
        made.invoke("scale", "1")
        sent(outcome, 5)
    assert outcome.lost == 0, str(outcome)
    assert gateway() == before
    assert sorted(path.name for path in (made.state / "run" / "http").iterdir()) == [
        *("engine-1", "exporter", "gateway", "spool"),
    ]
    made.invoke("down")


def test_a_replaced_engine_leaves_no_text_and_another_service_no_engine_without_its_socket(
    make_containers: Callable[..., Containers], tmp_path: Path
) -> None:
    override = tmp_path / "override.yaml"
    # By its name one might take it for a replica.
    service = {"image": f"cloister/exporter:{TAG}", "entrypoint": ["sleep", "inf"], "init": True}
    override.write_text(json.dumps({"services": {"redis-1": service}}))
    made = make_containers(docker_override=override, healing_enabled="false")
    made.invoke("up")
    folder = made.state / "run" / "http" / "engine-1"
    made.invoke("restart", "--name", "redis-1")
    assert [path.name for path in folder.iterdir()] == ["sock"]
    assert read(made, "Page 4321").status_code == 200
    assert made.execute("tesseract-1", "touch", "/run/listen/page.md") == (0, "")
    assert {path.name for path in folder.iterdir()} == {"sock", "page.md"}
    changed = ("tesseract.queue_depth=7", "docker.gateway_memory_mib=1024")
    started = made.json("up", *(f"--set={change}" for change in changed))["started"]
    assert set(started) == {"vllm-nginx-gateway", "tesseract-1"}
    assert [path.name for path in folder.iterdir()] == ["sock"]
    assert read(made, "Page 4322").status_code == 200
    made.invoke("down")


def test_engines_on_an_internal_network_serve_and_are_not_sealed(
    make_containers: Callable[..., Containers],
) -> None:
    made = make_containers(docker_engine_network="internal", replicas=2)
    said = made.invoke("up").stderr
    assert "docker.engine_network: none" in said
    assert "2345" in read(made, "Page 2345").text
    assert made.json("health")["engine"].startswith("tesseract/")
    findings = made.verify(code=7)
    for way in (
        "this machine by UDP, past the routes",
        "this machine by UDP, to a closed port",
        "this machine by broadcast",
    ):
        assert findings["tesseract-1", way]["verdict"] == "open"
        assert "docker.engine_network: none" in findings["tesseract-1", way]["fix"]
    told = [check for (where, check), f in findings.items() if f["verdict"] == "open"]
    assert not [check for check in told if check.startswith(("HostConfig", "Config", "kernel."))]
    made.invoke("scale", "1")
    assert read(made, "Page 3456").status_code == 200
    # The gateway leaves that network before the engines do, and is asked for their pages there.
    for network in ("none", "internal"):
        made.invoke("up", f"--set=docker.engine_network={network}")
        assert read(made, "Page 4567").status_code == 200
    assert "not drained" not in made.invoke("events", "--lines=100").stdout
    made.invoke("down")


def test_a_user_of_the_group_docker_brings_it_up(
    make_containers: Callable[..., Containers], request: pytest.FixtureRequest
) -> None:
    """Folders that this user makes, sockets and folders of uid 10001, and a client of this user.

    /proc says nothing of other users' processes (hidepid=noaccess), or does not list them.
    """
    if os.geteuid() != 0:
        pytest.fail("only root can become another user")
    # Supervisor asks access(2), which knows no capability, whether Python may be started.
    made = make_containers(healing_enabled="false")
    shutil.chown(made.state, 12345, 12345)
    shutil.chown(made.state / "cloister.yaml", 12345, 12345)
    # Root, who ends it after the test, takes no folder of another user's.
    request.addfinalizer(lambda: shutil.chown(made.state, 0, 0))
    group = str(Path("/var/run/docker.sock").stat().st_gid)
    # The tests' Python may lie where only root goes; to read there opens no socket.
    reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    user = ("setpriv", "--reuid=12345", "--regid=12345", f"--groups={group}", *reads)

    hide = 'mount -t proc -o hidepid="$0" none /proc && exec "$@"'

    def run(*arguments: str, hidepid: int = 1) -> str:
        hidden = ("unshare", "--mount", "sh", "-c", hide, str(hidepid))
        done = subprocess.run(
            [*hidden, *user, sys.executable, "-B", "-m", "invoke", *arguments],
            cwd=ROOT,
            env={**made.environment, "HOME": str(made.state)},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def leave() -> None:
        """Make sticky folders, which even root removes only by rights that containers lack."""
        script = "import os; os.makedirs('/run/listen/d/e'); open('/run/listen/d/e/page', 'w');"
        script += "os.chmod('/run/listen/d/e', 0o1700); os.chmod('/run/listen/d', 0o1700)"
        assert made.execute("tesseract-1", "python3", "-c", script) == (0, "")

    places = made.state / "run" / "http"
    run("up")
    assert "2345" in read(made, "Page 2345").text
    assert "tesseract-1" in run("status")
    for hidepid in (1, 2):
        assert json.loads(run("verify", "--json", hidepid=hidepid))["sealed"]
    leave()
    run("restart", "--name", "tesseract-1")
    assert [path.name for path in (places / "engine-1").iterdir()] == ["sock"]
    leave()
    # As an earlier `down` that got no further than this.
    subprocess.run([*compose(), f"--project-name={made.project}", "down"], cwd="/", check=True)
    run("down")
    assert not places.exists()


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
