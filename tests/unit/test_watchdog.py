"""What the watchdog thinks of what it sees: no process, no clock."""

import errno
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister import canary, chat, config, sockets
from cloister.deployment import gauges
from cloister.deployment.plan import of
from cloister.deployment.record import Record, Standing, required, write
from cloister.deployment.status import _check_watchdog
from cloister.engines import Patience
from cloister.gateway import Place
from cloister.layout import Layout
from cloister.runtimes import RUNTIMES, WATCHDOG, ProgramState
from cloister.watchdog import causes
from cloister.watchdog.backoff import Failures
from cloister.watchdog.judgement import Chart, Sighting, judge
from cloister.watchdog.sight import look
from cloister.watchdog.ward import Ward
from cloister.watchdog.watch import Watch, _Case

PATIENCE = Patience(silence_s=10, stall_s=30)
READY_S = 100.0


def numbers(load: int, progress: float) -> dict[str, float]:
    return {
        "vllm:num_requests_running": load,
        "vllm:num_requests_waiting": 0,
        "vllm:generation_tokens_total": progress,
    }


def verdicts(*seen: Sighting) -> list[str]:
    chart: Chart | None = None
    found: list[str] = []
    for one in seen:
        verdict, chart = judge(chart, one, PATIENCE, READY_S)
        found.append(verdict)
    return found


def at(at_s: float, load: int | None, progress: float = 0, run: str = "1") -> Sighting:
    return Sighting(at_s, run, None if load is None else numbers(load, progress))


def test_tokens_are_progress_and_their_absence_is_a_stall_only_after_a_while() -> None:
    assert verdicts(at(0, 5), at(10, 5, 1), at(40, 5, 1), at(41, 5, 1), at(42, 5, 2)) == [
        *("starting", "busy", "busy", "stalled", "busy"),
    ]


def test_an_idle_replica_never_stalls() -> None:
    assert verdicts(at(0, 0), at(1, 0), at(1000, 0), at(1001, 1), at(1030, 1), at(1032, 1)) == [
        *("starting", "idle", "idle", "busy", "busy", "stalled"),
    ]


def test_silence_is_forgiven_for_a_while_and_longer_at_the_start() -> None:
    assert verdicts(at(0, None), at(99, None), at(101, None)) == ["starting", "starting", "silent"]
    assert verdicts(at(0, 0), at(1, 0), at(10, None), at(12, None)) == [
        *("starting", "idle", "unsure", "silent"),
    ]


def test_another_process_is_seen_whether_or_not_there_was_none_between() -> None:
    assert verdicts(at(0, 0), at(1, 0, run="2"), at(2, 0, run="2")) == ["starting", "new", "idle"]
    gone = Sighting(1, "", None)
    assert verdicts(at(0, 0), gone, gone, at(3, 0, run="2")) == ["starting", "gone", "gone", "new"]


@given(st.lists(st.tuples(st.floats(0.1, 29), st.integers(0, 9)), min_size=1, max_size=60))
def test_who_makes_any_progress_is_never_sick(steps: list[tuple[float, int]]) -> None:
    """However full it is, and however slowly it goes on."""
    now_s, seen = 0.0, [at(0, 9)]
    for number, (pause_s, load) in enumerate(steps):
        now_s += pause_s
        seen.append(at(now_s, load, number + 1))
    assert set(verdicts(*seen)) <= {"starting", "busy", "idle"}


def test_the_wait_grows_and_is_forgiven() -> None:
    failures = Failures()
    waits = []
    for number in range(10):
        failures = failures.failed(float(number))
        waits.append(failures.wait_s)
        assert failures.loops is (number >= 4)
    assert waits == [0, 0, 5, 10, 20, 40, 80, 160, 300, 300]
    assert not failures.over(9 + 299)
    assert failures.over(9 + 300)
    assert failures.well(20).count == 10
    assert failures.well(39).well(40).count == 9, "one in half a minute"
    assert failures.well(39).well(70).count == 8


