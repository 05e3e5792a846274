"""Replicas that die, freeze, refuse and lie: no page is lost while one of two lives.

Each test prints what was sent, answered and lost: `pytest -s tests/stack/test_failover.py`.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from deployments import eventually
from gateways import Gateway, gateway, without
from load import PATH, load, read_by, until
from stubs import Stub, stub

PAGE_MS = 40
PAGES = 150
# Where pages are counted out: so slow that they are under way together, however slow we are.
SHARED_PAGE_MS = 400
SILENCE_S = 4  # of the gateway's patience, a hundred times what a page takes


@contextmanager
def two(*, page_ms: float = PAGE_MS, **settings: Any) -> Iterator[tuple[Gateway, Stub, Stub]]:
    """A gateway before two replicas."""
    with ExitStack() as stack:
        replicas = [
            stack.enter_context(stub(name, chunks=10, chunk_ms=page_ms / 10))
            for name in ("first", "second")
        ]
        made = stack.enter_context(gateway([one.address for one in replicas], **settings))
        yield made, replicas[0], replicas[1]


def say(what: str, outcome: object) -> None:
    print(f"{what}: {outcome}")  # noqa: T201  # with -s, the figures of the docs


def page(url: str, **more: object) -> requests.Response:
    return requests.post(f"{url}{PATH}", json={"model": "stub", **more}, timeout=60)


def test_a_killed_replica_costs_no_page() -> None:
    with two() as (door, first, _), load(door.url) as outcome:
        until(outcome, PAGES)
        os.kill(first.pid, signal.SIGKILL)
        until(outcome, PAGES)
    say("kill -9", outcome)
    assert outcome.lost == 0


def test_a_frozen_replica_costs_time_and_no_page() -> None:
    with two(timeout_s=SILENCE_S) as (door, first, _), load(door.url) as outcome:
        until(outcome, PAGES)
        os.kill(first.pid, signal.SIGSTOP)
        before = outcome.by_replica["second"]
        until(outcome, 3 * PAGES)
        os.kill(first.pid, signal.SIGCONT)
        assert outcome.by_replica["second"] - before >= 3 * PAGES - 8
        # Back in the round by itself, at most fail_timeout later.
        seen = outcome.by_replica["first"]
        eventually(lambda: _more(outcome.by_replica["first"], seen + 10))
    say("SIGSTOP", outcome)
    assert outcome.lost == 0
    assert SILENCE_S <= outcome.slowest_s < 3 * SILENCE_S


def _more(now: int, wanted: int) -> None:
    assert now >= wanted


@pytest.mark.parametrize("mode", ["reset-early", "half-open", "500", "503", "refuse"])
def test_what_fails_before_the_first_byte_is_moved(mode: str) -> None:
    with two(timeout_s=SILENCE_S) as (door, first, _), load(door.url) as outcome:
        until(outcome, PAGES)
        first.behave(mode)
        until(outcome, PAGES)
        first.behave("ok")
        seen = outcome.by_replica["first"]
        eventually(lambda: _more(outcome.by_replica["first"], seen + 10))
    say(mode, outcome)
    assert outcome.lost == 0


def test_an_answer_names_the_replica_that_gave_it() -> None:
    names = {"first": "stub-1", "second": "stub-2"}
    with two() as (door, first, second):
        answers = [page(door.url) for _ in range(8)]
        assert {read_by(told.content) for told in answers} == set(names)
        first.behave("503")
        answers += [page(door.url) for _ in range(4)]
        for told in answers:
            assert told.headers["X-Cloister-Replica"] == names[read_by(told.content)]
        assert answers[-1].headers["X-Cloister-Replica"] == "stub-2"
        second.behave("reset-early")
        assert page(door.url).headers["X-Cloister-Replica"] in names.values(), "the last tried"
        assert "X-Cloister-Replica" not in requests.get(f"{door.url}/health", timeout=5).headers


def test_no_client_is_sent_to_where_a_replica_redirects() -> None:
    """OpenAI's own clients would follow, with the page."""
    with two() as (door, first, second):
        for one in (first, second):
            one.behave("307")
        answer = page(door.url)
        assert (answer.status_code, answer.history) == (502, [])
        assert answer.json()["error"]["code"] == "invalid_answer"
        assert "Location" not in answer.headers


