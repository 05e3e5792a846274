"""One configuration measured: the worst pages at full concurrency first, then a ladder of clients.

A configuration that merely starts is not good: the largest pages, as many at once as the engine
takes, must neither end nor fail it. Each rung is a load test of its own in a folder of its own, so
that a tuning which was killed goes on with the next one.
"""

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cloister import datafiles
from cloister.config import Settings
from cloister.files import write_atomically
from cloister.loadtest import documents, record, running
from cloister.loadtest.client import Crew
from cloister.loadtest.ladder import Ladder
from cloister.loadtest.result import Report, Slo, Stage
from cloister.loadtest.running import Test
from cloister.loadtest.shapes import Load
from cloister.loadtest.workload import OutputLengths, Workload
from cloister.tuning.knobs import Configuration
from cloister.tuning.server import FailedError, Progress, Server, start
from cloister.tuning.trial import Rung, Trial, limit

REPORT = "report.json"
_TIMES_SHARE = 0.95
_WORST_S, _WORST_TOKENS = 15.0, 256
_ROOM = 1.25  # clients for each page that the KV memory holds: beyond it they only wait
_TURNS = 3  # pages of each client in a rung: half of them may be warm-up
_MOST_BROKEN = 0.1  # of the worst pages
_HARMLESS = {"truncated", "repeats itself", "empty"}  # of answers that were cut on purpose


@dataclass(frozen=True)
class Work:
    """What every configuration is measured with: pages, expectations, and the ladder's ends.

    `last` is None for as many clients as the engine reads pages at once.
    """

    name: str
    mix: Workload
    seed: int
    slo: Slo
    pages: Path
    worst: Path
    seconds: float
    first: int | None
    last: int | None
    crew: Crew
    command: str

    def test(self, server: Server, folder: Path) -> Test:
        """Return a load test of a server, without any load yet."""
        settings = server.settings
        return Test(
            target=server.target,
            workload=self.name,
            seed=self.seed,
            documents=self.mix.documents,
            pages=self.pages,
            question=documents.question(
                settings, self.mix.output_tokens, synthetic=settings.model.synthetic
            ),
            slo=self.slo,
            shape="ladder",
            loads=(),
            ladder=None,
            direct=False,
            crew=self.crew,
            checked=False,
            folder=folder,
            command=self.command,
        )


def worst(mix: Workload) -> Workload:
    """Return a mix of the pages that take the most memory: dense, larger than any engine reads.

    Their answers are short: the KV cache is laid out when the engine starts, and filling it takes
    no more memory.
    """
    lengths = OutputLengths(median=_WORST_TOKENS, sigma=0, least=_WORST_TOKENS, most=_WORST_TOKENS)
    changes: dict[str, object] = {"documents": 4, "kinds": {"table": 1.0}, "dpi": {300: 1.0}}
    changes |= {"finishes": {"clean": 1.0}, "codecs": {"png": 1.0}, "output_tokens": lengths}
    return mix.model_copy(update=changes)


def tried(
    configuration: Configuration, settings: Settings, work: Work, folder: Path, progress: Progress
) -> tuple[Trial, str | None]:
    """Start a configuration and measure what its folder does not have yet.

    Return the trial, and the engine's version. Raises KeyboardInterrupt, and a CloisterError for
    what is in the way of any configuration.
    """
    begun = time.monotonic()
    try:
        server = start(settings, progress)
    except FailedError as failed:
        seconds = time.monotonic() - begun
        return Trial(configuration, failed.failure, said=failed.said, seconds=seconds), None
    start_s, kv_tokens, version = time.monotonic() - begun, server.kv_tokens(), server.version()
    try:
        _survive(server, work, folder / "worst", progress)
        rungs = _ladder(server, work, folder, kv_tokens, progress)
    except FailedError as failed:
        seconds = time.monotonic() - begun
        failure = Trial(configuration, failed.failure, said=failed.said, seconds=seconds)
        return failure, version
    best = Trial(configuration, rungs=rungs).best
    trial = Trial(
        configuration,
        rungs=rungs,
        limit=limit(best.verdict) if best else None,
        kv_tokens=kv_tokens,
        kv_pages=_kv_pages(kv_tokens, rungs),
        start_s=start_s,
        seconds=time.monotonic() - begun,
    )
    return trial, version


def sent(test: Test, server: Server, folder: Path, progress: Progress) -> Report:
    """Run one load test, or return what its folder has of it already.

    Raises FailedError when the engine does not last, KeyboardInterrupt when a person ends it.
    """
    path = folder / REPORT
    if path.exists():
        return Report.model_validate_json(datafiles.read_json(path))
    shutil.rmtree(folder, ignore_errors=True)  # half a rung, of a tuning that was killed
    folder.mkdir(parents=True)
    report, records = running.run(test, progress)
    if not report.complete:
        raise KeyboardInterrupt
    server.require_alive()
    write_atomically(folder / "records.jsonl", record.lines(records))
    write_atomically(path, report.model_dump_json(indent=2) + "\n")
    return report


