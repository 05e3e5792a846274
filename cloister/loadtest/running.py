"""A load test from its first page to its report."""

import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil

import cloister
from cloister.loadtest import client, ladder, measure, selfcheck, verdict
from cloister.loadtest.client import Client, Crew
from cloister.loadtest.documents import Question
from cloister.loadtest.ladder import Ladder
from cloister.loadtest.record import Record
from cloister.loadtest.result import Cache, Report, SelfCheck, Slo, Stage
from cloister.loadtest.sampling import Sampler
from cloister.loadtest.shapes import Load, busiest, closed
from cloister.loadtest.share import share
from cloister.loadtest.stages import Clock, Interrupted, sent
from cloister.loadtest.target import Target, require_metrics
from cloister.loadtest.tries import Tries

Progress = Callable[[str], None]
_GAP = 0.05  # of the clients' time


@dataclass(frozen=True)
class Test:
    """What is to be done: the loads, one after the other, or a ladder of them.

    `direct` measures each of them without the gateway too, `checked` the client beforehand.
    `command` is what the report says it was made by.
    """

    target: Target
    workload: str
    seed: int
    documents: int
    pages: Path
    question: Question
    slo: Slo
    shape: str
    loads: tuple[Load, ...]
    ladder: Ladder | None
    direct: bool
    crew: Crew
    checked: bool
    folder: Path
    command: str


@dataclass
class Course:
    """What a running test has so far."""

    origin_s: float
    tries: Tries
    stages: list[Stage] = field(default_factory=list)
    complete: bool = True


def run(test: Test, progress: Progress) -> tuple[Report, list[Record]]:
    """Do it; Ctrl-C ends it, and the report is of what was measured until then.

    Raises LoadTestError when Locust, or what it is to test, is not there.
    """
    check = _self_check(test, progress)
    course = Course(time.time(), Tries(test.target.access_log))
    with client.started(
        test.folder / "locust", test.target, test.pages, test.question, test.crew, test.seed
    ) as locust:
        sampler = Sampler(
            test.target.enter,
            course.origin_s,
            locust.processes,
            test.target.gateway,
            test.target.settings.engines.gpus,
        )
        with sampler.running():
            _send_all(test, locust, course, progress)
        records = course.tries.told(locust.records)
    return _report(test, course, sampler, check), records


def _send_all(test: Test, locust: Client, course: Course, progress: Progress) -> None:
    try:
        for load in _loads(test, course):
            patience = test.ladder or Clock(load.seconds)
            told = _teller(progress, load)
            records, begun_s, over_s = sent(locust, load, len(course.stages), patience, told)
            late = _late(locust, records, begun_s) if load.closed and not test.direct else []
            _measured(test, course, load, late + records, (begun_s, over_s))
    except Interrupted as interrupted:
        course.complete = False
        if interrupted.records:
            times = interrupted.begin_s, interrupted.over_s
            _measured(test, course, load, interrupted.records, times)


def _late(locust: Client, records: Sequence[Record], begun_s: float) -> list[Record]:
    """Return the pages of earlier rungs that ended in this one: left out, the slowest would be."""
    own = set(map(id, records))
    return [one for one in locust.records if one.done_s > begun_s and id(one) not in own]


def _loads(test: Test, course: Course) -> Iterator[Load]:
    """Yield the loads; with `direct` each is followed by itself without the gateway."""
    pending = iter(test.loads)
    while True:
        load = test.ladder.next(course.stages) if test.ladder else next(pending, None)
        if load is None:
            return
        yield load
        if test.direct:
            yield replace(load, name=f"{load.name}, direct", direct=True)


def _measured(
    test: Test, course: Course, load: Load, records: list[Record], times_s: tuple[float, float]
) -> None:
    begun_s, over_s = times_s
    course.stages.append(
        measure.stage(
            load,
            course.tries.told(records),
            slo=test.slo,
            origin_s=course.origin_s,
            begun_s=begun_s,
            over_s=over_s,
        )
    )


