"""A tuning that never ran: eight starts on a card, two of which fail, and two finalists."""

from cloister.loadtest.result import Estimate, Limit, Slo, Verdict
from cloister.tuning.ceiling import Ceiling
from cloister.tuning.knobs import Knob, Space, Value
from cloister.tuning.result import Choice, Finalist, Tuning, Turn
from cloister.tuning.trial import Failure, Rung, Trial, limit

SLO = Slo(ttft_p95_s=5.0, e2e_p95_s=12.0, fault_share=0.01)
HOSTILE = '</title><script src="http://evil.test/x.js">$x^2$|`*_[a](b)\u202e\x1b[2J\n# no'
SEQUENCES, MEMORY = "vllm.max_num_seqs", "vllm.gpu_memory_percent"
SERVERS, BATCH = "vllm.api_server_count", "vllm.max_num_batched_tokens"
REPLICAS, STREAM = "engines.per_gpu", "--stream-interval"
SPACE = Space(
    (
        Knob(
            setting=SEQUENCES,
            role="sequences",
            values=(256,),
            first=256,
            moves=frozenset({"queue limit"}),
        ),
        Knob(
            setting=MEMORY,
            role="memory",
            values=(80, 85, 90, 93),
            first=90,
            moves=frozenset({"KV memory"}),
        ),
        Knob(setting=SERVERS, values=(1, 2, 4, 8), first=1, moves=frozenset({"host CPU"})),
        Knob(
            setting=BATCH,
            values=(8192, 16384, 32768),
            first=8192,
            moves=frozenset({"prefill", "decode"}),
        ),
        Knob(setting=REPLICAS, role="replicas", values=(1, 2), first=1),
        Knob(setting=STREAM, values=(1, 10), first=1, costs="text comes in larger pieces"),
    )
)
_EVIDENCE: dict[Limit, tuple[str, ...]] = {
    "host CPU": ("the machine's 16 cores were 94% busy", "the cards were 61% busy"),
    "prefill": (
        "the cards were 97% busy",
        "pages spent 64% of their time on the engine in vision and prefill",
    ),
    "KV memory": ("the KV cache was 96% full", "41 pages were preempted"),
}
# What is moved, the most pages a second, the clients for half of it, what limits.
_STARTED: tuple[tuple[dict[str, Value], float, float, Limit | None, Failure | None], ...] = (
    ({}, 13.5, 9, "host CPU", None),
    ({SERVERS: 4}, 29.0, 26, "prefill", None),
    ({SERVERS: 8}, 29.5, 27, "prefill", None),
    ({SERVERS: 4, BATCH: 32768}, 0, 0, None, "OOM under load"),
    ({SERVERS: 4, BATCH: 16384}, 31.0, 30, "prefill", None),
    ({SERVERS: 4, BATCH: 16384, REPLICAS: 2}, 34.0, 30, "KV memory", None),
    ({SERVERS: 4, BATCH: 16384, REPLICAS: 2, MEMORY: 93}, 0, 0, None, "OOM at start"),
    ({SERVERS: 4, BATCH: 16384, STREAM: 10}, 33.0, 31, "prefill", None),
)
_SAID = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.32 GiB."


