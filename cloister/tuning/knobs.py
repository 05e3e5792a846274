"""What is tuned: a table, so that another knob is another line."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# What limits a server, in the words of the load test's verdict.
Limit = Literal["host CPU", "prefill", "decode", "KV memory", "queue limit"]
Configuration = Mapping[str, int]

MEMORY = "gpu_memory_percent"
SEQUENCES = "max_num_seqs"
REPLICAS = "per_gpu"
BATCH = "max_num_batched_tokens"


@dataclass(frozen=True)
class Knob:
    """A setting, its values in ascending order, the one to begin with, and the limits it moves.

    `stride` is how many values a first step up passes, where too much of it costs little. With
    `only_up` smaller values are not tried: they never serve more.
    """

    name: str
    values: tuple[int, ...]
    first: int
    moves: frozenset[Limit]
    stride: int = 1
    only_up: bool = False

    def neighbours(self, value: int) -> tuple[int, ...]:
        """Return the values to try from one: above it, the farthest first, then the one below."""
        at = self.values.index(value)
        above = self.values[at + 1 : at + 1 + self.stride]
        below = () if self.only_up else self.values[max(0, at - 1) : at]
        return (*reversed(above), *below)


# `max_num_seqs` has no neighbours to try: a ladder of clients on one server shows the curve of all
# smaller values. More memory only helps a server that is short of it, so 90 comes first.
KNOBS = (
    Knob(SEQUENCES, (256,), 256, frozenset({"queue limit"})),
    Knob(MEMORY, (75, 80, 85, 90, 93), 90, frozenset({"KV memory"}), only_up=True),
    Knob("api_server_count", (1, 2, 4, 8), 1, frozenset({"host CPU"}), stride=2),
    Knob(BATCH, (4096, 8192, 16384, 32768), 8192, frozenset({"prefill", "decode"}), stride=2),
    Knob(REPLICAS, (1, 2), 1, frozenset({"host CPU", "prefill", "decode"})),
)


FIRST = {knob.name: knob.first for knob in KNOBS}  # the configuration to begin with
