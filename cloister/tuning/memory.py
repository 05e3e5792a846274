"""How many pages the KV memory holds, from one server's own count to another configuration."""

from dataclasses import dataclass

from cloister.tuning.knobs import Configuration, Space
from cloister.tuning.trial import Trial


@dataclass(frozen=True)
class Memory:
    """Memory of which the weights of one replica, and what it computes with, take `fixed`.

    What is left of what vLLM may take is KV memory: with `u` percent of a card and `r` replicas
    `u - r * fixed`, so one server's count gives that of any other. Where the knob is the KV memory
    itself, as on the CPU, `fixed` is 0.
    """

    space: Space
    fixed: float = 0.0

    def kv_pages(self, configuration: Configuration, known: Trial) -> float:
        """Return the pages at once of a configuration, from those of a trial that started."""
        room = self._room(known.configuration)
        return known.kv_pages * self._room(configuration) / room if room > 0 else 0.0

    def _room(self, configuration: Configuration) -> float:
        replicas = self.space.number(configuration, "replicas")
        return max(0.0, self.space.number(configuration, "memory") - replicas * self.fixed)
