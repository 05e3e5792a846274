"""Programs that ended, hang or are missing: found, started again, and named by `status`."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast
from unittest.mock import Mock

import psutil
import pytest
import yaml

from cloister import chat, config, events, gateway, sockets, unixhttp
from cloister.config import Settings
from cloister.deployment import access, defects, lifecycle, present
from cloister.deployment.access import Access
from cloister.deployment.plan import door, of, plan, programs
from cloister.deployment.record import Record, Standing, required, write
from cloister.deployment.status import (
    ProgramStatus,
    Status,
    _check,
    _check_watchdog,
    _is_healthy,
    status,
)
from cloister.endpoint import UnixSocket
from cloister.engines import ENGINES
from cloister.errors import DeploymentError
from cloister.events import Journal
from cloister.files import exclusive, is_locked, write_atomically
from cloister.gateway import Place
from cloister.layout import Layout
from cloister.runtimes import (
    EXPORTER,
    GATEWAY,
    RUNTIMES,
    WATCHDOG,
    Program,
    ProgramState,
    Runtime,
    longest_stop_s,
)
from cloister.runtimes.docker import overlay
from cloister.runtimes.supervisor import Supervisor
from cloister.runtimes.supervisord import described_stop_s, render
from cloister.watchdog.backoff import Failures
from cloister.watchdog.shared import SharedProgram, SharedPrograms, longest_silence_s
from cloister.watchdog.watch import Watch

ROOT = Path(__file__).parents[2]
RUNS = ProgramState(GATEWAY, "running", 1, 100, "")


def load(state: Path, *flags: str) -> Settings:
    environ = {"CLOISTER_CONFIG": "/dev/null", "CLOISTER_STATE_DIR": str(state)}
    return config.load(flags=("engine=tesseract", *flags), environ=environ).settings


@contextmanager
def family() -> Iterator[tuple[psutil.Process, psutil.Process]]:
    """Give a process with a child, both of which wait."""
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE) as parent:
        process = psutil.Process(parent.pid)
        while not (children := process.children()):
            assert parent.poll() is None
        yield process, children[0]
        for one in (children[0], process):
            one.resume()
            one.kill()


def until(reached: Callable[[], object]) -> None:
    while not reached():
        time.sleep(0.01)


def test_a_frozen_process_is_found_and_an_engine_s_workers_are_its_own() -> None:
    with family() as (parent, child):
        assert defects.frozen(parent.pid) is None
        child.suspend()
        until(lambda: defects.frozen(parent.pid) == child.pid)
        assert defects.frozen(parent.pid, main_only=True) is None
        parent.suspend()
        until(lambda: defects.frozen(parent.pid, main_only=True) == parent.pid)
    assert defects.frozen(parent.pid) is None, "it has ended"


def take_and_close(listening: socket.socket, times: int) -> None:
    for _ in range(times):
        listening.accept()[0].close()


@pytest.mark.parametrize(
    ("kind", "expected"), [("closes", "full"), ("silent", "silent"), ("nobody", "silent")]
)
def test_a_gateway_without_room_is_no_silent_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, expected: str
) -> None:
    """Clients that take all of nginx' connections must not get it restarted."""
    monkeypatch.setattr(defects, "ASK_S", 0.5)
    place = UnixSocket(tmp_path / "sock")
    planned: Any = SimpleNamespace(
        names=(),
        site=SimpleNamespace(
            status=SimpleNamespace(here=place), exporter=SimpleNamespace(here=place)
        ),
    )
    with socket.socket(socket.AF_UNIX) as listening, ThreadPoolExecutor(1) as threads:
        listening.bind(str(place.path))
        if kind != "nobody":
            listening.listen()
        if kind == "closes":
            threads.submit(take_and_close, listening, times=3)
        with chat.session(unixhttp.below(tmp_path)) as session:
            assert defects.ask(planned, GATEWAY, session) == expected
            assert defects.ask(planned, EXPORTER, session) == "silent", "that one is nginx' alone"
            state = defects.examine(planned, replace(RUNS, pid=os.getpid()), session)
            assert (state.state, state.detail) == {
                "full": ("running", defects.FULL),
                "silent": ("failed", "it has not answered for 0.5 s"),
            }[expected]