def _self_check(test: Test, progress: Progress) -> SelfCheck | None:
    if not test.checked:
        return None
    planned = closed(test.ladder.last, 0) if test.ladder else busiest(test.loads)
    if planned is None:
        return None
    progress(f"checking the client itself: {planned.name} against a server of known timing")
    folder = test.folder / "self-check"
    return selfcheck.check(planned, folder, test.pages, test.question, test.crew, test.target)


def _teller(progress: Progress, load: Load) -> Callable[[int, float], None]:
    """Return what tells a load's progress: in place for a person, else where it begins."""
    every_s = 1.0 if sys.stderr.isatty() else 30.0
    last = [float("-inf")]

    def tell(pages: int, elapsed_s: float) -> None:
        if elapsed_s - last[0] >= every_s:
            last[0] = elapsed_s
            rate = f", {pages / elapsed_s:.2f} a second" if elapsed_s > 1 else ""
            done = f"{max(0.0, elapsed_s):.0f} of about {load.seconds:.0f} s"
            progress(f"{load.name}: {pages} pages{rate}, {done}")

    return tell


def _report(test: Test, course: Course, sampler: Sampler, check: SelfCheck | None) -> Report:
    stages, samples = tuple(course.stages), tuple(sampler.samples)
    best = ladder.best(stages)
    chosen = stages[best] if best is not None else None
    cache = sampler.cache()
    limit = verdict.verdict(chosen, samples, check, psutil.cpu_count() or 1)
    return Report(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        begun_s=course.origin_s,
        command=test.command,
        version=cloister.VERSION,
        url=test.target.enter.url,
        engine=test.target.engine,
        model=test.question.model,
        machine=machine(),
        workload=test.workload,
        seed=test.seed,
        documents=test.documents,
        shape=test.shape,
        slo=test.slo,
        complete=course.complete,
        warnings=tuple(_warnings(test, course, cache, check)),
        stages=stages,
        best=best,
        capacity=ladder.capacity(stages),
        knee=ladder.knee(stages),
        gateway=share(stages),
        verdict=limit,
        cache=cache,
        self_check=check,
        samples=samples,
    )


def _warnings(test: Test, course: Course, cache: Cache, check: SelfCheck | None) -> Iterator[str]:
    if not course.complete:
        yield "it was interrupted: the last stage is shorter than planned"
    if check is not None and not check.passed:
        yield f"client-limited: the client cannot be believed at {check.load} ({check.why})"
    if not cache.defeated:
        yield "a cache of the engine answered: these pages are cheaper than new ones"
    missing = require_metrics(test.target)
    if missing:
        yield missing
    for stage in course.stages:
        failed = stage.sent - stage.good
        if failed > test.slo.fault_share * stage.sent:
            most = max(stage.faults, key=stage.faults.__getitem__)
            yield f"{stage.name}: {failed / stage.sent:.0%} of the pages failed, most by `{most}`"
        if not stage.steady:
            yield f"{stage.name}: no steady state was found, so its numbers are of no steady state"
        if _unexplained(stage):
            yield (
                f"{stage.name}: {stage.little_gap:.0%} of the clients' time is not explained by "
                "their pages (Little's law)"
            )
    if test.question.lengths is not None:
        yield "the weights are noise: lengths of answers are drawn, and nothing is said of quality"


def _unexplained(stage: Stage) -> bool:
    """Tell whether Little's law is off by more than the noise of the rate, and some."""
    rate = stage.pages_per_s
    noise = (rate.high - rate.low) / 2 / rate.value if rate.value else 0.0
    return stage.kind == "closed" and stage.little_gap > _GAP + noise


def machine() -> str:
    """Return what a report says of this machine."""
    memory_gib = psutil.virtual_memory().total / 2**30
    kind = f"{platform.system()} {platform.machine()}"
    return f"{kind}, {psutil.cpu_count()} cores, {memory_gib:.0f} GiB"
