"""How soon a replica is started again, and when it is said to crash-loop: pure."""

from dataclasses import dataclass, replace

_FREE = 2  # failures that cost no wait: most are over after one
_FIRST_S, _LONGEST_S = 5.0, 300.0
_FORGIVEN_S = 30.0
CRASH_LOOP = 5


@dataclass(frozen=True)
class Failures:
    """A replica's failures that still count; times are of a clock that only goes on, in seconds."""

    count: int = 0
    last_s: float = 0.0
    forgiven_s: float = 0.0

    def failed(self, now_s: float) -> "Failures":
        """Return them with one more."""
        return Failures(self.count + 1, now_s, now_s)

    def well(self, now_s: float) -> "Failures":
        """Return them after another look at a replica that reads: one less every half minute."""
        if not self.count or now_s - self.forgiven_s < _FORGIVEN_S:
            return self
        return replace(self, count=self.count - 1, forgiven_s=now_s)

    def unsure(self, now_s: float) -> "Failures":
        """Return them after a look that told nothing: the half minute begins again."""
        return replace(self, forgiven_s=now_s)

    @property
    def wait_s(self) -> float:
        """How long after the last one to start again: 0, 0, then 5, 10, 20 to 300 seconds."""
        late = self.count - _FREE
        return 0.0 if late <= 0 else min(_LONGEST_S, _FIRST_S * 2.0 ** (late - 1))

    @property
    def loops(self) -> bool:
        """Whether so many are a crash loop."""
        return self.count >= CRASH_LOOP

    def over(self, now_s: float) -> bool:
        """Tell whether it has waited long enough."""
        return now_s - self.last_s >= self.wait_s
