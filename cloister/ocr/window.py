"""How many pages are under way at once: additive increase, multiplicative decrease; pure."""

from dataclasses import dataclass, field

_CUT = 0.7  # a service that plans for its clients was overrun by little
_SETTLES_S = 1.0  # refusals that come within it were sent before the last cut


@dataclass
class Window:
    """The limit, between `least` and `most` pages; times are seconds of one clock.

    Grows by about one page in the time of a page while it is used up, and shrinks when the
    service says that it is too much (Chiu and Jain, 1989).
    """

    limit: float
    most: int
    least: int = 1
    resumes_s: float = 0.0
    _cut_s: float = field(default=float("-inf"), repr=False)

    def room(self, under_way: int, now_s: float) -> int:
        """Return how many pages more may be sent now."""
        return 0 if now_s < self.resumes_s else max(0, int(self.limit) - under_way)

    def answered(self, under_way: int) -> None:
        """Grow, if the page that came was one of as many as are allowed."""
        if under_way >= int(self.limit):
            self.limit = min(float(self.most), self.limit + 1 / self.limit)

    def refused(self, now_s: float, wait_s: float) -> None:
        """Shrink, and send nothing for as long as the service asked for."""
        self.resumes_s = max(self.resumes_s, now_s + wait_s)
        if now_s - self._cut_s >= _SETTLES_S:
            self.limit = max(float(self.least), self.limit * _CUT)
            self._cut_s = now_s
