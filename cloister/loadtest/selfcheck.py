"""Is the client honest? It meets a server whose times are known, at the planned load."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import requests
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from cloister import chat, ports
from cloister.chat import Pass
from cloister.config import project_root
from cloister.loadtest import client, statistics
from cloister.loadtest.client import Crew
from cloister.loadtest.documents import Question
from cloister.loadtest.record import Record
from cloister.loadtest.result import Sample, SelfCheck
from cloister.loadtest.sampling import Sampler
from cloister.loadtest.shapes import Load
from cloister.loadtest.stages import Clock, sent
from cloister.loadtest.target import Target

_FIRST_MS, _CHUNK_MS, _CHUNKS = 100, 20, 50
_SECONDS = 8.0
_SETTLED_S = 2.0  # all clients begin at once, which no later second does
_P50_S, _P95_S, _CPU, _LATE_S = 0.005, 0.020, 0.8, 0.010
_UP_S = 20.0


def check(
    planned: Load, folder: Path, pages: Path, question: Question, crew: Crew, target: Target
) -> SelfCheck:
    """Return how wrong the client is about a stub that answers after 100 ms, then every 20 ms."""
    port = ports.free(1)
    command = [sys.executable, str(project_root() / "tests" / "stub.py"), f"--port={port}"]
    command += [f"--first-ms={_FIRST_MS}", f"--chunk-ms={_CHUNK_MS}", f"--chunks={_CHUNKS}"]
    stub = subprocess.Popen(command)
    try:
        enter = Pass(f"http://127.0.0.1:{port}")
        _wait(enter.url)
        known = replace(target, enter=enter, direct=(), certificate=None, gateway=list)
        load = replace(_shortened(planned), direct=False)
        with client.started(folder, known, pages, question, crew, seed=0) as locust:
            sampler = Sampler(enter, 0.0, locust.processes, list)
            with sampler.running():
                records, begun_s, _ = sent(locust, load, 0, Clock(_SECONDS))
    finally:
        stub.terminate()
        stub.wait()
    late = [record for record in records if record.scheduled_s > begun_s + _SETTLED_S]
    return judged(planned, late, sampler.samples)


def judged(planned: Load, records: list[Record], samples: list[Sample]) -> SelfCheck:
    """Return whether the client's times and its use of a core allow it to be believed; pure."""
    errors = sorted(record.first_s - _FIRST_MS / 1000 for record in records if record.first_s)
    late = sorted(record.late_s for record in records)
    busy = [sample.client_cpu for sample in samples[3:] if sample.client_cpu is not None]
    cpu = fmean(busy) if busy else 0.0
    if not errors:
        return SelfCheck(
            load=planned.name,
            sent=len(records),
            ttft_error_p50_s=0.0,
            ttft_error_p95_s=0.0,
            lateness_p95_s=0.0,
            cpu=cpu,
            passed=False,
            why="the stub answered nothing",
        )
    p50, p95 = statistics.percentile(errors, 0.5), statistics.percentile(errors, 0.95)
    lateness = statistics.percentile(late, 0.95)
    wrong = [
        f"{name} is {value * unit:.1f}{sign}, more than {most * unit:.0f}{sign}"
        for name, value, most, unit, sign in (
            ("the error of TTFT p50", abs(p50), _P50_S, 1000, " ms"),
            ("the error of TTFT p95", abs(p95), _P95_S, 1000, " ms"),
            ("the lateness of pages, p95,", lateness, _LATE_S, 1000, " ms"),
            ("its use of a core", cpu, _CPU, 100, " %"),
        )
        if value > most
    ]
    return SelfCheck(
        load=planned.name,
        sent=len(records),
        ttft_error_p50_s=p50,
        ttft_error_p95_s=p95,
        lateness_p95_s=lateness,
        cpu=cpu,
        passed=not wrong,
        why="; ".join(wrong),
    )


def _shortened(load: Load) -> Load:
    """Return the load's first seconds; of a schedule its busiest ones."""
    if load.closed:
        return replace(load, seconds=_SECONDS)
    starts = [at for at in load.offsets_s if at <= max(0.0, load.seconds - _SECONDS)]
    most = max(
        starts or [0.0],
        key=lambda start: sum(start <= at < start + _SECONDS for at in load.offsets_s),
    )
    offsets = tuple(at - most for at in load.offsets_s if most <= at < most + _SECONDS)
    return replace(load, seconds=_SECONDS, offsets_s=offsets)


def _wait(url: str) -> None:
    with chat.session(f"{url}/") as session:
        for attempt in Retrying(
            retry=retry_if_exception_type(requests.ConnectionError),
            stop=stop_after_delay(_UP_S),
            wait=wait_fixed(0.1),
            reraise=True,
        ):
            with attempt:
                session.get(f"{url}/health", timeout=1)
