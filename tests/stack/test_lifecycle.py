"""Up, down and everything that goes wrong between them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import requests
import stubborn
from deployments import (
    ROOT,
    SAMPLES,
    Stack,
    command_line,
    deployed,
    eventually,
    is_over,
    program,
)
from fleets import Faulty, events, happened, known
from pages import data_url, encoded, page, request

from cloister import config, deployment, sockets, takeover
from cloister.endpoint import TcpAddress
from cloister.layout import Layout
from cloister.runtimes import GATEWAY
from cloister.runtimes.program import socket_folder
from cloister.runtimes.supervisor import Supervisor


def read(stack: Stack, text: str = "Page 2345") -> requests.Response:
    body = request(data_url(encoded(page(text))))
    return requests.post(f"{stack.url}/v1/chat/completions", json=body, timeout=120)


def assert_reads(stack: Stack) -> None:
    answer = read(stack)
    assert answer.status_code == 200, answer.text
    assert "Page 2345" in answer.text


@contextmanager
def readers(stack: Stack, threads: int = 3) -> Iterator[list[requests.Response]]:
    """Keep sending pages until the block ends; give all answers."""
    answers: list[requests.Response] = []
    going = True

    def send() -> None:
        while going:
            answers.append(read(stack))

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(send) for _ in range(threads)]
        try:
            yield answers
        finally:
            going = False
            for thread in running:
                thread.result()


def test_up_prints_the_address_and_a_second_up_changes_nothing(fresh: Stack) -> None:
    first = fresh.invoke("up")
    assert f"{fresh.url}/v1" in first.stdout
    before = fresh.pids()
    assert fresh.json("up")["started"] == []
    for seed in "12":  # interpreters that were just started, each with another order of its sets
        again = subprocess.run(
            [sys.executable, "-m", "invoke", "up", "--json"],
            cwd=ROOT,
            env={**fresh.environment, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
        assert json.loads(again.stdout)["started"] == []
    assert fresh.pids() == before
    assert_reads(fresh)
    assert fresh.json("health")["engine"].startswith("tesseract/")


def test_programs_do_not_inherit_what_is_none_of_their_business(fresh: Stack) -> None:
    fresh.settings |= {"HF_TOKEN": "secret", "HTTPS_PROXY": "http://proxy.example:3128"}
    fresh.invoke("up")
    environment = psutil.Process(fresh.pids()["tesseract-1"]).environ()
    assert "PATH" in environment
    assert not {"HF_TOKEN", "HTTPS_PROXY"} & set(environment)
    assert_reads(fresh)


def test_down_leaves_no_process_and_is_harmless_twice(fresh: Stack) -> None:
    fresh.invoke("up")
    assert fresh.processes()
    fresh.invoke("down")
    assert fresh.processes() == []
    assert "nothing was up" in fresh.invoke("down").stderr
    fresh.invoke("status", code=1)
    assert "invoke up" in fresh.invoke("ocr", str(SAMPLES / "invoice.png"), code=6).stderr


def test_a_worker_that_crashes_costs_its_own_page_only(fresh: Stack) -> None:
    fresh.invoke("up", "--set", "tesseract.workers=1")
    engine = psutil.Process(fresh.pids()["tesseract-1"])
    (worker,) = engine.children()
    with ThreadPoolExecutor(1) as pool:
        # Stopped, so that it holds the page for certain when it is killed.
        worker.suspend()
        answer = pool.submit(read, fresh)
        eventually(lambda: fresh.assert_reading(1))
        worker.kill()
        refused = answer.result()
    assert refused.status_code == 500
    assert refused.json()["error"]["code"] == "worker_crashed"
    assert_reads(fresh)
    assert fresh.pids()["tesseract-1"] == engine.pid


def test_a_page_that_takes_too_long_is_given_up_with_a_504(fresh: Stack) -> None:
    fresh.invoke("up", "--set", "tesseract.workers=1", "--set", "tesseract.page_timeout_s=5")
    engine = psutil.Process(fresh.pids()["tesseract-1"])
    (worker,) = engine.children()
    worker.suspend()
    answer = read(fresh)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "page_timeout")
    # A busy machine may take longer than the time-out to start the next worker, so that a page
    # or two fail again. The stopped worker must be gone, and its engine must still be there.
    eventually(lambda: assert_reads(fresh), within_s=120)
    _assert_gone(worker)
    assert engine.is_running()


def test_a_restart_between_two_looks_of_the_watchdog_is_no_death() -> None:
    with deployed(healing_interval_s=10) as rarely:
        rarely.invoke("up")
        known(rarely, "tesseract-1", rarely.pids()["tesseract-1"])
        rarely.invoke("restart", "--name", "tesseract-1")
        known(rarely, "tesseract-1", rarely.pids()["tesseract-1"])
        assert "sick" not in [event["event"] for event in events(rarely, "tesseract-1")]


@pytest.mark.parametrize("program", ["tesseract-1", "vllm-nginx-gateway", "exporter"])
def test_a_killed_program_is_restarted(stack: Stack, program: str) -> None:
    before, since = stack.pids(), len(events(stack, program))
    if program == "tesseract-1":
        known(stack, program, before[program])
    os.kill(before[program], signal.SIGKILL)

    def replaced() -> None:
        pids = stack.pids()
        assert pids[program] not in {None, before[program]}
        assert_reads(stack)
        metrics = requests.get(f"{stack.url}/metrics", timeout=5)
        assert 'cloister_replica_up{replica="tesseract-1"} 1.0' in metrics.text
        names = [command_line(process) for process in stack.processes()]
        assert sum("nginx: master" in name for name in names) == 1, names

    eventually(replaced)
    if program == "tesseract-1":  # it gets pages until its end is seen, and is then out a moment
        happened(stack, "recovered", program, since)


def test_everything_killed_at_once_and_up_again(fresh: Stack) -> None:
    fresh.invoke("up")
    fresh.kill_all()
    fresh.invoke("status", code=1)
    fresh.invoke("up")
    assert_reads(fresh)


def test_a_killed_supervisor_leaves_no_orphans_behind_the_next_up(fresh: Stack) -> None:
    fresh.invoke("up")
    before = {process.pid for process in fresh.processes()}
    (supervisor,) = [p for p in fresh.processes() if "supervisord" in command_line(p)]
    supervisor.kill()
    eventually(lambda: _assert_gone(supervisor))
    assert_reads(fresh)  # the orphans go on
    fresh.invoke("up")
    assert_reads(fresh)
    assert before.isdisjoint(process.pid for process in fresh.processes())


def test_only_up_and_down_end_what_a_killed_supervisor_left(fresh: Stack) -> None:
    """A command that is to look or to plan ended a service that read its pages."""
    fresh.invoke("up")
    (supervisor,) = [p for p in fresh.processes() if "supervisord" in command_line(p)]
    supervisor.kill()
    eventually(lambda: _assert_gone(supervisor))
    before = {process.pid for process in fresh.processes()}
    fresh.invoke("status", code=1)
    found = config.load(flags=("engine=tesseract",), environ=fresh.environment).settings
    deployment.runtime(found).check()  # as `setup` does
    fresh.invoke("events")
    fresh.invoke("config")
    for command in (("scale", "2", "--plan"), ("scale", "2"), ("rollout", "--plan"), ("restart",)):
        said = fresh.invoke(*command, code=6).stderr
        assert "the supervisor does not answer, and left exporter, tesseract-1, vllm-nginx-" in said
        assert "invoke up" in said
    assert {process.pid for process in fresh.processes()} == before
    assert_reads(fresh)
    fresh.invoke("down")
    assert fresh.processes() == []
    assert "invoke up" in fresh.invoke("restart", code=6).stderr


def _assert_gone(process: psutil.Process) -> None:
    assert is_over(process)


def test_a_port_that_is_not_held_for_the_gateway_is_told_and_the_watchdog_holds_it(
    fresh: Stack,
) -> None:
    fresh.invoke("up", "--set", "healing.interval_s=1")
    fresh.invoke("status")
    taken = TcpAddress("127.0.0.1", fresh.port + 1)
    supervisor = Supervisor(Layout(fresh.state), 10, (taken,))
    with closing(socket.create_server((taken.host, taken.port))):
        supervisor.reserve()
        (row,) = [
            one for one in fresh.json("status", code=1)["programs"] if one["name"] == "reservation"
        ]
        assert row["state"] == "failed"
        assert f"{taken} (Address already in use) is not held" in row["detail"]
        eventually(lambda: happened(fresh, "reservation", GATEWAY, 0))
    eventually(lambda: fresh.invoke("status"))
    with pytest.raises(OSError, match="in use"):
        socket.create_server((taken.host, taken.port))


def test_what_is_there_after_it_was_killed_is_named_and_down_did_not_succeed(fresh: Stack) -> None:
    with stubborn.process() as pid:
        fresh.invoke("up")
        takeover.record(fresh.state / "run" / "tesseract-2.group", pid)  # as of an earlier run
        said = fresh.invoke("down", code=6).stderr
        assert f"still there: `tesseract-2` (process {pid}, " in said
        assert [process.pid for process in fresh.processes()] == []
    fresh.invoke("down")


def test_a_taken_port_is_named_with_its_owner(fresh: Stack) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", fresh.port))
        taken.listen()
        error = fresh.invoke("up", code=6).stderr
    assert f"port {fresh.port} on 127.0.0.1 cannot be used" in error
    assert str(os.getpid()) in error
    assert "gateway.port" in error
    assert fresh.processes() == []


@pytest.mark.parametrize("name", ["tesseract-1", "exporter", "vllm-nginx-gateway"])
def test_a_socket_that_a_stranger_serves_is_named_and_stays(fresh: Stack, name: str) -> None:
    place = Layout(fresh.state).sockets / socket_folder(name) / "sock"
    place.parent.mkdir(parents=True)
    with closing(sockets.listen(place)):
        error = fresh.invoke("up", code=6).stderr
        assert f"another program listens at `{place}`" in error
        assert sockets.is_served(place)
    fresh.invoke("up")  # what a stranger left is no hindrance
    assert_reads(fresh)


def test_the_engine_changes_and_changes_back_though_both_have_the_same_sockets(
    fresh: Stack, tmp_path: Path
) -> None:
    faulty = Faulty(tmp_path)
    fresh.settings["PATH"] = faulty.environment["PATH"]
    fresh.settings["PYTHONPATH"] = faulty.environment["PYTHONPATH"]
    fresh.invoke("up", "--set", "engine=tesseract")
    flags = ("engine=vllm-cpu", f"model.folder={faulty.model}", "vllm.max_num_seqs=4")
    fresh.invoke("up", *(word for flag in flags for word in ("--set", flag)))
    assert "vllm-nanonets-ocr-1" in fresh.pids()
    assert "tesseract-1" not in fresh.pids()
    assert read(fresh).headers["X-Cloister-Replica"] == "vllm-nanonets-ocr-1"
    fresh.invoke("up", "--set", "engine=tesseract")
    assert "vllm-nanonets-ocr-1" not in fresh.pids()
    assert_reads(fresh)


def test_a_missing_nginx_is_said_with_what_to_type(fresh: Stack) -> None:
    fresh.settings["CLOISTER_GATEWAY_NGINX"] = "/nonexistent/nginx"
    assert "`/nonexistent/nginx` is not installed" in fresh.invoke("up", code=10).stderr
    assert fresh.processes() == []


def test_a_missing_language_is_said_with_what_to_type(fresh: Stack) -> None:
    error = fresh.invoke("up", "--set", "tesseract.languages=eng+tlh", code=3).stderr
    assert "no data for language `tlh`" in error
    assert "tesseract-ocr-tlh" in error


def test_an_engine_that_cannot_start_is_reported_with_its_log(fresh: Stack) -> None:
    data = fresh.state / "tessdata"
    data.mkdir()
    (data / "eng.traineddata").write_bytes(b"not a model")
    error = fresh.invoke("up", "--set", f"tesseract.tessdata_dir={data}", code=6).stderr
    assert "tesseract-1 ended" in error
    assert "Failed to init API" in error


def test_a_state_folder_that_is_a_file_is_one_line(fresh: Stack) -> None:
    (fresh.state / "file").touch()
    state = str(fresh.state / "file" / "state")
    fresh.settings["CLOISTER_STATE_DIR"] = state
    assert f"`{state}" in fresh.invoke("up", code=6).stderr
    del fresh.settings["CLOISTER_STATE_DIR"]


def test_two_ups_at_once_do_not_mix(fresh: Stack) -> None:
    command = [sys.executable, "-m", "invoke", "up"]
    with ExitStack() as running:
        both = [
            running.enter_context(
                program(command, env=fresh.environment, stderr=subprocess.PIPE, text=True)
            )
            for _ in range(2)
        ]
        errors = [process.communicate(timeout=240)[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 6], [0, 0]), errors  # the second may have come after the first
    if codes == [0, 6]:
        assert any("another Cloister command" in error for error in errors)
    assert_reads(fresh)


def test_an_interrupted_up_says_so_and_the_next_one_works(fresh: Stack) -> None:
    with program(
        [sys.executable, "-m", "invoke", "up"],
        env=fresh.environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "waiting" in line:
                process.send_signal(signal.SIGINT)
                break
        assert "interrupted" in process.stderr.read()
    assert process.returncode == 130
    fresh.invoke("up")
    assert_reads(fresh)


def test_replicas_share_the_work_and_scaling_loses_no_page(fresh: Stack) -> None:
    fresh.invoke("up", "--set", "tesseract.workers=1")
    (worker,) = psutil.Process(fresh.pids()["tesseract-1"]).children()
    with readers(fresh) as answers:
        eventually(lambda: _assert_more(answers, 1))
        worker.suspend()  # so that the first replica is busy for certain when the second comes
        try:
            eventually(lambda: fresh.assert_reading(1))
            flags = ("--replicas", "2", "--set", "tesseract.workers=1")
            command = [sys.executable, "-m", "invoke", "up", *flags]
            with program(command, env=fresh.environment, stderr=subprocess.PIPE, text=True) as up:
                assert any("letting tesseract-2 warm up" in line for line in up.stderr)
                worker.resume()
                said = up.communicate(timeout=240)[1]
        finally:
            worker.resume()
        assert up.returncode == 0, said
        count_of_two = len(answers)
        eventually(lambda: _assert_shared(answers[count_of_two:]), within_s=180)
    assert {answer.status_code for answer in answers} == {200}
    assert {"tesseract-1", "tesseract-2"} < set(fresh.pids())
    metrics = requests.get(f"{fresh.url}/metrics", timeout=5).text
    assert 'replica="tesseract-1"' in metrics
    assert 'replica="tesseract-2"' in metrics


def _assert_more(answers: list[requests.Response], count: int) -> None:
    assert len(answers) >= count


def _assert_shared(answers: list[requests.Response]) -> None:
    """Require pages of both replicas; the first pages after the change may be of one alone."""
    assert len(answers) >= 10
    replicas = {answer.headers.get("X-Cloister-Replica") for answer in answers}
    assert replicas >= {"tesseract-1", "tesseract-2"}


def test_a_dead_replica_leaves_the_service_up(fresh: Stack) -> None:
    fresh.invoke("up", "--replicas", "2", "--set", "tesseract.workers=1")
    engine = psutil.Process(fresh.pids()["tesseract-1"])
    engine.suspend()  # hangs: it accepts and does not answer
    assert requests.get(f"{fresh.url}/health", timeout=20).status_code == 200
    with suppress(psutil.NoSuchProcess):  # the watchdog may have found it by now
        engine.kill()
    for _ in range(6):
        assert_reads(fresh)


def test_restart_replaces_programs_one_by_one(fresh: Stack) -> None:
    fresh.invoke("up")
    before = fresh.pids()
    fresh.invoke("restart", "--name", "tesseract-1")
    after = fresh.pids()
    assert after["tesseract-1"] != before["tesseract-1"]
    assert after["vllm-nginx-gateway"] == before["vllm-nginx-gateway"]
    fresh.invoke("restart")
    assert set(fresh.pids().values()).isdisjoint(after.values())
    assert_reads(fresh)
    assert "no program `nope`" in fresh.invoke("restart", "--name", "nope", code=6).stderr


def test_a_changed_port_is_taken_without_a_restart_of_the_engine(fresh: Stack) -> None:
    fresh.invoke("up")
    engine = fresh.pids()["tesseract-1"]
    fresh.port += 10
    fresh.invoke("up")
    assert_reads(fresh)
    assert fresh.pids()["tesseract-1"] == engine


def test_down_lets_a_page_in_flight_finish(fresh: Stack) -> None:
    fresh.invoke("up", "--set", "tesseract.workers=1")
    (worker,) = psutil.Process(fresh.pids()["tesseract-1"]).children()
    with ThreadPoolExecutor(2) as pool:
        worker.suspend()
        answer = pool.submit(read, fresh)
        eventually(lambda: fresh.assert_reading(1))
        stopping = pool.submit(fresh.invoke, "down")
        # The gateway has stopped to listen when it drains; then the worker may go on.
        eventually(lambda: _assert_refused(fresh))
        worker.resume()
        assert answer.result().status_code == 200
        stopping.result()
    assert fresh.processes() == []


def _assert_refused(stack: Stack) -> None:
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", stack.port)) != 0


def test_logs_are_printed_and_an_unknown_one_is_refused(stack: Stack) -> None:
    read(stack)
    assert '"path":"/v1/chat/completions"' in stack.invoke("logs", "--name", "access").stdout
    everything = stack.invoke("logs", "--lines", "5").stdout
    assert "tesseract-1.log" in everything
    assert "there are" in stack.invoke("logs", "--name", "nope", code=6).stderr


def test_logs_follow_what_comes(stack: Stack) -> None:
    command = [sys.executable, "-m", "invoke", "logs", "--name", "access", "--follow"]
    with program(command, env=stack.environment, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        follower.stdout.readline()
        read(stack, "followed")
        started = time.monotonic()
        while "chat/completions" not in follower.stdout.readline():
            assert time.monotonic() - started < 60
        follower.terminate()


def test_a_service_that_comes_back_is_not_taken_for_one_that_died(fresh: Stack) -> None:
    fresh.invoke("up")
    watch = fresh.state / "run" / "watch.json"

    def seen() -> None:
        assert watch.exists()

    eventually(seen)
    fresh.invoke("down")
    assert not watch.exists(), "the processes that were seen are gone on purpose"
