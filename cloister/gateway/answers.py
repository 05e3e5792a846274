"""What of an engine's answer reaches a client: statuses, types and a largest size and time."""

from dataclasses import dataclass, field

from cloister.engines import AnswerLimits
from cloister.gateway.refusals import too_large, too_long

# Every other status is 502.
STATUSES = (200, 400, 404, 413, 422, 429, 500, 501, 503, 504)
# The engine's, and how it is sent on. An error has to be JSON.
TYPES = {
    "application/json": "application/json",
    "text/event-stream": "text/event-stream; charset=utf-8",
    "text/plain": "text/plain; charset=utf-8",
}


@dataclass(frozen=True)
class Rules:
    """What the template needs; the texts are events that end a stream."""

    too_large: str
    too_long: str
    statuses: tuple[int, ...] = STATUSES
    types: dict[str, str] = field(default_factory=TYPES.copy)


def rules(limits: AnswerLimits) -> Rules:
    """Return the rules for an engine's answers."""
    return Rules(too_large(limits), too_long(limits))
