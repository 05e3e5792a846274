"""One request of a load test, as the client saw it: a line of `records.jsonl`."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cloister import datafiles

_LINE_BYTES = 1 << 20
_TURNED_AWAY = (0, 429)  # 0: there was no answer
_SERVER_ERRORS = 500
_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Record:
    """One page that was asked for.

    `stage` is the number, from 0, of the load under which it was sent. `scheduled_s` and `sent_s`
    are seconds since 1970: when it was due (in closed loop: when it was sent) and when its first
    byte left. `first_s` and `end_s` count from `sent_s`: to the first chunk with text, None if
    there was none, and to the last byte. `gap_s` is the longest wait between two chunks. Tokens
    are those that the engine told in `usage`, None if it told none. `fault` is what makes the
    answer worthless, in the words of `faults`, None for a good page. `cer` and `fields` are None
    without a truth; `fields` is the share of the facts that were found, of `facts` there are.
    """

    stage: int
    kind: str
    scheduled_s: float
    sent_s: float
    first_s: float | None
    end_s: float
    chunks: int
    gap_s: float
    status: int
    fault: str | None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    request_id: str | None = None
    replica: str | None = None
    tries: int = 1
    cer: float | None = None
    fields: float | None = None
    facts: int = 0

    @property
    def late_s(self) -> float:
        """How long after its time it was sent: the client's fault, never the server's."""
        return self.sent_s - self.scheduled_s

    @property
    def pause_s(self) -> float:
        """How long its client waits before its next page, as clients do that are turned away."""
        turned_away = self.status in _TURNED_AWAY or self.status >= _SERVER_ERRORS
        return _PAUSE_S if turned_away else 0.0

    @property
    def done_s(self) -> float:
        """When its last byte came, in seconds since 1970."""
        return self.sent_s + self.end_s

    @property
    def e2e_s(self) -> float:
        """From when it was due to its last byte."""
        return self.late_s + self.end_s

    @property
    def ttft_s(self) -> float | None:
        """From when it was due to its first text."""
        return None if self.first_s is None else self.late_s + self.first_s

    @property
    def tpot_s(self) -> float | None:
        """Seconds a token after the first: (E2E - TTFT) / (tokens - 1)."""
        if self.first_s is None or not self.completion_tokens or self.completion_tokens < 2:  # noqa: PLR2004
            return None
        return (self.end_s - self.first_s) / (self.completion_tokens - 1)


def lines(records: Iterable[Record]) -> str:
    """Return records as JSONL."""
    return "".join(json.dumps(asdict(record)) + "\n" for record in records)


def read(path: Path) -> Iterator[Record]:
    """Yield the records of a JSONL file."""
    with datafiles.opened(path) as file:
        while line := file.readline(_LINE_BYTES):
            yield Record(**datafiles.parse_json(line))
