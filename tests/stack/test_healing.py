"""Sick replicas under load: found by what they do, taken out, brought back; no page is lost."""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from deployments import Stack, deployed, eventually
from fleets import STALL_S, Faulty, events, happened, standings, until
from load import load
from load import until as sent

from cloister.files import write_atomically
from cloister.layout import Layout
from cloister.runtimes import socket_folder


@pytest.fixture(scope="module")
def faulty() -> Iterator[Faulty]:
    folder = Path(tempfile.mkdtemp(prefix="cloister-vllm-"))
    folder.chmod(0o755)
    yield Faulty(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def fleet(faulty: Faulty) -> Iterator[Stack]:
    """Two replicas of the stand-in, for all tests that leave them well."""
    # More than clients: one whose connection an old worker closes is back before that is done.
    room = {"gateway_max_connections_per_address": 200}
    with deployed(**faulty.settings, **room, replicas=2) as stack:
        stack.settings |= faulty.environment
        stack.invoke("up")
        yield stack


@pytest.fixture(autouse=True)
def _well(fleet: Stack, faulty: Faulty) -> Iterator[None]:
    """Leave no fault behind, and both replicas in the gateway."""
    yield
    for replica in ("vllm-nanonets-ocr-1", "vllm-nanonets-ocr-2"):
        faulty.cure(replica)
    until(fleet, lambda now: set(now.values()) == {"serving"})


@pytest.mark.parametrize(
    ("fault", "why"),
    [("stall", "without progress"), ("mute", "does not read a test page"), ("garbage", "0% like")],
)
def test_a_replica_that_only_seems_well_is_found_restarted_and_comes_back(
    fleet: Stack, faulty: Faulty, fault: str, why: str
) -> None:
    before = len(events(fleet, "vllm-nanonets-ocr-1"))
    pid = fleet.pids()["vllm-nanonets-ocr-1"]
    with load(fleet.url) as outcome:
        sent(outcome, 50)
        with faulty.fault("vllm-nanonets-ocr-1", fault):
            assert why in happened(fleet, "sick", "vllm-nanonets-ocr-1", before)["why"]
            eventually(lambda: _assert_ended(pid))
            sent(outcome, 50)  # with those that it had answered, and whose clients were slow
            name = socket_folder("vllm-nanonets-ocr-1")  # by which the stand-in answers
            taken_out = outcome.by_replica[name]
            assert taken_out, "it answered none before either"
            sent(outcome, 50)
            assert outcome.by_replica[name] == taken_out
            if fault == "garbage":  # the restart did not help, so it stays out
                count = [event["event"] for event in events(fleet, "vllm-nanonets-ocr-1")].count(
                    "failed"
                )
                eventually(lambda: _assert_more(fleet, count), within_s=180)  # it waits longer
                assert standings(fleet)["vllm-nanonets-ocr-1"] == "sick"
        happened(fleet, "recovered", "vllm-nanonets-ocr-1", before)
        sent(outcome, 50)
    assert outcome.lost == 0, str(outcome)
    assert outcome.slowest_s < 8 * STALL_S, "the gateway alone would wait for minutes"
    assert fleet.pids()["vllm-nanonets-ocr-1"] != pid


def _assert_ended(pid: int) -> None:
    assert not psutil.pid_exists(pid)


def _assert_more(stack: Stack, failures: int) -> None:
    names = [event["event"] for event in events(stack, "vllm-nanonets-ocr-1")]
    assert names.count("failed") + names.count("crash-looping") > failures


def test_what_a_replica_left_in_its_socket_s_folder_is_removed_and_not_repeated(
    fleet: Stack,
) -> None:
    name, place = "vllm-nanonets-ocr-1", Layout(fleet.state).sockets / "engine-1"
    before = len(events(fleet, name))
    (place / "text of a page").mkdir()
    (place / "text of a page" / "more").touch()
    assert "folders: 1" in happened(fleet, "sick", name, before)["why"]
    happened(fleet, "recovered", name, before)
    assert [path.name for path in place.iterdir()] == ["sock"]
    assert "text of a page" not in (fleet.state / "events.jsonl").read_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_replica_that_dies_or_freezes_costs_no_page(fleet: Stack, number: signal.Signals) -> None:
    before, pid = len(events(fleet, "vllm-nanonets-ocr-2")), fleet.pids()["vllm-nanonets-ocr-2"]
    with load(fleet.url) as outcome:
        sent(outcome, 50)
        os.kill(pid, number)
        happened(fleet, "sick", "vllm-nanonets-ocr-2", before)
        happened(fleet, "recovered", "vllm-nanonets-ocr-2", before)
        sent(outcome, 50)
    assert outcome.lost == 0, str(outcome)
    assert fleet.pids()["vllm-nanonets-ocr-2"] != pid


def test_a_replica_that_is_only_busy_is_left_alone(fleet: Stack, faulty: Faulty) -> None:
    """Sixty clients, a concurrency of eight, 1 s a page: each page waits longer than a stall."""
    before = len(events(fleet))
    pids = fleet.pids()
    with faulty.slow(1), load(fleet.url, at_once=60) as outcome:
        sent(outcome, 100)
    assert outcome.lost == 0, str(outcome)
    assert outcome.slowest_s > STALL_S, "or the queue was too short to be mistaken for a stall"
    assert fleet.pids() == pids
    assert events(fleet)[before:] == []


def test_a_replica_that_grows_too_large_is_recycled_while_another_takes_over(
    faulty: Faulty,
) -> None:
    with deployed(**faulty.settings, replicas=2, healing_memory_mib=300) as stack:
        stack.settings |= faulty.environment
        stack.invoke("up")
        with load(stack.url) as outcome, faulty.fault("vllm-nanonets-ocr-1", "leak"):
            event = happened(stack, "recycling", "vllm-nanonets-ocr-1", 0)
            assert "over the limit of 300" in event["why"]
            faulty.cure("vllm-nanonets-ocr-1")
            place = events(stack, "vllm-nanonets-ocr-1").index(event)
            happened(stack, "serving", "vllm-nanonets-ocr-1", place)
            sent(outcome, 50)
    assert outcome.lost == 0, str(outcome)


def test_a_crash_loop_is_called_one_with_its_likely_cause(fleet: Stack, faulty: Faulty) -> None:
    before = len(events(fleet, "vllm-nanonets-ocr-1"))
    with load(fleet.url) as outcome, faulty.fault("vllm-nanonets-ocr-1", "crash"):
        psutil.Process(fleet.pids()["vllm-nanonets-ocr-1"]).kill()
        event = happened(fleet, "crash-looping", "vllm-nanonets-ocr-1", before)
        assert "too little free memory" in event["details"]["likely"]
        assert any("CUDA out of memory" in line for line in event["details"]["log"])
        assert event["details"]["wait_s"] > 10
        said = fleet.invoke("events", "--replica", "vllm-nanonets-ocr-1").stdout
        assert "crash-looping" in said
        assert "CUDA out of memory" in said
        eventually(lambda: _assert_held_back(fleet))  # it may start once more before it is
    assert outcome.lost == 0, str(outcome)
    faulty.cure("vllm-nanonets-ocr-1")
    fleet.invoke("up")  # starts what is held back, at once


def _assert_held_back(stack: Stack) -> None:
    shown = stack.json("status", code=1)
    (sick,) = [p for p in shown["programs"] if p["name"] == "vllm-nanonets-ocr-1"]
    assert (sick["standing"], sick["verdict"]) == ("sick", "gone")


def test_what_a_killed_command_left_half_done_is_finished_by_the_watchdog(fleet: Stack) -> None:
    path = fleet.state / "deployment.json"
    record = json.loads(path.read_text())
    record["standings"]["vllm-nanonets-ocr-2"] = "draining"
    record["under_way"] = "rollout"
    write_atomically(path, json.dumps(record))
    until(fleet, lambda now: now["vllm-nanonets-ocr-2"] == "serving")
    assert "`invoke rollout` is at work, or was interrupted" in fleet.invoke("status").stderr


def test_a_killed_watchdog_comes_back(fleet: Stack) -> None:
    pid = fleet.pids()["watchdog"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: _assert_other(fleet, "watchdog", pid))


@pytest.mark.parametrize(
    ("number", "why"), [(signal.SIGKILL, "ended"), (signal.SIGSTOP, "not answered")]
)
def test_what_happens_while_there_is_no_watchdog_is_found_by_the_next(
    fleet: Stack, number: signal.Signals, why: str
) -> None:
    before, pids = len(events(fleet, "vllm-nanonets-ocr-2")), fleet.pids()
    os.kill(pids["watchdog"], signal.SIGKILL)
    os.kill(pids["vllm-nanonets-ocr-2"], number)
    assert why in happened(fleet, "sick", "vllm-nanonets-ocr-2", before)["why"]
    happened(fleet, "recovered", "vllm-nanonets-ocr-2", before)


def _assert_other(fleet: Stack, program: str, pid: int) -> None:
    assert fleet.pids()[program] not in {None, pid}