def reply(listening: socket.socket, kind: str) -> None:
    with listening.accept()[0] as connection:
        if kind == "closes after the request":
            connection.recv(1)  # the rest is unread, which resets the connection
        elif kind != "closes":
            connection.recv(4096)
            connection.sendall(kind.encode())


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("closes", 0),
        ("closes after the request", 0),
        ("HTTP/1.1 200 OK\r\n\r\n", 0),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", 0),
        ("HTTP/1.1 500 Internal Server Error\r\n\r\n", 1),
        ("SSH-2.0", 1),
    ],
)
def test_a_gateway_full_of_clients_passes_its_container_s_check(
    tmp_path: Path, kind: str, code: int
) -> None:
    """Docker calls what fails three checks unhealthy, and the watchdog restarts that."""
    program, place = tmp_path / "healthcheck", tmp_path / "sock"
    source = ROOT / "images" / "gateway" / "healthcheck.c"
    subprocess.run(["cc", "-Wall", "-Werror", "-o", program, source], check=True)
    with socket.socket(socket.AF_UNIX) as listening, ThreadPoolExecutor(1) as threads:
        listening.bind(str(place))
        listening.listen()
        replied = threads.submit(reply, listening, kind)
        done = subprocess.run([program, place], check=False, timeout=60, capture_output=True)
        replied.result(10)
    assert done.returncode == code, done.stderr
    assert subprocess.run([program, place], check=False, capture_output=True).returncode == 1


def test_a_frozen_supervisor_is_one_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloister.runtimes.supervisor._ANSWER_S", 0.1)
    layout = Layout(tmp_path)
    layout.run.mkdir()
    supervisor = Supervisor(layout, 10)
    with closing(sockets.listen(layout.run / "supervisor.sock")):  # accepts, and says nothing
        assert not supervisor.alive()
        assert supervisor.states() == ()
        assert supervisor.orphans() == ()


def test_what_runs_has_its_own_time_to_stop_though_new_settings_have_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path)
    layout.run.mkdir()
    slow = Program("tesseract-1", "engine", ("true",), stop_wait_s=700)
    quick = replace(slow, stop_wait_s=150)
    text = render((quick, slow), folder=layout.run, logs=layout.logs, root=ROOT)
    (layout.run / "supervisord.conf").write_text(text)
    waits: list[float] = []

    @contextmanager
    def rpc(_: Supervisor, *__: object, answer_s: float = 0) -> Iterator[Any]:
        waits.append(answer_s)
        answers = {"reloadConfig.return_value": [[[], ["tesseract-1"], []]]}
        yield Mock(**answers, **{"getAllProcessInfo.return_value": []})

    monkeypatch.setattr(Supervisor, "_rpc", rpc)
    supervisor = Supervisor(layout, 150)
    assert supervisor.apply((quick,), {"tesseract-1"}) == ("tesseract-1",)
    assert max(waits) >= 700
    assert "\nstopwaitsecs=700" not in (layout.run / "supervisord.conf").read_text()
    waits.clear()
    Supervisor(layout, 150).remove({"tesseract-1"})  # as if that command was killed
    assert max(waits) >= 700
    Supervisor(layout, 800).remove({"tesseract-1"})
    assert max(waits) >= 800
    (layout.run / "supervisord.conf").unlink()
    assert described_stop_s(layout.run / "supervisord.conf") == 0
    (layout.run / "supervisord.conf").mkdir()
    assert described_stop_s(layout.run / "supervisord.conf") == 0, "one that cannot be read"


