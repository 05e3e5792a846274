"""Real scaling and rollouts of real engines under load: no page is lost at any step."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

import psutil
import pytest
import requests
from deployments import SAMPLES, Stack, deployed, eventually, program
from fleets import events, happened, known, standings, until
from load import PATH, load
from load import until as sent
from pages import data_url, encoded, page, request

from cloister.files import write_atomically
from cloister.layout import Layout


@pytest.fixture(scope="module")
def fleet() -> Iterator[Stack]:
    """A fleet of Tesseracts with a worker each."""
    with deployed(tesseract_workers=1, gateway_slow_start_s=1) as made:
        made.invoke("up")
        yield made


@pytest.fixture
def real_page() -> dict[str, object]:
    return request(data_url(encoded(page("Page 2345"))))


def names(stack: Stack) -> set[str]:
    return {name for name in stack.pids() if name.startswith("tesseract")}


def test_one_to_four_to_two_under_load(fleet: Stack, real_page: dict[str, object]) -> None:
    with load(fleet.url, page=real_page) as outcome:
        sent(outcome, 20)
        plan = fleet.invoke("scale", "4", "--plan").stdout
        assert "1. start tesseract-2, tesseract-3, tesseract-4" in plan
        assert names(fleet) == {"tesseract-1"}, "a plan changes nothing"
        fleet.invoke("scale", "4")
        assert set(standings(fleet).values()) == {"serving"}
        sent(outcome, 40)
        fleet.invoke("scale", "2")
        sent(outcome, 20)
    assert outcome.lost == 0, str(outcome)
    assert names(fleet) == {"tesseract-1", "tesseract-2"}
    assert "\nreplicas: 2\n" in "\n" + (fleet.state / "cloister.yaml").read_text()
    fleet.invoke("up")
    assert names(fleet) == {"tesseract-1", "tesseract-2"}, "up keeps what scale made"


def test_two_that_share_the_cores_become_one_without_a_pause(real_page: dict[str, object]) -> None:
    """The one that goes reads on while the other one is replaced by one of more workers."""
    with deployed(replicas=2, gateway_slow_start_s=1) as pair:
        pair.invoke("up")
        with load(pair.url, page=real_page) as outcome:
            sent(outcome, 10)
            assert "no page is read" not in pair.invoke("scale", "1").stderr
            sent(outcome, 10)
        assert outcome.lost == 0, str(outcome)
        assert names(pair) == {"tesseract-1"}
        assert standings(pair) == {"tesseract-1": "serving"}


def test_a_rollout_replaces_each_under_load(fleet: Stack, real_page: dict[str, object]) -> None:
    before = fleet.pids()
    with load(fleet.url, page=real_page) as outcome:
        sent(outcome, 10)
        plan = fleet.json("rollout", "--set", "tesseract.queue_depth=33", "--plan")
        assert [step["names"] for step in plan["steps"]] == [["tesseract-1"], ["tesseract-2"]]
        said = fleet.json("rollout", "--set", "tesseract.queue_depth=33")
        assert said["replaced"] == ["tesseract-1", "tesseract-2"]
        sent(outcome, 20)
    assert outcome.lost == 0, str(outcome)
    after = fleet.pids()
    assert before["vllm-nginx-gateway"] == after["vllm-nginx-gateway"]
    assert before["tesseract-1"] != after["tesseract-1"]
    assert "nothing differed" in fleet.invoke("rollout", "--set", "tesseract.queue_depth=33").stdout


def test_a_rollout_that_cannot_read_goes_back_under_load(
    fleet: Stack, real_page: dict[str, object]
) -> None:
    data = fleet.state / "tessdata"
    data.mkdir()
    (data / "eng.traineddata").write_bytes(b"not a model")
    with load(fleet.url, page=real_page) as outcome:
        sent(outcome, 10)
        error = fleet.invoke("rollout", "--set", f"tesseract.tessdata_dir={data}", code=6).stderr
        assert "all are back at the old settings" in error
        assert "tesseract-1 ended" in error
        sent(outcome, 10)
    assert outcome.lost == 0, str(outcome)
    assert _both_serve(standings(fleet))
    assert str(data) not in " ".join(psutil.Process(fleet.pids()["tesseract-1"]).cmdline())
    said = [event["event"] for event in events(fleet)]
    assert said.index("rollout failed") < said.index("rolled back")


def test_a_canary_gets_some_of_the_pages_and_is_undone(fleet: Stack) -> None:
    fleet.invoke("rollout", "--set", "tesseract.queue_depth=34", "--canary", "25")
    text = (fleet.state / "gateway" / "nginx.conf").read_text()
    assert "weight=1 max_conns" in text
    assert "weight=3 max_conns" in text
    assert "a rollout is under way" in fleet.invoke("scale", "3", code=6).stderr
    fleet.invoke("rollout", "--back")
    assert "weight=3" not in (fleet.state / "gateway" / "nginx.conf").read_text()
    fleet.invoke("rollout", "--back", code=6)


def test_one_replica_says_that_there_is_a_pause_and_how_long(fleet: Stack) -> None:
    fleet.invoke("scale", "1")
    said = fleet.invoke("rollout", "--set", "tesseract.queue_depth=35").stderr
    assert "no page is read for about" in said
    assert (
        "nothing to try"
        in fleet.invoke(
            "rollout", "--set", "tesseract.queue_depth=35", "--canary", "5", code=6
        ).stderr
    )
    assert (
        "needs another replica"
        in fleet.invoke(
            "rollout", "--set", "tesseract.queue_depth=36", "--canary", "5", code=6
        ).stderr
    )
    fleet.invoke("scale", "2")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["scale", "x"], 2, "`x` is no number of replicas"),
        (["scale", "0"], 2, "from 1 to 64"),
        (["scale", "65"], 2, "from 1 to 64"),
        (["scale", "2", "--gpus", "a"], 2, "nvidia-smi's numbers"),
        (["scale", "2", "--per-gpu", "99"], 2, "from 1 to 16"),
        (["rollout", "--canary", "100"], 6, "from 1 to 99"),
        (["rollout", "--set", "gateway.port=9999"], 6, "`gateway.port` is not what is up has"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_changes(
    fleet: Stack, arguments: list[str], code: int, said: str
) -> None:
    pids = fleet.pids()
    assert said in fleet.invoke(*arguments, code=code).stderr
    assert fleet.pids() == pids


def test_a_scale_that_is_killed_anywhere_is_finished_by_the_next(
    fleet: Stack, real_page: dict[str, object]
) -> None:
    with load(fleet.url, page=real_page, at_once=4) as outcome:
        for number, delay_s in enumerate((0.6, 1.2, 1.8, 2.4, 3.0)):
            wanted = 3 if number % 2 == 0 else 1
            _killed(fleet, ["scale", str(wanted)], delay_s)
        fleet.invoke("scale", "2")
        sent(outcome, 10)
    assert outcome.lost == 0, str(outcome)
    until(fleet, _both_serve)  # what a killed one left may be with the watchdog
    assert names(fleet) == {"tesseract-1", "tesseract-2"}


def test_a_replica_that_a_killed_scale_had_forgotten_holds_its_port_for_us(fleet: Stack) -> None:
    path = Layout(fleet.state).record
    kept = json.loads(path.read_text())
    kept["settings"]["replicas"] = 1
    kept["standings"] = {"tesseract-1": "serving"}
    write_atomically(path, json.dumps(kept))
    fleet.invoke("scale", "2")
    until(fleet, _both_serve)


def _both_serve(now: dict[str, str]) -> bool:
    return now == {"tesseract-1": "serving", "tesseract-2": "serving"}


def _killed(stack: Stack, arguments: list[str], delay_s: float) -> None:
    command = [sys.executable, "-m", "invoke", *arguments]
    with program(command, env=stack.environment, stderr=subprocess.DEVNULL) as process:
        time.sleep(delay_s)  # somewhere in the middle, which is the point
        process.kill()


def test_each_program_killed_in_turn_costs_a_patient_client_nothing(
    fleet: Stack, real_page: dict[str, object]
) -> None:
    with load(fleet.url, page=real_page, at_once=4, patience_s=60) as outcome:
        for name in ("tesseract-1", "tesseract-2", "exporter", "watchdog", "vllm-nginx-gateway"):
            pid, before = fleet.pids()[name], len(events(fleet, name))
            is_replica = name in standings(fleet)
            if is_replica:
                known(fleet, name, pid)
            os.kill(pid, signal.SIGKILL)
            eventually(partial(_assert_other, fleet, name, pid))
            if is_replica:  # it gets pages until its end is seen, and is then out for a moment
                happened(fleet, "recovered", name, before)
            until(fleet, lambda now: set(now.values()) == {"serving"})
            sent(outcome, 5)
    assert outcome.lost == 0, str(outcome)


def _assert_other(stack: Stack, name: str, pid: int) -> None:
    assert stack.pids()[name] not in {None, pid}


def test_a_machine_that_was_switched_off_comes_back_as_it_was(fleet: Stack) -> None:
    fleet.kill_all()
    fleet.invoke("status", code=1)
    fleet.invoke("up")
    assert names(fleet) == {"tesseract-1", "tesseract-2"}
    body = request(data_url(encoded(page("Page 2345"))))
    assert "Page 2345" in requests.post(f"{fleet.url}{PATH}", json=body, timeout=30).text
    assert set(standings(fleet).values()) == {"serving"}


def _assert_columns(stack: Stack) -> None:
    shown = stack.invoke("status").stdout
    for column in ("state", "pages", "restarts", "waiting", "tokens/s", "pages/s", "MiB"):
        assert column in shown


def test_status_and_events_say_it_all(fleet: Stack) -> None:
    fleet.invoke("ocr", str(SAMPLES / "invoice.png"))
    eventually(lambda: _assert_columns(fleet))  # rates come with the watchdog's second look
    line = fleet.invoke("events", "--lines", "1", "--json").stdout
    assert set(json.loads(line)) == {"at", "by", "event", "replica", "why", "details"}
    watching = [sys.executable, "-m", "invoke", "status", "--watch"]
    with program(watching, env=fleet.environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("tesseract-1" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        process.stdout.read()  # what it still says would meet a closed pipe
    assert process.returncode == 130
