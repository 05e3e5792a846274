"""The finalists by turns: each started as it would serve, and sent pages in open loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cloister.loadtest import shapes
from cloister.loadtest.result import Report
from cloister.loadtest.shapes import Load
from cloister.tuning import choosing, knobs
from cloister.tuning.choosing import SHARES, Final
from cloister.tuning.ledger import Ledger
from cloister.tuning.result import Finalist, Turn
from cloister.tuning.server import Bench, FailedError, Progress, start
from cloister.tuning.trying import Work, met, sent

_PAGES = 100  # of each share: fewer say little of a 95th percentile
_LONGEST = 4  # times a rung


@dataclass(frozen=True)
class Finals:
    """Where and with what the finalists are started, and where that is kept."""

    bench: Bench
    work: Work
    ledger: Ledger
    progress: Progress

    def played(
        self, finals: Sequence[Final], turns: int, enough_time: Callable[[], bool]
    ) -> tuple[Finalist, ...]:
        """Start the finalists by turns, A B A B, so that what drifts hits all of them.

        Ends early when there is not `enough_time` for another start. What the ledger has is not
        done again.
        """
        done: list[list[Turn]] = [[] for _ in finals]
        for number in range(turns * len(finals)):
            final = finals[number % len(finals)]
            kept = self.ledger.turns(number + 1)
            if kept is None:
                if not enough_time():
                    break
                kept = self._start(final, number + 1)
                self.ledger.keep_turns(number + 1, kept)
            done[number % len(finals)] += kept
        return tuple(
            choosing.finalist(final, its) for final, its in zip(finals, done, strict=True) if its
        )

    def _start(self, final: Final, number: int) -> tuple[Turn, ...]:
        """Return what one start of a finalist served; one that failed served nothing."""
        folder = self.ledger.turn_folder(number)
        self.progress(f"final {number}: {knobs.told(final.configuration)}")
        found = []
        try:
            server = start(self.bench.settings(final.configuration), self.progress)
            for share in SHARES:
                load = self._load(share, final.capacity, number)
                name = f"share-{share * 100:.0f}"
                test = replace(
                    self.work.test(server, folder / name), shape="poisson", loads=(load,)
                )
                report = sent(test, server, folder / name, self.progress)
                found.append(_told(report, share, number, f"{folder.name}/{name}"))
        except FailedError as failed:
            self.progress(f"final {number}: {failed}")
            return ()
        return tuple(found)

    def _load(self, share: float, capacity: float, number: int) -> Load:
        rate, rung_s = share * capacity, self.work.seconds
        seconds = min(max(rung_s, _PAGES / rate), _LONGEST * rung_s)
        name = f"{share:.0%} of capacity"
        return shapes.poisson(rate, seconds, self.work.seed + number, name)


def _told(report: Report, share: float, start: int, folder: str) -> Turn:
    stage = report.stages[0]
    return Turn(
        start=start,
        share=share,
        rate=stage.rate or 0.0,
        pages_per_s=stage.pages_per_s,
        e2e_p95_s=stage.e2e_s.p95 if stage.e2e_s else None,
        attainment=stage.attainment.value,
        met=met(stage),
        report=folder,
    )