@pytest.mark.parametrize(
    ("standing", "is_at_work", "listed"),
    [
        ("serving", False, True),
        ("serving", True, True),
        ("unproven", True, False),
        ("draining", True, False),
        ("unproven", False, True),
    ],
)
def test_a_program_that_nobody_lists_is_missing_unless_a_command_has_it_in_hand(
    tmp_path: Path,
    standing: Standing,
    is_at_work: bool,  # noqa: FBT001
    listed: bool,  # noqa: FBT001
) -> None:
    kept = Record(
        settings=load(tmp_path, "replicas=1"), cores=2, standings={"tesseract-1": standing}
    )
    found = defects.missing(kept, of(kept), [RUNS], is_command_at_work=is_at_work)
    assert {state.name for state in found} == {EXPORTER, WATCHDOG} | (
        {"tesseract-1"} if listed else set()
    )
    assert {state.state for state in found} == {"stopped"}


def refuse(*_: object) -> NoReturn:
    raise DeploymentError("nobody is to be asked")


@pytest.mark.parametrize("is_at_work", [True, False])
def test_status_names_what_a_killed_command_left_missing_though_nobody_heals(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_at_work: bool,  # noqa: FBT001
) -> None:
    """The record of a command that was killed stays: only its lock tells that it is at work."""
    settings = load(tmp_path, "replicas=1", "healing.enabled=false")
    standings: dict[str, Standing] = {"tesseract-1": "unproven"}
    write(Record(settings=settings, cores=2, standings=standings, under_way="up"))
    states = (RUNS, replace(RUNS, name=EXPORTER))
    running: Any = SimpleNamespace(
        states=lambda: states,
        orphans=lambda: (),
        lost_ports=lambda: (),
        require_own=lambda: None,
        session=lambda: chat.session(unixhttp.below(tmp_path)),
    )
    monkeypatch.setitem(RUNTIMES, "process", replace(RUNTIMES["process"], make=lambda _: running))
    monkeypatch.setattr(defects, "examine", lambda _, state, __: state)
    monkeypatch.setattr(access, "of_this_machine", refuse)
    with exclusive(Layout(tmp_path).lock) if is_at_work else nullcontext():
        found = status(settings)
    assert found.up is is_at_work
    assert present.complaints(found) == (
        [] if is_at_work else ["tesseract-1: stopped: it does not run; next: invoke up"]
    )


def test_a_sick_replica_and_a_crash_loop_are_not_well(tmp_path: Path) -> None:
    runs = ProgramStatus("tesseract-1", "running", 1, 1, 1, "", standing="serving")
    sick = replace(runs, standing="sick")
    assert _is_healthy(runs)
    assert not _is_healthy(sick)
    ended = replace(runs, name="exporter", state="stopped", standing=None, detail="exit code 0")
    whole = Status(False, True, "url", "tesseract", "model", (runs, sick, ended))  # noqa: FBT003
    assert present.complaints(whole) == [
        "tesseract-1: sick: it gets no pages; next: invoke events",
        "exporter: stopped: exit code 0",
    ]
    settings = load(tmp_path)
    kept = Record(settings=settings, cores=2)
    told = f'{{"at": {time.time()}, "replicas": {{}}, "looping": ["exporter"]}}'
    write_atomically(Layout(tmp_path).watch, told)
    state = replace(RUNS, name=EXPORTER)
    session: Any = None  # is not used: what ends again and again is not asked
    assert _check(settings, kept, of(kept), session, state).state == "backoff"


def test_a_watchdog_that_ends_again_and_again_is_told_though_it_is_always_young(
    tmp_path: Path,
) -> None:
    settings = load(tmp_path)
    kept = Record(settings=settings, cores=2)
    write(kept)
    young = ProgramState(WATCHDOG, "starting", 1, 1, "")
    assert _check_watchdog(settings, kept, young) == young, "the deployment is young, too"
    past = time.time() - 500
    os.utime(Layout(tmp_path).record, (past, past))
    assert _check_watchdog(settings, kept, young).state == "failed"