def make(trials: int = 8, *, hostile: bool = False) -> Tuning:
    """Return a tuning of its first `trials` starts, with finals when all were made."""
    done = tuple(_trial(place, hostile=hostile) for place in range(trials))
    whole = trials == len(_STARTED)
    finalists = (_finalist(done[5], 27.4, 1), _finalist(done[7], 24.9, 2)) if whole else ()
    best = max(done, key=lambda trial: trial.score, default=None)
    kept = done[5] if whole else best
    return Tuning(
        made_at="2026-11-24T10:15:00+00:00",
        command=HOSTILE if hostile else "nox -s tune -- --workload mixed --budget 60 --seed 1",
        version="0.9.0",
        machine="Linux x86_64, 16 cores, 64 GiB",
        runtime="docker",
        engine="vllm-cuda",
        engine_version="0.12.0",
        card=HOSTILE if hostile else "NVIDIA H100 80GB HBM3",
        memory_mib=81559,
        model=HOSTILE if hostile else "nanonets/Nanonets-OCR2-3B",
        workload="mixed",
        seed=1,
        slo=SLO,
        budget_s=3600.0,
        space=SPACE,
        pruned=(
            HOSTILE if hostile else "vllm.api_server_count=32: 32 processes share 16 cores",
            "engines.per_gpu=4: 93 / 4 % of 81,559 MiB is 18,758 MiB, a replica needs 19,100 MiB",
        ),
        trials=done,
        finalists=finalists,
        choice=Choice(
            configuration=_served(kept),
            winner=whole,
            why=HOSTILE
            if hostile
            else "Serve with vllm.api_server_count=4, engines.per_gpu=2. It served 25.48 pages/s "
            "within the SLO (24.72 to 26.25).",
        )
        if kept
        else None,
        ceiling=Ceiling(62.4, 0.0031, 0.0079, 0.005) if kept else None,
        complete=whole,
    )


def rate(value: float, part: float = 0.02) -> Estimate:
    """Return a rate and its interval."""
    return Estimate(value=value, low=value * (1 - part), high=value * (1 + part), n=400)


def _trial(place: int, *, hostile: bool) -> Trial:
    moved, most, half, limited, failure = _STARTED[place]
    configuration: dict[str, Value] = {**SPACE.first, **moved}
    if hostile:
        configuration[HOSTILE] = f"{HOSTILE}{place}"
    if failure:
        said = HOSTILE if hostile else _SAID
        return Trial(configuration, failure, said=said, start_s=48.0, seconds=55.0)
    evidence = _EVIDENCE[limited] if limited else ()
    verdict = Verdict(limit=limited or "unknown", evidence=(HOSTILE,) if hostile else evidence)
    rungs = tuple(
        _rung(place, clients, most, half, verdict) for clients in (16, 32, 64, 96, 128, 192, 256)
    )
    pages = 180.0 if REPLICAS in moved else 412.0
    return Trial(
        configuration, None, rungs, limit(verdict), pages, pages * 2100, "", 71.5 + place, 340.0
    )


def _rung(place: int, clients: int, most: float, half: float, verdict: Verdict) -> Rung:
    pages_per_s = most * clients / (clients + half)
    e2e_p95_s = 1.9 * clients / pages_per_s
    return Rung(
        clients=clients,
        pages_per_s=rate(pages_per_s),
        met=e2e_p95_s <= SLO.e2e_p95_s,
        ttft_p95_s=e2e_p95_s * 0.3,
        e2e_p95_s=e2e_p95_s,
        attainment=min(1.0, SLO.e2e_p95_s / e2e_p95_s),
        prompt_tokens=1834.0,
        output_tokens=268.0,
        verdict=verdict,
        report=f"{place + 1:02}/{clients}-clients",
    )


def _served(trial: Trial) -> dict[str, Value]:
    clients = trial.best.clients if trial.best else 1
    replicas = int(trial.configuration[REPLICAS])
    return {**trial.configuration, SEQUENCES: clients // replicas}


def _finalist(trial: Trial, most: float, first: int) -> Finalist:
    turns = tuple(
        Turn(
            start=first + 2 * number,
            share=share,
            rate=most * share,
            pages_per_s=rate(most * share * (1 + 0.01 * (number - 1)), 0.03),
            e2e_p95_s=5.1 + 30 * (share - 0.8) ** 1.2 + 0.4 * (number + 1),
            attainment=0.99 - 0.2 * max(0.0, share - 0.9),
            met=share < 1.0 or number == 0,
            report=f"final-{first + 2 * number}/share-{share * 100:.0f}",
        )
        for number in range(3)
        for share in (0.8, 0.9, 1.0)
    )
    return Finalist(configuration=_served(trial), turns=turns, pages_per_s=rate(most * 0.93, 0.03))
