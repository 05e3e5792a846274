"""How many pages the KV memory holds, from one server's own count to another configuration."""

from dataclasses import dataclass

from cloister.tuning.knobs import MEMORY, REPLICAS, Configuration
from cloister.tuning.trial import Trial


@dataclass(frozen=True)
class Memory:
    """A card on which the weights of one replica, and what it computes with, take `fixed_percent`.

    What is left of the share that vLLM may take is KV memory: with `u` percent and `r` replicas
    `u - r * fixed_percent` of the card, so one server's count gives that of any other.
    """

    fixed_percent: float

    def kv_pages(self, configuration: Configuration, known: Trial) -> float:
        """Return the pages at once of a configuration, from those of a trial that started."""
        room = self._room(known.configuration)
        return known.kv_pages * self._room(configuration) / room if room > 0 else 0.0

    def _room(self, configuration: Configuration) -> float:
        return max(0.0, configuration[MEMORY] - configuration[REPLICAS] * self.fixed_percent)
