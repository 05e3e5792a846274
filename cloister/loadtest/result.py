"""What a load test found: `report.json`, of which the HTML and Markdown reports are views."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION: Literal[1] = 1

Limit = Literal[
    "client",
    "gateway",
    "host CPU",
    "prefill",
    "decode",
    "KV memory",
    "queue limit",
    "nothing",
    "unknown",
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Estimate(_Part):
    """A number with its 95 % confidence interval, of `n` observations."""

    value: float
    low: float
    high: float
    n: int


class Spread(_Part):
    """How seconds, or other numbers, are spread: exact percentiles of `n` observations."""

    n: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


class Slo(_Part):
    """What the users of a service may expect of it.

    95 of 100 pages have their first text within `ttft_p95_s` and all of it within `e2e_p95_s`; at
    most `fault_share` of the pages are failed, cut short or empty.
    """

    ttft_p95_s: float
    e2e_p95_s: float
    fault_share: float


class Quality(_Part):
    """How well pages with a truth were read: character error rate and share of facts found."""

    cer_median: Estimate
    cer_p95: float
    field_recall: Estimate


class Stage(_Part):
    """One load: so many clients in closed loop, or pages at a rate in open loop.

    Times are seconds from the start of the test. Only the window from `begin_s` to `end_s` counts,
    what came before is warm-up. Rates are of pages that ended in it, all else too in closed loop;
    in open loop of those that were due in it.
    `pages_per_s` are good pages, `goodput` those that also met the SLO's times; `attainment` is the
    share of pages that did, `verdict` says whether the SLO is met, by that share's Wilson interval.
    `steady` is false when no stationary part was found. `little_gap` is |N - X R| / N. `lateness`
    is the client's, in open loop.
    """

    name: str
    kind: Literal["closed", "open"]
    users: int | None
    rate: float | None
    direct: bool
    begin_s: float
    end_s: float
    warmup_s: float
    steady: bool
    sent: int
    good: int
    faults: dict[str, int]
    pages_per_s: Estimate
    goodput_per_s: Estimate
    attainment: Estimate
    verdict: Literal["pass", "fail", "undecided"]
    ttft_s: Spread | None
    tpot_s: Spread | None
    e2e_s: Spread | None
    in_flight: float
    little_gap: float
    lateness_s: Spread | None
    prompt_tokens_per_s: float
    output_tokens_per_s: float
    quality: Quality | None
    by_kind: dict[str, Spread]
    by_replica: dict[str, int]


class Sample(_Part):
    """The machine and the engines at one moment; None for what could not be asked.

    `at_s` counts from the start of the test. `preemptions`, `prefill_s` and `decode_s` are the
    engines' totals since they started, the latter over all pages. Shares are 0 to 1, of one core
    for `client_cpu` (its busiest process) and `gateway_cpu`, of the whole machine for `host_cpu`.
    """

    at_s: float
    in_flight: int | None = None
    running: float | None = None
    waiting: float | None = None
    kv_use: float | None = None
    preemptions: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    host_cpu: float | None = None
    client_cpu: float | None = None
    gateway_cpu: float | None = None
    gpu_busy: float | None = None
    gpu_memory: float | None = None


class SelfCheck(_Part):
    """How wrong the client was about a server of known timing, at the planned load.

    Errors are measured minus true seconds; `cpu` is the share of one core a client process took.
    """

    load: str
    sent: int
    ttft_error_p50_s: float
    ttft_error_p95_s: float
    lateness_p95_s: float
    cpu: float
    passed: bool
    why: str


class Cache(_Part):
    """What the engine's counters say of its caches: many hits would make the test worthless.

    None where the engine counts nothing.
    """

    prefix_hit_tokens: float | None
    prefix_queried_tokens: float | None
    image_hits: float | None
    image_queries: float | None
    defeated: bool


class Verdict(_Part):
    """What limits the deployment, and what says so."""

    limit: Limit
    evidence: tuple[str, ...]


class Gateway(_Part):
    """The gateway's part, from stages that ran with and without it, by turns."""

    pages_ratio: Estimate
    ttft_added_s: float
    e2e_added_s: float


class Report(_Part):
    """A load test as a whole.

    `begun_s` is when it began, in seconds since 1970: what ties records to the stages' windows.
    `best` is the number of the stage with the most good pages a second, `capacity` their rate, of
    a ladder the mean of all rungs beside it. `complete`
    is false when it was interrupted. `warnings` are sentences that a reader must see first.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    made_at: str
    begun_s: float
    command: str
    version: str
    url: str
    engine: str
    model: str
    machine: str
    workload: str
    seed: int
    documents: int
    shape: str
    slo: Slo
    complete: bool
    warnings: tuple[str, ...]
    stages: tuple[Stage, ...]
    best: int | None
    capacity: Estimate | None
    knee: str | None
    gateway: Gateway | None
    verdict: Verdict
    cache: Cache
    self_check: SelfCheck | None
    samples: tuple[Sample, ...]
