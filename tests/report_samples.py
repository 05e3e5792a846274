"""A load test that never ran: a service with a knee, in closed loop, from a seed."""

from random import Random
from typing import Any

from cloister.loadtest import ladder, measure
from cloister.loadtest.record import Record
from cloister.loadtest.result import (
    Cache,
    Estimate,
    Gateway,
    Report,
    Sample,
    SelfCheck,
    Slo,
    Stage,
    Verdict,
)
from cloister.loadtest.shapes import closed

BEGUN_S = 1_790_000_000.0
SLO = Slo(ttft_p95_s=1.5, e2e_p95_s=6.0, fault_share=0.01)
USERS = (1, 2, 4, 8, 16, 32, 64)
_SECONDS, _PAUSE_S = 60.0, 5.0
_KINDS = {"letter": 0.8, "invoice": 1.1, "receipt": 0.4, "table": 1.9}
_SEATS = 24
HOSTILE = '<script src="http://evil.test/x.js">$x^2$|`*_[a](b)\u202e'


def make(
    seed: int = 1, *, slower: float = 1.0, hostile: bool = False
) -> tuple[Report, list[Record]]:
    """Return a report and its records; `slower` stretches every time."""
    random = Random(seed)  # repeatable on purpose
    records: list[Record] = []
    stages: list[Stage] = []
    begun_s = BEGUN_S + 2
    for number, users in enumerate(USERS):
        sent = _closed(random, number, users, begun_s, slower, hostile=hostile)
        records += sent
        over_s = begun_s + _SECONDS
        load = closed(users, _SECONDS)
        stages.append(
            measure.stage(load, sent, slo=SLO, origin_s=BEGUN_S, begun_s=begun_s, over_s=over_s)
        )
        begun_s = over_s + _PAUSE_S
    best = ladder.best(stages)
    assert best is not None
    report = Report(
        made_at="2026-11-24T10:15:00+00:00",
        begun_s=BEGUN_S,
        command="nox -s loadtest -- --workload mixed --seed 1",
        version="0.9.0",
        url="https://127.0.0.1:8443",
        engine="vllm",
        model=HOSTILE if hostile else "nanonets-ocr2",
        machine="Linux x86_64, 16 cores, 64 GiB",
        workload="mixed",
        seed=1,
        documents=60,
        shape="ladder",
        slo=SLO,
        complete=True,
        warnings=(HOSTILE,) if hostile else (),
        stages=tuple(stages),
        best=best,
        capacity=stages[best].pages_per_s,
        knee=ladder.knee(stages),
        gateway=Gateway(
            pages_ratio=Estimate(value=0.991, low=0.972, high=1.01, n=7),
            ttft_added_s=0.0006,
            e2e_added_s=0.0011,
        ),
        verdict=Verdict(
            limit="decode",
            evidence=(
                "the cards were 97% busy",
                "pages spent 22% of their time on the engine in vision and prefill",
            ),
        ),
        cache=Cache(
            prefix_hit_tokens=412.0,
            prefix_queried_tokens=3_212_870.0,
            image_hits=0.0,
            image_queries=2011.0,
            defeated=True,
        ),
        self_check=SelfCheck(
            load="64 clients",
            sent=1280,
            ttft_error_p50_s=0.0004,
            ttft_error_p95_s=0.0021,
            lateness_p95_s=0.0009,
            cpu=0.31,
            passed=True,
            why="",
        ),
        samples=tuple(_samples(random, stages)),
    )
    return report, records


def with_stage(report: Report, number: int, **changes: Any) -> Report:
    """Return a report in which a stage differs."""
    stages = list(report.stages)
    stages[number] = stages[number].model_copy(update=changes)
    return report.model_copy(update={"stages": tuple(stages)})


def _closed(
    random: Random, number: int, users: int, begun_s: float, slower: float, *, hostile: bool
) -> list[Record]:
    records = []
    for _ in range(users):
        at_s = begun_s
        while at_s < begun_s + _SECONDS:
            record = _page(random, number, users, at_s, slower)
            if hostile and record.fault:
                record = Record(**{**_plain(record), "fault": HOSTILE})
            records.append(record)
            at_s = record.done_s
    return records


def _plain(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in Record.__slots__}


def _page(random: Random, number: int, users: int, at_s: float, slower: float) -> Record:
    kind = random.choice(list(_KINDS))
    crowd = 1 + min(users, _SEATS) / 10
    tokens = max(8, round(110 * _KINDS[kind] * random.lognormvariate(0, 0.25)))
    wait_s = 0.12 + 0.01 * users + 0.12 * max(0, users - _SEATS)
    first_s = slower * wait_s * random.lognormvariate(0, 0.25)
    end_s = first_s + slower * (tokens - 1) * 0.007 * crowd * random.lognormvariate(0, 0.08)
    lot = random.random()
    fault = None
    if users > _SEATS and lot < 0.02:
        fault = "HTTP 503" if lot < 0.014 else "timed out"
    elif lot > 0.998:
        fault = "truncated"
    return Record(
        stage=number,
        kind=kind,
        scheduled_s=at_s,
        sent_s=at_s,
        first_s=first_s,
        end_s=end_s,
        chunks=tokens,
        gap_s=0.1,
        status=503 if fault == "HTTP 503" else 200,
        fault=fault,
        finish_reason="stop",
        prompt_tokens=1600,
        completion_tokens=tokens,
        replica=random.choice(("127.0.0.1:9001", "127.0.0.1:9002")),
        cer=max(0.0, random.gauss(0.012, 0.01)),
        fields=1.0 if random.random() < 0.97 else 0.8,
        facts=5,
    )


def _samples(random: Random, stages: list[Stage]) -> list[Sample]:
    """Return one sample a second; the engine could not be asked for ten seconds."""
    samples = []
    for second in range(int(stages[-1].end_s) + 1):
        stage = next((s for s in stages if s.begin_s - s.warmup_s <= second <= s.end_s), None)
        users = stage.users or 0 if stage else 0
        running = min(users, _SEATS) * random.uniform(0.9, 1.0)
        share = users / (users + 4)
        asked = not 200 <= second < 210
        samples.append(
            Sample(
                at_s=float(second),
                running=running if asked else None,
                waiting=max(0.0, users - running) if asked else None,
                kv_use=min(0.97, running / 27) if asked else None,
                host_cpu=0.08 + 0.3 * share * random.uniform(0.9, 1.1),
                client_cpu=0.02 + 0.4 * share * random.uniform(0.9, 1.1),
                gateway_cpu=0.01 + 0.06 * share,
                gpu_busy=min(1.0, share * random.uniform(0.98, 1.06)),
                gpu_memory=0.86,
            )
        )
    return samples