class Fleet:
    """A runtime of the gateway alone, which notes what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.state = RUNS
        self.lost: tuple[str, ...] = ()

    def lost_ports(self, *, renew: bool) -> tuple[str, ...]:
        assert renew
        return self.lost

    def session(self) -> Any:
        return nullcontext()

    def halt(self, name: str, *, at_once: bool) -> None:
        self.done.append(f"halt {name} {at_once}")

    def start(self, name: str) -> None:
        self.done.append(f"start {name}")


@contextmanager
def shared(tmp_path: Path, fleet: Fleet) -> Iterator[Callable[[float], SharedProgram]]:
    """Give a function that lets the watchdog care once, and waits until it has."""
    planned = of(Record(settings=load(tmp_path), cores=2))
    with ThreadPoolExecutor(2) as threads:
        watch = SharedPrograms(Layout(tmp_path), Journal(Layout(tmp_path), "watchdog"), threads)
        program = watch._programs[GATEWAY]

        def care(silence_s: float) -> SharedProgram:
            watch.care(planned, cast("Runtime", fleet), {GATEWAY: fleet.state}, silence_s)
            for future in (program.probe, program.repair):
                if future is not None:
                    future.result()
            return program

        yield care


def test_a_port_that_is_lost_and_held_again_is_noted_once(tmp_path: Path) -> None:
    fleet = Fleet()
    fleet.state = replace(RUNS, state="backoff", pid=None)
    with shared(tmp_path, fleet) as care:
        for lost in ((), ("a:1 (in use)",), ("a:1 (in use)",), (), ()):
            fleet.lost = lost
            care(100)
    told = [event.why for event in events.read(Layout(tmp_path)) if event.event == "reservation"]
    assert told == ["a:1 (in use) is not held", "it is held again"]


def test_a_gateway_without_a_process_is_started_unless_its_runtime_does_or_a_command_works(
    tmp_path: Path,
) -> None:
    fleet = Fleet()
    with shared(tmp_path, fleet) as care:
        fleet.state = replace(RUNS, state="backoff", pid=None)
        care(0)
        assert fleet.done == [], "its runtime starts it"
        fleet.state = replace(RUNS, state="stopped", pid=None)
        with exclusive(Layout(tmp_path).lock):
            care(100)
            care(100)
        assert fleet.done == [], "a command may be stopping it"
        care(100)
        care(100)
        assert fleet.done == [f"start {GATEWAY}"]
        for _ in range(10):
            care(100)
        assert fleet.done == [f"start {GATEWAY}"] * 3, "the third failure has to wait"


def test_a_gateway_that_is_silent_is_killed_and_started_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet()
    failed = replace(RUNS, state="failed", detail="it is silent")
    monkeypatch.setattr(defects, "examine", lambda *_: failed)
    with shared(tmp_path, fleet) as care:
        for _ in range(5):
            care(100)
        assert fleet.done == []
        care(0)
        assert fleet.done == [f"halt {GATEWAY} True", f"start {GATEWAY}"]
        monkeypatch.setattr(defects, "examine", lambda *_: RUNS)
        for _ in range(5):
            care(0)
        assert fleet.done == [f"halt {GATEWAY} True", f"start {GATEWAY}"]


def test_a_lock_that_is_held_is_told_without_being_taken(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path), "there is none"
    with exclusive(path):
        assert is_locked(path)
    assert not is_locked(path)
    with exclusive(path, wait_s=0):
        assert is_locked(path)


@pytest.mark.parametrize("counts", ["no command", "a command at work", "a command that ended"])
def test_a_restart_by_a_command_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: str
) -> None:
    fleet = Fleet()
    monkeypatch.setattr(defects, "examine", lambda *_: fleet.state)
    recorded = Record(settings=load(tmp_path), cores=2)
    write(recorded)
    with shared(tmp_path, fleet) as care:
        failures = care(100).failures
        for pid in (2, 3, 4, 5, 6):
            if counts == "a command that ended":
                recorded = recorded.with_taken((GATEWAY,))
                write(recorded)
            fleet.state = replace(RUNS, pid=pid)
            at_work = counts == "a command at work"
            with exclusive(Layout(tmp_path).lock) if at_work else nullcontext():
                failures = care(100).failures
            failures = care(100).failures
        assert failures.count == (5 if counts == "no command" else 0)
        fleet.state = replace(RUNS, pid=7)
        assert care(100).failures.count == failures.count + 1, "this one ended by itself"


def test_what_commands_started_again_is_counted_whatever_else_they_change(tmp_path: Path) -> None:
    first = Record(settings=load(tmp_path, "replicas=1"), cores=2)
    taken = first.with_taken((GATEWAY, EXPORTER)).counted(first)
    assert taken.taken == {GATEWAY: 1, EXPORTER: 1}
    again = taken.with_taken((GATEWAY,)).counted(taken)
    assert again.taken == {GATEWAY: 2, EXPORTER: 1}
    target = first.moved({"tesseract-1": "unproven"})
    assert target.counted(again).taken == {GATEWAY: 2, EXPORTER: 1, "tesseract-1": 1}


def test_restart_counts_the_programs_that_it_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(tmp_path, "replicas=1")
    write(Record(settings=settings, cores=2, standings={"tesseract-1": "serving"}))
    done: list[str] = []
    running: Any = SimpleNamespace(
        states=lambda: (replace(RUNS, name=EXPORTER),),
        orphans=lambda: (),
        place=lambda: Place(tmp_path / "gateway", tmp_path / "logs"),
        check_gateway=lambda _: None,
        halt=lambda name: done.append(f"halt {name} {required(settings).taken}"),
        start=lambda name: done.append(f"start {name}"),
    )
    monkeypatch.setitem(RUNTIMES, "process", replace(RUNTIMES["process"], make=lambda _: running))
    lifecycle.restart(settings, (EXPORTER,), done.append)
    assert done == [
        f"restarting {EXPORTER}",
        f"waiting for {EXPORTER} to stop, at most 10 s",
        f"halt {EXPORTER} {{}}",
        f"start {EXPORTER}",
    ]
    assert required(settings).taken == {EXPORTER: 1}


def test_a_gateway_that_its_supervisor_left_takes_no_new_keys_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(tmp_path, "replicas=1")
    write(Record(settings=settings, cores=2))
    running: Any = SimpleNamespace(states=lambda: (), orphans=lambda: (RUNS,))
    monkeypatch.setitem(RUNTIMES, "process", replace(RUNTIMES["process"], make=lambda _: running))
    with pytest.raises(DeploymentError, match="only `up` and `down` may end"):
        lifecycle.reload(settings)


def test_a_program_whose_look_breaks_does_not_leave_the_others_without_care(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = Fleet()
    planned = of(Record(settings=load(tmp_path), cores=2))
    ended = ProgramState(EXPORTER, "stopped", None, 1, "exit code 0")

    def break_(*_: object) -> ProgramState:
        raise ZeroDivisionError

    monkeypatch.setattr(defects, "examine", break_)
    with ThreadPoolExecutor(2) as threads:
        watch = SharedPrograms(Layout(tmp_path), Journal(Layout(tmp_path), "watchdog"), threads)
        program = watch._programs[GATEWAY]

        def care(states: dict[str, ProgramState]) -> None:
            watch.care(planned, cast("Runtime", fleet), states, 100)
            if program.probe is not None:
                until(program.probe.done)

        care({GATEWAY: RUNS})
        care({GATEWAY: RUNS, EXPORTER: ended})
        monkeypatch.setattr(defects, "examine", lambda *_: RUNS)
        care({GATEWAY: RUNS})
        assert program.probe is not None
        assert program.probe.result() == RUNS, "it is looked at again"
    assert fleet.done == [f"start {EXPORTER}"]
    assert f"{GATEWAY}: unexpected ZeroDivisionError at " in caplog.text


def test_silence_is_longer_than_one_question_may_take(tmp_path: Path) -> None:
    """Or one question without an answer in time would cut everybody's pages."""
    for chosen, expected_s in (("null", 30), ("2", 20), ("20", 20), ("21", 21), ("300", 300)):
        settings = load(tmp_path, f"healing.silence_s={chosen}")
        assert longest_silence_s(settings) == expected_s
        assert longest_silence_s(settings) >= 2 * defects.ASK_S


