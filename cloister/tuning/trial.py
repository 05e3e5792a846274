"""One server start and what was measured on it."""

import math
from dataclasses import dataclass
from typing import Literal

from cloister.loadtest.result import Estimate
from cloister.tuning.knobs import Configuration, Limit

Failure = Literal["OOM at start", "OOM under load", "bad flag", "driver", "time-out"]
OOM: tuple[Failure, ...] = ("OOM at start", "OOM under load")


@dataclass(frozen=True)
class Rung:
    """One number of clients; `met` says whether the SLO held."""

    clients: int
    pages_per_s: Estimate
    met: bool


@dataclass(frozen=True)
class Trial:
    """A configuration's rungs and limit, or how it failed: then it has neither and no score.

    `kv_pages` is how many pages the KV memory of all its replicas holds at once, as vLLM tells.
    """

    configuration: Configuration
    failure: Failure | None = None
    rungs: tuple[Rung, ...] = ()
    limit: Limit | None = None
    kv_pages: float = 0.0

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
