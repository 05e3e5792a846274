"""One server start and what was measured on it."""

import math
from dataclasses import dataclass
from typing import Literal

from cloister.loadtest.result import Estimate, Verdict
from cloister.tuning.knobs import Configuration, Limit

Failure = Literal[
    "OOM at start", "OOM under load", "bad flag", "driver", "time-out", "cannot read", "crash"
]
OOM: tuple[Failure, ...] = ("OOM at start", "OOM under load")
_MOVABLE: tuple[Limit, ...] = ("host CPU", "prefill", "decode", "KV memory", "queue limit")


@dataclass(frozen=True)
class Rung:
    """One number of clients; `met` says whether the SLO held.

    `verdict` is what limited the service, `prompt_tokens` and `output_tokens` are a page's, in the
    mean, and `report` is the load test's folder within the tuning's.
    """

    clients: int
    pages_per_s: Estimate
    met: bool
    ttft_p95_s: float | None = None
    e2e_p95_s: float | None = None
    attainment: float = 1.0
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    verdict: Verdict | None = None
    report: str = ""


@dataclass(frozen=True)
class Trial:
    """A configuration's rungs and limit, or how it failed: then it has neither and no score.

    `kv_pages` is how many pages the KV memory of all its replicas holds at once, as vLLM tells, and
    `kv_tokens` how many tokens that is. `said` is what the engine's log said of a failure. A start
    took `start_s` seconds, all of it `seconds`.
    """

    configuration: Configuration
    failure: Failure | None = None
    rungs: tuple[Rung, ...] = ()
    limit: Limit | None = None
    kv_pages: float = 0.0
    kv_tokens: float = 0.0
    said: str = ""
    start_s: float = 0.0
    seconds: float = 0.0

    @property
    def best(self) -> Rung | None:
        """The rung that served the most pages within the SLO."""
        met = [rung for rung in self.rungs if rung.met]
        return max(met, key=lambda rung: rung.pages_per_s.value, default=None)

    @property
    def short_of_memory(self) -> bool:
        """Whether the KV memory does not hold the pages of one rung more than the best."""
        clients = self.best.clients if self.best else 0
        return any(self.kv_pages < rung.clients for rung in self.rungs if rung.clients > clients)

    @property
    def elasticity(self) -> float:
        """By what power of the clients the rate grew on the last step up to the best rung."""
        below = [rung for rung in self.rungs if self.best and rung.clients < self.best.clients]
        if self.best is None or not below or below[-1].pages_per_s.value <= 0:
            return 1.0
        rates = self.best.pages_per_s.value / below[-1].pages_per_s.value
        return max(0.0, math.log(rates) / math.log(self.best.clients / below[-1].clients))

    @property
    def score(self) -> float:
        """Pages a second of the best rung; 0 where there is none."""
        return self.best.pages_per_s.value if self.best else 0.0


def limit(verdict: Verdict | None) -> Limit | None:
    """Return what a knob can move of what limited a service, None where no knob does."""
    found = verdict.limit if verdict else None
    return next((one for one in _MOVABLE if one == found), None)
