"""Real vLLM, its CPU build, with a model that has no weights: the wiring, not the reading."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import Containers
from deployments import eventually
from fleets import events, happened, standings
from load import Outcome, load
from load import until as sent
from pages import MODEL, data_url, encoded, page, request

from cloister.isolation.routes import VLLM_ROUTES

_STALL_S = 40  # a core that a test freezes and thaws is not to be taken for a sick one
# While the second one starts, the first has hardly a turn to tell its numbers.
_SILENCE_S = 180
_START_S = 1800

pytestmark = [
    pytest.mark.timeout(3600),  # starts, on two cores that read pages meanwhile
    pytest.mark.usefixtures("vllm_image"),
]


@pytest.fixture(scope="module")
def up(make_containers: Callable[..., Containers], tiny_model: Path) -> Containers:
    made = make_containers(
        engine="vllm-cpu",
        model_folder=tiny_model,
        model_synthetic="true",
        vllm_load_format="dummy",
        vllm_eager="true",
        vllm_kv_cache_gib=1,
        vllm_max_model_len=4096,
        vllm_max_pixels=401_408,
        ocr_max_tokens=128,  # noise goes on as long as it may
        healing_interval_s=10,
        healing_canary_s=20,
        healing_silence_s=_SILENCE_S,
        healing_stall_s=_STALL_S,
        gateway_slow_start_s=2,
    )
    made.invoke("up", timeout_s=1800)
    return made


def body(**fields: Any) -> dict[str, Any]:
    return request(data_url(encoded(page("Page 2345"))), **fields)


def test_answers_whole_and_streamed(up: Containers) -> None:
    url = f"{up.url}/v1/chat/completions"
    whole = requests.post(url, json=body(max_tokens=12, ignore_eos=True), timeout=400)
    assert whole.status_code == 200, whole.text
    assert whole.json()["model"] == MODEL
    assert whole.json()["usage"]["completion_tokens"] == 12
    # Many more tokens than pieces: vLLM sends those together that came while it had no turn.
    fields = {"max_tokens": 400, "ignore_eos": True, "stream": True}
    options = {"stream_options": {"include_usage": True}}
    with requests.post(url, json=body(**fields, **options), stream=True, timeout=400) as streamed:
        events = [line for line in streamed.iter_lines() if line.startswith(b"data: ")]
    assert events[-1] == b"data: [DONE]"
    assert len(events) >= 12
    first, usage = (json.loads(events[n].removeprefix(b"data: ")) for n in (0, -2))
    assert first["object"] == "chat.completion.chunk"
    assert usage["usage"]["completion_tokens"] == 400


def test_what_the_image_knows_of_the_model_is_not_found_out_again(up: Containers) -> None:
    """Where vLLM does not accept the file, it writes it again, later than the image."""

    def files(folder: str) -> str:
        command = ["find", f"{folder}/modelinfos", "-type", "f", "-printf", "%P %T@ "]
        found = up.container("vllm-1").exec_run(command)
        assert found.exit_code == 0, found.output
        return str(found.output.decode())

    assert "qwen2_5_vl" in files("/opt/vllm-cache")
    assert files("/tmp/cache/vllm") == files("/opt/vllm-cache")  # noqa: S108  # in the container


def test_every_way_out_is_shut(up: Containers) -> None:
    findings = up.verify()
    assert findings["vllm-1", "calling the hub"]["verdict"] == "sealed"
    assert "OfflineModeIsEnabled" in findings["vllm-1", "calling the hub"]["evidence"]


def test_the_routes_that_verify_tries_are_those_that_vllm_has(up: Containers) -> None:
    log = up.container("vllm-1").logs().decode()
    found = re.findall(r"Route: (\S+), Methods: (.+)", log)
    printed = {f"{method} {path}" for path, methods in found for method in methods.split(", ")}
    assert printed - {f"HEAD {path}" for path, _ in found} == set(VLLM_ROUTES)


def test_vllm_fetches_nothing_for_a_client(up: Containers) -> None:
    url = f"http://{up.container('gateway').name}:8001/health"
    answer = requests.post(f"{up.url}/v1/chat/completions", json=request(url), timeout=60)
    assert answer.status_code == 400
    assert "media.invalid" in answer.text


def test_the_batch_client_has_vllm_look_for_loops_which_noise_is(
    up: Containers, tmp_path: Path
) -> None:
    """Weights that are noise say one thing for as long as they may."""
    (tmp_path / "a.png").write_bytes(encoded(page("Page 2345")))
    flags = ("--set", "ocr.max_tokens=2048", "--set", "ocr.attempts=1")
    up.invoke("ocr", str(tmp_path), "--out", str(tmp_path / "out"), *flags, code=8, timeout_s=1200)
    told = json.loads((tmp_path / "out" / "quarantine" / "a" / "page-0001.json").read_text())
    (asked,) = told["requests"]
    assert asked["status"] == 200
    assert asked["finish_reason"] == "repetition"
    assert 100 < asked["tokens"] < 2_000


def check(up: Containers, *flags: str) -> str:
    command = ["python3", "-m", "cloister.inside.health", *flags]
    output: bytes = up.container("vllm-1").exec_run(command).output
    return output.decode().partition(":")[0]


def core(up: Containers, replica: str) -> list[int]:
    """Return the engine's core, whose processes read, by their ids on this machine."""
    rows = up.container(replica).top(ps_args="-eo pid,comm")["Processes"]
    found = [int(pid) for pid, name in rows if name.startswith("VLLM::")]
    assert found
    return found