@pytest.mark.parametrize(
    ("log", "part"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory.", "too little free memory"),
        (
            "Free memory on device (10 GiB) is less than desired GPU memory utilization",
            "gpu_memory_percent",
        ),
        ("RuntimeError: CUDA error: device-side assert triggered", "driver or the card"),
        ("RuntimeError: The NVIDIA driver version is insufficient", "driver or the card"),
        ("MemoryError", "docker.engine_memory_mib"),
        ("vllm: error: unrecognized arguments: --nope", "a flag"),
        ("OSError: [Errno 28] No space left on device", "cannot write"),
        ("[Errno 98] Address already in use", "port is taken"),
        ("safetensors_rust.SafetensorError: HeaderTooLarge", "models.verify"),
    ],
)
def test_a_log_points_to_its_cause(log: str, part: str) -> None:
    assert part in (causes.likely(f"INFO something\n{log}\n") or "")


def test_a_log_that_says_nothing_known_points_nowhere() -> None:
    assert causes.likely("INFO all is well") is None
    line = "Running: 0 reqs, Waiting: 0 reqs, CPU KV cache usage: 0.0%, MM cache hit rate: 74.6%"
    assert causes.likely(f"(APIServer pid=7) INFO 11-26 [loggers.py:335] {line}\n") is None


def asked(answer: Callable[[], Any], times: int = 1) -> Ward:
    """Return a replica that is idle and was given test pages."""
    ward = Ward("vllm-nanonets-ocr-1")
    ward.see(at(0, 0), PATIENCE, READY_S)
    ward.see(at(1, 0), PATIENCE, READY_S)
    with ThreadPoolExecutor(1) as threads:
        for _ in range(times):
            ward.ask(answer, 0, threads)
            while ward._canary is not None and not ward._canary.done():
                time.sleep(0.001)
            ward.said = ward.complaint(PATIENCE)  # type: ignore[attr-defined]
    return ward


def refuse(status: int) -> Callable[[], Any]:
    def answer() -> None:
        raise chat.RefusedError("HTTP 500: text of a page", status)

    return answer


def misread() -> None:
    raise canary.MisreadError("`it` read 3 characters")


def test_a_page_that_is_read_proves_a_replica() -> None:
    ward = asked(lambda: None)
    assert (ward.proven, ward.said) == (True, None)  # type: ignore[attr-defined]


def test_garbage_is_a_complaint_at_once() -> None:
    assert "read 3 characters" in asked(misread).said  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("status", "times", "sick"), [(500, 1, False), (500, 2, True), (503, 9, False), (0, 9, False)]
)
def test_refusals_count_from_the_second_and_a_full_queue_never(
    status: int,
    times: int,
    sick: bool,  # noqa: FBT001
) -> None:
    said = asked(refuse(status), times).said  # type: ignore[attr-defined]
    assert said == ("it refuses test pages with HTTP status 500" if sick else None)


@pytest.mark.parametrize(
    ("memory_mib", "other", "recycled"),
    [
        (301, "serving", True),
        (301, "cold", True),
        (300, "serving", False),
        (None, "serving", False),
        (301, None, False),  # it has grown, and nobody would read meanwhile
        (301, "sick", False),
        (301, "draining", False),
        (301, "unproven", False),
    ],
)
def test_a_replica_that_has_grown_is_recycled_while_another_one_reads(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    memory_mib: int | None,
    other: Standing | None,
    recycled: bool,  # noqa: FBT001
) -> None:
    environ = {"CLOISTER_CONFIG": "/dev/null", "CLOISTER_STATE_DIR": str(tmp_path)}
    flags = ("healing.memory_mib=300", "engine=vllm-cpu", f"replicas={2 if other else 1}")
    settings = config.load(flags=flags, environ=environ).settings
    standings: dict[str, Standing] = {"vllm-nanonets-ocr-1": "serving"}
    if other is not None:
        standings["vllm-nanonets-ocr-2"] = other
    now = Record(settings=settings, cores=2, standings=standings)
    planned, asked = of(now), list[str]()
    monkeypatch.setattr(Watch, "_recycle", lambda _, ward, *__: asked.append(ward.name))
    watch, ward = Watch(settings), Ward("vllm-nanonets-ocr-1")
    for second in range(2):
        seen = replace(at(second, 0), memory_mib=memory_mib)
        ward.see(seen, PATIENCE, READY_S)
    running: Any = None  # is not asked
    watch._examine(_Case(now, planned, running, planned.replicas[0], ward, "running"))
    if ward.treatment is not None:
        ward.treatment.result()
    assert asked == ["vllm-nanonets-ocr-1"] * recycled