def test_no_replica_chooses_another_route_for_a_request() -> None:
    with two() as (door, first, second):
        for one in (first, second):
            one.behave("accel")
        answer = page(door.url)
        assert answer.json()["object"] == "chat.completion"
        assert not [name for name in answer.headers if name.startswith("X-Accel")]
        assert "GET /v1/models" not in {**first.counts(), **second.counts()}


def test_a_slow_replica_gets_fewer_pages() -> None:
    with two() as (door, first, _):
        first.behave("slow", first_ms=3000)
        with load(door.url) as outcome:
            until(outcome, 2 * PAGES)
    say("slow", outcome)
    assert outcome.lost == 0
    assert outcome.by_replica["first"] < outcome.by_replica["second"] / 3


@pytest.mark.parametrize("mode", ["reset-mid", "close-mid"])
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_is_cut_is_an_error_and_is_not_sent_twice(mode: str, stream: bool) -> None:  # noqa: FBT001
    with two() as (door, first, second):
        first.behave(mode)
        with load(door.url, stream=stream) as outcome:
            until(outcome, PAGES)
        taken = [one.counts()[f"POST {PATH}"] for one in (first, second)]
    say(f"{mode}, {'streams' if stream else 'whole answers'}", outcome)
    assert outcome.lies == 0
    assert outcome.errors.total() > 0
    assert set(outcome.errors) <= {"ChunkedEncodingError", "ConnectionError"}
    assert outcome.answered == outcome.by_replica["second"]
    assert sum(taken) == outcome.sent, "each page was given to one replica"


def test_streams_survive_the_end_of_another_replica() -> None:
    with two() as (door, first, _), load(door.url, stream=True) as outcome:
        until(outcome, PAGES)
        os.kill(first.pid, signal.SIGKILL)
        until(outcome, PAGES)
    say("kill -9, streams", outcome)
    assert outcome.lies == 0
    assert outcome.lost <= 8, "those that had begun, one a client at most"


def test_a_page_that_kills_what_reads_it_is_tried_twice_and_no_more() -> None:
    with ExitStack() as stack:
        replicas = [stack.enter_context(stub(f"stub-{n}", chunks=1)) for n in range(3)]
        door = stack.enter_context(gateway([one.address for one in replicas]))
        for one in replicas:
            one.behave("reset-early")
        answer = page(door.url)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_down")
        assert sum(one.counts().get(f"POST {PATH}", 0) for one in replicas) == 2


def test_a_single_replica_is_never_ruled_out() -> None:
    with stub("only", chunks=1) as only, gateway([only.address]) as door:
        only.behave("refuse")
        answers = [page(door.url) for _ in range(20)]
        assert {answer.status_code for answer in answers} == {502}
        assert all(answer.headers["Retry-After"] == "5" for answer in answers)
        only.behave("ok")
        assert page(door.url).status_code == 200


def test_when_all_are_full_the_answer_is_503_at_once_and_health_is_good() -> None:
    with two(max_conns=2) as (door, first, second):
        for one in (first, second):
            one.behave("slow", first_ms=8000)
        with ThreadPoolExecutor(12) as threads:
            answers = [threads.submit(page, door.url) for _ in range(12)]
            eventually(lambda: _more(sum(answer.done() for answer in answers), 8))
            done = [answer.result().status_code for answer in answers if answer.done()]
            assert done == [503] * 8, "nobody waited for a page to end"
            assert requests.get(f"{door.url}/health", timeout=20).status_code == 200
            statuses = [answer.result().status_code for answer in answers]
        refused = next(a.result() for a in answers if a.result().status_code == 503)
    assert sorted(statuses) == [200] * 4 + [503] * 8
    assert refused.json()["error"]["code"] == "no_replica"
    assert refused.headers["Retry-After"] == "1"