@contextmanager
def freezable(up: Containers) -> Iterator[Callable[[int], None]]:
    """Give a function that signals the engine's core; it goes on at the end, whatever happened.

    From outside, by process ids that are known before a page begins: a program that is started in
    the container may get its turn only when the page is over.
    """
    pids = core(up, "vllm-1")

    def send(number: int) -> None:
        for pid in pids:
            os.kill(pid, number)

    try:
        yield send
    finally:
        send(signal.SIGCONT)


@contextmanager
def under_way(up: Containers, tokens: int) -> Iterator[list[str]]:
    """Read a page whose first words are there when the block begins; yield its lines.

    Not by /metrics: on few cores vLLM may answer that only when the page is over.
    """
    begun, lines = threading.Event(), list[str]()
    fields = {"max_tokens": tokens, "ignore_eos": True, "stream": True}
    options = {"stream_options": {"include_usage": True}}

    def read() -> None:
        url = f"{up.url}/v1/chat/completions"
        try:
            with requests.post(
                url, json=body(**fields, **options), stream=True, timeout=900
            ) as answer:
                for line in answer.iter_lines(decode_unicode=True):
                    lines.append(line)
                    begun.set()
        except requests.RequestException as error:
            lines.append(repr(error))

    reading = threading.Thread(target=read)
    reading.start()
    assert begun.wait(400)
    try:
        yield lines
    finally:
        reading.join()


def test_the_health_check_tells_idle_busy_and_hung_apart(up: Containers) -> None:
    eventually(lambda: _idle(up), within_s=400)  # the watchdog's test page may be under way
    with freezable(up) as send, under_way(up, 2000) as lines:
        started = time.monotonic()
        send(signal.SIGSTOP)
        assert "data: [DONE]" not in lines, "it was frozen with a page under way"
        # The first look finds tokens that are newer than the look before it; then none come.
        assert check(up, "--stall-s=600") == "busy"

        def hung() -> None:
            assert check(up, "--stall-s=1") == "hung"

        eventually(hung, within_s=200)
        assert time.monotonic() - started >= 1
        inside = up.container("vllm-1").exec_run(
            ["python3", "-m", "cloister.inside.ask", "http://127.0.0.1:8000/health"]
        )
        assert inside.exit_code == 0, "this is why /health is no health check"
        send(signal.SIGCONT)
    assert lines[-2:] == ["data: [DONE]", ""], "thawed, it goes on"


@contextmanager
def pages(up: Containers) -> Iterator[Outcome]:
    """Send a page now and then: two vLLMs and their tests have two cores."""
    page = body(max_tokens=8, ignore_eos=True)
    with load(up.url, at_once=1, page=page, pause_s=5) as outcome:
        sent(outcome, 1)
        yield outcome
        sent(outcome, 2)


def test_a_second_replica_takes_its_share_without_a_lost_page(up: Containers) -> None:
    with pages(up) as outcome:
        up.invoke("scale", "2", timeout_s=_START_S)
        assert standings(up) == {"vllm-1": "serving", "vllm-2": "serving"}
    assert outcome.lost == 0, str(outcome)
    assert up.verify()["vllm-2", "calling the hub"]["verdict"] == "sealed"


def test_a_core_that_freezes_is_found_though_health_says_ok(up: Containers) -> None:
    before = len(events(up, "vllm-2"))
    with pages(up) as outcome:
        for pid in core(up, "vllm-2"):
            os.kill(pid, signal.SIGSTOP)
        why = happened(up, "sick", "vllm-2", before, within_s=1200)["why"]
        assert re.search("without progress|not answered|does not read", why)
        happened(up, "recovered", "vllm-2", before, within_s=_START_S)
    assert outcome.lost == 0, str(outcome)


def test_back_to_one_and_no_container_has_the_docker_socket(up: Containers) -> None:
    with pages(up) as outcome:
        up.invoke("scale", "1", timeout_s=_START_S)
    assert outcome.lost == 0, str(outcome)
    assert set(up.pids()) == {"vllm-1", "exporter", "gateway", "watchdog"}
    for name in ("gateway", "exporter", "vllm-1"):
        assert "docker.sock" not in json.dumps(up.container(name).attrs["Mounts"])
    watchdog = Path(f"/proc/{up.pids()['watchdog']}/cgroup")
    assert "docker" not in watchdog.read_text(), "it runs beside the containers, in none"


def test_a_stopped_replica_finishes_its_page(up: Containers) -> None:
    eventually(lambda: _idle(up), within_s=400)
    with under_way(up, 2000) as lines:
        assert "data: [DONE]" not in lines
        assert up.invoke("down").stderr.splitlines()[-1] == "stopped"
    assert lines[-2:] == ["data: [DONE]", ""]
    (usage,) = [line for line in lines if '"usage":{' in line][-1:]
    assert json.loads(usage.removeprefix("data: "))["usage"]["completion_tokens"] == 2000


def _idle(up: Containers) -> None:
    assert check(up) == "idle"