def test_a_gateway_that_closes_connections_has_neither_been_silent_nor_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet()
    monkeypatch.setattr(defects, "examine", lambda *_: replace(RUNS, detail=defects.FULL))
    with shared(tmp_path, fleet) as care:
        program = care(100)
        program.failures = Failures(3, time.monotonic() - 100, time.monotonic() - 100)
        program.well_s -= 100
        for _ in range(3):
            care(0)
        assert fleet.done == [], "it is there, and only full"
        assert program.failures.count == 3, "no seconds in which it was well forgive a failure"
        assert time.monotonic() - program.well_s < 90, "silence is counted from here"
        monkeypatch.setattr(defects, "examine", lambda *_: RUNS)
        for _ in range(3):
            care(100)
        assert program.failures.count == 3, "half a minute of them begins now"
        program.failures = replace(program.failures, forgiven_s=time.monotonic() - 100)
        for _ in range(3):
            care(100)
        assert program.failures.count == 2


def test_a_watchdog_whose_supervisor_is_dead_takes_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(tmp_path, "replicas=1")
    write(Record(settings=settings, cores=2, standings={"tesseract-1": "serving"}))
    running: Any = type("Dead", (), {"states": lambda _: (), "session": lambda _: nullcontext()})()
    monkeypatch.setitem(RUNTIMES, "process", replace(RUNTIMES["process"], make=lambda _: running))
    watch = Watch(settings)
    for _ in range(3):
        watch.round()
    assert required(settings).standings == {"tesseract-1": "serving"}
    assert Layout(tmp_path).watch.exists(), "it lives, and tells that"