def met(stage: Stage) -> bool:
    """Tell whether a load kept the SLO, in doubt by the share that was seen."""
    return stage.verdict != "fail" and stage.attainment.value >= _TIMES_SHARE


def _survive(server: Server, work: Work, folder: Path, progress: Progress) -> None:
    """Send the worst pages, as many at once as the engine reads."""
    clients = work.last or server.slots
    mix = worst(work.mix)
    synthetic = server.settings.model.synthetic
    question = documents.question(server.settings, mix.output_tokens, synthetic=synthetic)
    test = replace(
        work.test(server, folder),
        pages=work.worst,
        documents=mix.documents,
        question=replace(question, max_tokens=_WORST_TOKENS),
        ladder=Ladder(clients, clients, min(_WORST_S, work.seconds), pages=clients),
    )
    report = sent(test, server, folder, progress)
    faults = {
        fault: count
        for stage in report.stages
        for fault, count in stage.faults.items()
        if fault not in _HARMLESS
    }
    total = sum(stage.sent for stage in report.stages)
    broken = sum(faults.values())
    if not total or broken > _MOST_BROKEN * total:
        said = ", ".join(f"{count} of {total} {fault}" for fault, count in faults.items())
        raise FailedError("time-out" if not total else "crash", said or "no page was answered")


def _ladder(
    server: Server, work: Work, folder: Path, kv_tokens: float, progress: Progress
) -> tuple[Rung, ...]:
    last = work.last or server.slots
    stages, rungs = list[Stage](), list[Rung]()
    while (load := _next(work, stages, rungs, last, kv_tokens)) is not None:
        clients = load.users or 1
        name = f"clients-{clients:04}"
        seconds = _seconds(work, rungs, clients)
        ladder = Ladder(clients, clients, seconds, pages=_TURNS * clients)
        test = replace(work.test(server, folder / name), ladder=ladder)
        report = sent(test, server, folder / name, progress)
        stages += report.stages
        rungs.append(rung(report, f"{folder.name}/{name}"))
        progress(f"{load.name}: {_told(rungs[-1])}")
    return tuple(rungs)


def _next(
    work: Work, stages: Sequence[Stage], rungs: Sequence[Rung], last: int, kv_tokens: float
) -> Load | None:
    """Return the next rung: none behind the knee, beyond the SLO, or beyond the KV memory."""
    if rungs and not rungs[-1].met:
        return None
    if kv_tokens and rungs:
        last = min(last, math.ceil(_ROOM * _kv_pages(kv_tokens, rungs)))
    first = min(work.first or max(1, last // 16), last)
    return Ladder(first, last, work.seconds).next(stages)


def _seconds(work: Work, rungs: Sequence[Rung], clients: int) -> float:
    """Return how long a rung takes at least: as long as its pages will, three rungs' at most."""
    most = max((one.pages_per_s.value for one in rungs), default=0.0)
    wanted = _TURNS * clients / most if most else work.seconds
    return min(max(work.seconds, wanted), 3 * work.seconds)


def rung(report: Report, folder: str) -> Rung:
    """Return what a load test of one number of clients says."""
    stage = report.stages[0]
    rate = max(stage.pages_per_s.value, 1e-9)
    return Rung(
        clients=stage.users or 1,
        pages_per_s=stage.pages_per_s,
        met=met(stage),
        ttft_p95_s=stage.ttft_s.p95 if stage.ttft_s else None,
        e2e_p95_s=stage.e2e_s.p95 if stage.e2e_s else None,
        attainment=stage.attainment.value,
        prompt_tokens=stage.prompt_tokens_per_s / rate,
        output_tokens=stage.output_tokens_per_s / rate,
        verdict=report.verdict,
        report=folder,
    )


def _kv_pages(kv_tokens: float, rungs: Sequence[Rung]) -> float:
    """Return how many pages at once the KV memory holds, whole answers included."""
    tokens = max((one.prompt_tokens + one.output_tokens for one in rungs), default=0.0)
    return kv_tokens / tokens if tokens else 0.0


def _told(rung: Rung) -> str:
    slow = f", E2E p95 {rung.e2e_p95_s:.1f} s" if rung.e2e_p95_s is not None else ""
    return f"{rung.pages_per_s.value:.2f} pages/s{slow}" + ("" if rung.met else ", SLO missed")