def test_a_replica_that_a_command_is_at_work_on_is_seen_and_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flags, environ = ("engine=vllm-cpu", "replicas=2"), {"CLOISTER_CONFIG": "/dev/null"}
    planned = of(Record(settings=config.load(flags=flags, environ=environ).settings, cores=2))
    asked = list[str]()

    def tell(_: object, url: str) -> dict[str, float]:
        asked.append(url)
        return numbers(3, 1)

    monkeypatch.setattr(gauges, "of", tell)
    running: Any = SimpleNamespace(session=nullcontext)
    there = {n: ProgramState(n, "running", os.getpid(), 1, "") for n in planned.names}
    with ThreadPoolExecutor(2) as threads:
        seen = look(planned, running, there, {"vllm-nanonets-ocr-1"}, threads)
    assert asked == [planned.replicas[0].url]
    assert (seen["vllm-nanonets-ocr-1"].load, seen["vllm-nanonets-ocr-2"].told) == (3, None)
    assert seen["vllm-nanonets-ocr-1"].run == seen["vllm-nanonets-ocr-2"].run != "", (
        "both are of this process"
    )


def test_rates_are_over_what_was_seen_lately() -> None:
    ward = Ward("vllm-nanonets-ocr-1")
    for second in range(30):
        ward.see(at(second, 1, 50 * second), PATIENCE, READY_S)
    assert ward.vitals().tokens_per_s == 50
    ward.see(at(31, 1, 0, run="2"), PATIENCE, READY_S)
    assert ward.vitals().tokens_per_s is None
    assert ward.vitals().restarts == 1


def test_a_replica_that_left_a_file_beside_its_socket_is_sick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"CLOISTER_CONFIG": "/dev/null", "CLOISTER_STATE_DIR": str(tmp_path)}
    settings = config.load(flags=("engine=tesseract", "replicas=1"), environ=environ).settings
    now = Record(settings=settings, cores=2, standings={"tesseract-1": "serving"})
    planned, moved = of(now), list[str]()
    folder = tmp_path / "run" / "http" / "engine-1"
    folder.mkdir(parents=True)
    watch, ward, running = Watch(settings), Ward("tesseract-1"), SimpleNamespace()

    def move(*_: object, why: str, **__: object) -> bool:
        moved.append(why)
        return False

    monkeypatch.setattr(watch._door, "move", move)
    ward.see(at(0, 0), PATIENCE, READY_S)
    case = _Case(now, planned, cast("Any", running), planned.replicas[0], ward, "running")
    with closing(sockets.listen(folder / "sock")):
        watch._examine(case)
        assert moved == []
        (folder / "page.md").write_text("secret")
        watch._examine(case)
    (why,) = moved
    assert "its socket folder contains more than the socket: files: 1" in why
    assert "page" not in why, "names are text of pages, too"