def test_a_watchdog_whose_round_hangs_ends(tmp_path: Path) -> None:
    script = (
        "import sys, threading\n"
        "from cloister.watchdog import __main__ as program\n"
        "program._HUNG_S = 1\n"
        "program.Watch = type('W', (), {'__init__': lambda *_: None,"
        " 'round': lambda _: threading.Event().wait()})\n"
        f"sys.argv[1:] = ['--state-dir', {str(tmp_path)!r}]\n"
        "program.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, timeout=120)
    assert done.returncode == -signal.SIGALRM


def test_each_replica_has_the_whole_time_of_the_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The waits of one round add up: 64 replicas, each with a reload of the gateway."""
    settings = load(tmp_path, "replicas=3")
    standings: dict[str, Standing] = {f"tesseract-{n}": "serving" for n in (1, 2, 3)}
    write(Record(settings=settings, cores=2, standings=standings))
    running: Any = SimpleNamespace(states=lambda: (RUNS,), session=nullcontext)
    monkeypatch.setitem(RUNTIMES, "process", replace(RUNTIMES["process"], make=lambda _: running))
    done: list[str] = []
    monkeypatch.setattr(SharedPrograms, "care", lambda *_: done.append("shared"))
    monkeypatch.setattr(Watch, "_care", lambda _, ill: done.append(ill.replica.name))
    Watch(settings, lambda: done.append("alarm")).round()
    assert done == [
        *("alarm", "shared"),
        *("alarm", "tesseract-1", "alarm", "tesseract-2", "alarm", "tesseract-3"),
    ]


def test_an_unexpected_error_is_logged_with_its_type_and_others_are_cared_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load(tmp_path, "replicas=2")
    standings: dict[str, Standing] = {"tesseract-1": "serving", "tesseract-2": "serving"}
    write(Record(settings=settings, cores=2, standings=standings))
    running: Any = SimpleNamespace(states=lambda: (RUNS,), session=nullcontext)
    monkeypatch.setitem(RUNTIMES, "process", replace(RUNTIMES["process"], make=lambda _: running))
    done: list[str] = []

    def break_(*_: object) -> None:
        raise KeyError("text of a page")

    def care(_: Watch, ill: Any) -> None:
        done.append(ill.replica.name)
        break_()

    monkeypatch.setattr(SharedPrograms, "care", break_)
    monkeypatch.setattr(Watch, "_care", care)
    Watch(settings).round()
    assert done == ["tesseract-1", "tesseract-2"]
    logged = [one.getMessage() for one in caplog.records]
    for name in ("tesseract-1", "tesseract-2", "the gateway and the exporter"):
        (line,) = [line for line in logged if line.startswith(f"{name}: unexpected KeyError at ")]
        assert "test_nothing_stays_down.py" in line
    assert "text of a page" not in caplog.text
    assert Layout(tmp_path).watch.exists(), "it lives, and tells that"


def test_a_watchdog_with_an_unexpected_error_tries_again(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from cloister.watchdog import __main__ as program\n"
        "program._AFTER_ERROR_S = 0.01\n"
        "rounds = []\n"
        "def round_(_):\n"
        "    rounds.append(1)\n"
        "    if len(rounds) == 3: os.kill(os.getpid(), signal.SIGTERM)\n"
        "    raise ZeroDivisionError\n"
        "program.Watch = type('W', (), {'__init__': lambda *_: None, 'round': round_})\n"
        f"sys.argv[1:] = ['--state-dir', {str(tmp_path)!r}]\n"
        "program.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        check=False,
        timeout=120,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr.count("unexpected ZeroDivisionError at ")) == (0, 3)


FLAGS = ("gateway.timeout_s=700", "tesseract.page_timeout_s=400", "vllm.shutdown_timeout_s=3600")


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.parametrize("flags", [(), FLAGS])
def test_each_grace_period_is_longer_than_what_it_waits_for(
    tmp_path: Path, engine: str, flags: tuple[str, ...]
) -> None:
    settings = load(tmp_path, f"engine={engine}", "runtime=docker", "replicas=2", *flags)
    planned = plan(settings, 4)
    wanted = programs(planned, Path("/model"))
    by_role = {program.role: program.stop_wait_s for program in wanted}
    own_s = {"tesseract": settings.tesseract.page_timeout_s}.get(
        engine, settings.vllm.shutdown_timeout_s
    )
    assert by_role["engine"] > own_s
    place = Place(Path("/run"), None, Path("/spool"), owner=1)
    text = gateway.render(door(planned, Access(), {}, {}), place)
    found = re.search(r"worker_shutdown_timeout (\d+)s;", text)
    assert found
    assert by_role["gateway"] > int(found[1]) > settings.gateway.timeout_s
    assert longest_stop_s(settings) >= max(by_role.values())
    described = services(overlay.render(settings, wanted, ()))
    for program in wanted:
        if program.role == "engine":
            assert described[program.name]["stop_grace_period"] == f"{program.stop_wait_s}s"
    variables = overlay.variables(settings, None)
    assert variables["CLOISTER_GATEWAY_STOP"] == f"{by_role['gateway']}s"


def services(text: str) -> Any:
    """Return the services of a Compose file; its own tags say how it is merged with others."""
    return yaml.safe_load(text.replace("!override ", "").replace("!reset ", ""))["services"]


def test_plain_compose_has_the_grace_periods_of_the_defaults() -> None:
    def grace(file: str, service: str) -> str:
        text: str = services((ROOT / "compose" / file).read_text())[service]["stop_grace_period"]
        return text

    defaults = load(Path("/state"))
    for engine in ENGINES.values():
        assert grace("engine.yaml", "engine") == f"{engine.stop_wait_s(defaults)}s"
    variable = overlay.variables(defaults, None)["CLOISTER_GATEWAY_STOP"]
    assert grace("compose.yaml", GATEWAY) == f"${{CLOISTER_GATEWAY_STOP:-{variable}}}"


@pytest.mark.parametrize("file", ["compose.yaml", "engine.yaml"])
def test_every_container_is_restarted_whoever_sent_it_a_signal(file: str) -> None:
    """An engine that was killed takes its own signals, at its next start, for a user's `stop`."""
    described = services((ROOT / "compose" / file).read_text())
    policies = {name: one["restart"] for name, one in described.items()}
    policies.pop("model-downloader", None)
    assert set(policies.values()) == {"always"}
