"""Servers that a tuner can be tried on: queueing, memory, noise, cliffs, out-of-memory regions.

The rate is limited by the host (image preprocessing, shared by API servers), by the card (pages
read at once, with a best size of batches) and by the KV memory (beyond it pages are preempted).
Little's law gives the times. Everything follows from the seed.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from cloister.loadtest.result import Estimate
from cloister.tuning import knobs
from cloister.tuning.knobs import Configuration, Limit, Value
from cloister.tuning.trial import Failure, Rung, Trial

SPACE = knobs.load("vllm-cuda").without_costs()
MEMORY, BATCH = "vllm.gpu_memory_percent", "vllm.max_num_batched_tokens"
SERVERS = "vllm.api_server_count"
CLIENTS = (8, 16, 32, 48, 64, 96, 128, 192, 256)


@dataclass
class Server:
    """A server; `slo_s` bounds the time of a page."""

    seed: int
    noise: float = 0.02
    slo_s: float = 60.0
    starts: int = 0
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        draw = Random(self.seed)
        self._random = Random(self.seed + 1_000_000)
        self.host = draw.uniform(2, 12)  # pages a second of one API server
        self.cores = draw.choice((1, 2, 4, 8))  # API servers that find a core
        self.card = draw.uniform(4, 12)
        self.half = draw.uniform(4, 60)  # pages at once for half of the card's rate
        self.batch = draw.choice((4096, 8192, 16384, 32768))
        self.batch_matters = draw.choice((0.0, 0.02, 0.08))  # a doubling; flat tops among them
        self.second = draw.uniform(0.85, 1.05)  # what two replicas make of the card
        self.kv_pages = draw.uniform(20, 600)  # at 90 %
        self.oom_start = draw.choice((99, 99, 92, 88, 84))
        self.oom_load = self.oom_start - draw.choice((0, 2, 6))
        self.fitting = draw.uniform(40, 70)  # percent of the memory that weights take

    def failure(self, configuration: Configuration) -> Failure | None:
        """Return how a configuration fails, as the worst page at full concurrency shows it."""
        wanted = int(configuration[MEMORY])
        # Larger batches have larger activations.
        wanted += int(configuration[BATCH]) // 16384
        if wanted > self.oom_start:
            return "OOM at start"
        return "OOM under load" if wanted > self.oom_load else None

    def pages(self, configuration: Configuration) -> float:
        """Return how many pages the KV memory of all replicas holds at once."""
        replicas = SPACE.number(configuration, "replicas")
        share = SPACE.number(configuration, "memory") - self.fitting * replicas
        return self.kv_pages * max(share, 1) / (90 - self.fitting)

    def limits(self, configuration: Configuration, clients: int) -> dict[Limit, float]:
        """Return the pages a second that each part would bear."""
        replicas, tokens = SPACE.number(configuration, "replicas"), int(configuration[BATCH])
        pages = self.pages(configuration)
        at_once = min(clients, SPACE.number(configuration, "sequences") * replicas, pages)
        doublings = abs(tokens.bit_length() - self.batch.bit_length())
        card = self.card * (self.second if replicas > 1 else 1)
        prefill = card * (1 - self.batch_matters * doublings)
        preempted = 0.85 if clients > pages else 1.0
        apis = min(int(configuration[SERVERS]) * replicas, self.cores)
        reading = preempted * prefill * at_once / (at_once + self.half)
        held: Limit = "decode" if pages >= clients else "KV memory"
        return {"host CPU": self.host * apis**0.85, "prefill": prefill, held: reading}

    def rate(self, configuration: Configuration, clients: int) -> float:
        """Return the true pages a second."""
        parts = self.limits(configuration, clients).values()
        return float(sum(part**-8 for part in parts) ** (-1 / 8))  # a soft minimum

    def best(self, configuration: Configuration) -> float:
        """Return the most true pages a second within the SLO, 0 where it can fail."""
        if self.failure(configuration):
            return 0.0
        rates = ((self.rate(configuration, clients), clients) for clients in CLIENTS)
        return max((rate for rate, clients in rates if clients / rate <= self.slo_s), default=0.0)

    def start(self, configuration: Configuration) -> Trial:
        """Measure a configuration, as a tuner would."""
        self.starts += 1
        failure = self.failure(configuration)
        if failure:
            return Trial(configuration, failure)
        rungs = []
        for clients in CLIENTS:
            rate = self.rate(configuration, clients) * self._random.gauss(1, self.noise)
            seen = Estimate(value=rate, low=rate * 0.96, high=rate * 1.04, n=200)
            rungs.append(Rung(clients, seen, clients / rate <= self.slo_s))
        trial = Trial(configuration, rungs=tuple(rungs))
        clients = trial.best.clients if trial.best else CLIENTS[0]
        parts = self.limits(configuration, clients)
        limit = min(parts, key=parts.__getitem__)
        return Trial(configuration, None, tuple(rungs), limit, self.pages(configuration))


def configurations() -> Iterator[dict[str, Value]]:
    """Yield every configuration of the knobs' table."""
    names = [knob.setting for knob in SPACE.knobs]
    for values in itertools.product(*(knob.values for knob in SPACE.knobs)):
        yield dict(zip(names, values, strict=True))