def fill(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_keeps_no_sick_replica_from_being_restarted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing can be written until the folder is empty: no record, no event, no numbers."""
    environ = {"CLOISTER_CONFIG": "/dev/null", "CLOISTER_STATE_DIR": str(tmp_path)}
    settings = config.load(flags=("engine=tesseract", "replicas=1"), environ=environ).settings
    folder = tmp_path / "run" / "http" / "engine-1"
    folder.mkdir(parents=True)
    (folder / "filler").write_text("x")
    done = list[str]()

    def halt(name: str, *, at_once: bool) -> None:
        done.append(f"halt {name} {at_once}")

    def start(name: str) -> None:
        (folder / "filler").unlink()
        done.append(f"start {name}")

    running = SimpleNamespace(
        states=lambda: [ProgramState("tesseract-1", "running", os.getpid(), 1, "")],
        session=nullcontext,
        place=lambda: Place(tmp_path / "gateway", tmp_path / "logs"),
        check_gateway=lambda _: None,
        halt=halt,
        start=start,
        tail=lambda *_: "",
        lost_ports=lambda **_: (),
    )
    kind = replace(RUNTIMES["process"], make=lambda _: cast("Any", running))
    monkeypatch.setitem(RUNTIMES, "process", kind)
    monkeypatch.setattr(gauges, "of", lambda *_: numbers(0, 0))
    write(Record(settings=settings, cores=2, standings={"tesseract-1": "serving"}))
    watch = Watch(settings)
    with pytest.MonkeyPatch.context() as full:
        full.setattr("tempfile.NamedTemporaryFile", fill)
        full.setattr("cloister.events.os", SimpleNamespace(**{**vars(os), "write": fill}))
        watch.round()
        treatment = watch._wards["tesseract-1"].treatment
        assert treatment is not None
        treatment.result(10)
        for _ in range(3):  # others fill it still
            watch.round()
    assert done == ["halt tesseract-1 True", "start tesseract-1"]
    said = [one.message for one in caplog.records if one.levelname == "ERROR"]
    (once,) = said
    assert "No space left on device; replicas are treated all the same" in once
    # There is room again: it is recorded as sick, until it has read a page.
    watch.round()
    assert required(settings).standings == {"tesseract-1": "sick"}
    assert done == ["halt tesseract-1 True", "start tesseract-1"]


def test_a_watchdog_that_writes_nothing_is_not_called_running(tmp_path: Path) -> None:
    environ = {"CLOISTER_CONFIG": "/dev/null", "CLOISTER_STATE_DIR": str(tmp_path)}
    settings = config.load(flags=("engine=tesseract",), environ=environ).settings
    kept = Record(settings=settings, cores=2)
    state = ProgramState(WATCHDOG, "running", 1, 1000, "")
    young, path = replace(state, since_s=5), Layout(tmp_path).watch
    assert _check_watchdog(settings, kept, young) == young, "it has had no time yet"
    assert _check_watchdog(settings, kept, state).state == "failed"
    path.parent.mkdir(parents=True)
    path.touch()
    assert _check_watchdog(settings, kept, state) == state
    os.utime(path, (time.time() - 300,) * 2)
    told = _check_watchdog(settings, kept, state)
    assert told.state == "failed"
    assert "it has written nothing for 300 s: is the disk full?" in told.detail
    other = replace(state, name="exporter")
    assert _check_watchdog(settings, kept, other) == other


def test_a_folder_that_cannot_be_read_is_a_complaint_and_not_the_watchdog_s_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"CLOISTER_CONFIG": "/dev/null", "CLOISTER_STATE_DIR": str(tmp_path)}
    settings = config.load(flags=("engine=tesseract", "replicas=1"), environ=environ).settings
    now = Record(settings=settings, cores=2, standings={"tesseract-1": "serving"})
    planned = of(now)
    (tmp_path / "run" / "http" / "engine-1").mkdir(parents=True)

    def fail(*_: object, **__: object) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(sockets, "find_strays", fail)
    running: Any = None  # is not asked
    case = _Case(now, planned, running, planned.replicas[0], Ward("tesseract-1"), "running")
    assert case.strays == "its socket folder cannot be read: Input/output error"
