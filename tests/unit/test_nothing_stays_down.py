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
from typing import Any, cast

import psutil
import pytest
import yaml

from cloister import chat, config, events, gateway, sockets, unixhttp
from cloister.config import Settings
from cloister.deployment import defects, present
from cloister.deployment.access import Access
from cloister.deployment.plan import door, of, plan, programs
from cloister.deployment.record import Record, Standing, required, write
from cloister.deployment.status import ProgramStatus, Status, _heard, _is_well, _judge
from cloister.endpoint import UnixSocket
from cloister.engines import ENGINES
from cloister.events import Journal
from cloister.files import exclusive, write_atomically
from cloister.gateway import Place
from cloister.layout import Layout
from cloister.runtimes import (
    EXPORTER,
    GATEWAY,
    RUNTIMES,
    WATCHDOG,
    ProgramState,
    Runtime,
    longest_stop_s,
)
from cloister.runtimes.docker import overlay
from cloister.runtimes.supervisor import Supervisor
from cloister.watchdog.shared import SharedPrograms
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


def take_and_close(listening: socket.socket) -> None:
    listening.accept()[0].close()


@pytest.mark.parametrize(
    ("kind", "is_well"), [("closes", True), ("silent", False), ("nobody", False)]
)
def test_a_gateway_without_room_is_no_silent_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *, is_well: bool
) -> None:
    """Clients that take all of nginx' connections must not get it restarted."""
    monkeypatch.setattr(defects, "_ASK_S", 0.5)
    place = UnixSocket(tmp_path / "sock")
    planned: Any = SimpleNamespace(
        site=SimpleNamespace(
            status=SimpleNamespace(here=place), exporter=SimpleNamespace(here=place)
        )
    )
    with socket.socket(socket.AF_UNIX) as listening, ThreadPoolExecutor(1) as threads:
        listening.bind(str(place.path))
        if kind != "nobody":
            listening.listen()
        if kind == "closes":
            threads.submit(take_and_close, listening)
        with chat.session(unixhttp.below(tmp_path)) as session:
            assert defects.answers(planned, GATEWAY, session) is is_well


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


@pytest.mark.parametrize(
    ("standing", "under_way", "listed"),
    [("serving", None, True), ("serving", "up", True), ("unproven", "scale", False)],
)
def test_a_program_that_nobody_lists_is_missing_unless_a_command_has_it_in_hand(
    tmp_path: Path,
    standing: Standing,
    under_way: str | None,
    listed: bool,  # noqa: FBT001
) -> None:
    kept = Record(
        settings=load(tmp_path, "replicas=1"),
        cores=2,
        standings={"tesseract-1": standing},
        under_way=under_way,
    )
    found = defects.missing(kept, of(kept), [RUNS])
    assert {state.name for state in found} == {EXPORTER, WATCHDOG} | (
        {"tesseract-1"} if listed else set()
    )
    assert {state.state for state in found} == {"stopped"}


def test_a_sick_replica_and_a_crash_loop_are_not_well(tmp_path: Path) -> None:
    runs = ProgramStatus("tesseract-1", "running", 1, 1, 1, "", standing="serving")
    sick = replace(runs, standing="sick")
    assert _is_well(runs)
    assert not _is_well(sick)
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
    assert _judge(settings, kept, of(kept), session, state).state == "backoff"


def test_a_watchdog_that_ends_again_and_again_is_told_though_it_is_always_young(
    tmp_path: Path,
) -> None:
    settings = load(tmp_path)
    kept = Record(settings=settings, cores=2)
    write(kept)
    young = ProgramState(WATCHDOG, "starting", 1, 1, "")
    assert _heard(settings, kept, young) == young, "the deployment is young, too"
    past = time.time() - 500
    os.utime(Layout(tmp_path).record, (past, past))
    assert _heard(settings, kept, young).state == "failed"


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
def shared(tmp_path: Path, fleet: Fleet) -> Iterator[Callable[[float], None]]:
    """Give a function that lets the watchdog care once, and waits until it has."""
    planned = of(Record(settings=load(tmp_path), cores=2))
    with ThreadPoolExecutor(2) as threads:
        watch = SharedPrograms(Layout(tmp_path), Journal(Layout(tmp_path), "watchdog"), threads)
        program = watch._programs[GATEWAY]

        def care(silence_s: float) -> None:
            watch.care(planned, cast("Runtime", fleet), {GATEWAY: fleet.state}, silence_s)
            for future in (program.look, program.treatment):
                if future is not None:
                    future.result()

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