def test_a_storm_of_503_from_all_comes_back_quickly_and_passes() -> None:
    with two() as (door, first, second), load(door.url) as outcome:
        until(outcome, PAGES)
        for one in (first, second):
            one.behave("503")
        until(outcome, PAGES)
        for one in (first, second):
            one.behave("ok")
        answered = outcome.answered
        eventually(lambda: _more(outcome.answered, answered + PAGES))
    say("503 from all for a while", outcome)
    assert set(outcome.errors) == {"503"}
    assert outcome.slowest_s < 10, "nobody waited for one that had failed"


def test_weights_share_the_pages_out() -> None:
    weighted = two(weights=[3, 1], page_ms=SHARED_PAGE_MS)
    with weighted as (door, _, _second), load(door.url, at_once=8) as outcome:
        until(outcome, PAGES)
    say("weights 3 and 1", dict(outcome.by_replica))
    share = outcome.by_replica["first"] / outcome.sent
    assert 0.68 < share < 0.82


def test_least_connections_are_shared_by_all_workers() -> None:
    slow = two(page_ms=SHARED_PAGE_MS)
    with slow as (door, _, _second), load(door.url, at_once=8) as outcome:
        until(outcome, PAGES)
    assert outcome.by_replica["first"] == pytest.approx(outcome.by_replica["second"], rel=0.15)


def test_without_any_name_server_pages_are_read_and_reloads_work(tmp_path: Path) -> None:
    """nginx runs with a resolv.conf that leads nowhere: nothing on a page's way asks it."""
    nowhere = tmp_path / "resolv.conf"
    nowhere.write_text("nameserver 192.0.2.1\n")
    with two() as (door, _, _second):
        subprocess.run(["mount", "--bind", str(nowhere), "/etc/resolv.conf"], check=True)
        try:
            with load(door.url) as outcome:
                until(outcome, PAGES)
                door.reload(door.door)
                until(outcome, PAGES)
        finally:
            # Lazily: any program on this machine may be reading it at this moment.
            subprocess.run(["umount", "--lazy", "/etc/resolv.conf"], check=True)
    say("no name server", outcome)
    assert outcome.lost == 0


def test_a_full_log_disk_costs_no_page(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(tmp_path)], check=True)
    try:
        tmp_path.chmod(0o777)
        with two(logs=tmp_path) as (door, _, _second):
            filler = tmp_path / "filler"
            with filler.open("wb", buffering=0) as file:
                assert file.write(bytes(1 << 20)) < 1 << 20, "it takes what there is room for"
            with load(door.url) as outcome:
                until(outcome, PAGES)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    say("log disk full", outcome)
    assert outcome.lost == 0


def test_no_room_for_a_body_is_said_and_small_pages_are_still_read() -> None:
    with two() as (door, _, _second):
        place = door.folder / "body"
        options = "size=2m,mode=777"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=True)
        try:
            large = page(door.url, messages=["x" * (4 << 20)])
            assert (large.status_code, large.json()["error"]["code"]) == (500, "gateway_error")
            assert large.headers["Retry-After"] == "5"
            assert page(door.url, messages=["x" * 500_000]).status_code == 200
            # There is room again once nginx has closed what it refused, maybe after its answer.
            eventually(lambda: _assert_status(door.url, 200, messages=["x" * (3 << 19)]))
        finally:
            # Lazily: a body that was read may be closed after its answer too.
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_running_out_of_descriptors_passes() -> None:
    with two() as (door, _, _second):
        door.descriptors = 40
        door.replace_workers(without(door.door, "stub-2"))
        workers = {process.pid for process in door.processes()}
        held = [socket.create_connection(("127.0.0.1", door.port), 5) for _ in range(150)]
        try:
            eventually(lambda: _assert_in("Too many open files", door.errors()))
        finally:
            for one in held:
                one.close()
        eventually(lambda: _assert_status(door.url, 200))
        with load(door.url, at_once=4) as outcome:
            until(outcome, PAGES)
        say("after running out of descriptors", outcome)
        assert outcome.lost == 0
        assert {process.pid for process in door.processes()} >= workers


def _assert_in(text: str, log: str) -> None:
    assert text in log


def _assert_status(url: str, status: int, **more: object) -> None:
    assert page(url, **more).status_code == status
