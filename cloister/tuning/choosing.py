"""From what was measured to what is recommended, with the noise said: pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from cloister.loadtest.result import Estimate
from cloister.loadtest.statistics import half_width
from cloister.tuning import knobs, search
from cloister.tuning.knobs import Space, Value
from cloister.tuning.result import Choice, Finalist, Turn
from cloister.tuning.trial import Trial

SHARES = (0.8, 0.9, 1.0)  # of a finalist's capacity in closed loop
_MOST = 3
_NEAR = 0.9  # of the best score: what is farther away was told apart by the ladder


@dataclass(frozen=True)
class Final:
    """A configuration that is to be started again, with its capacity in closed loop."""

    configuration: dict[str, Value]
    capacity: float
    trial: Trial


def finals(done: Sequence[Trial], space: Space) -> tuple[Final, ...]:
    """Return two or three trials that may be the best, the recommended one first; none for none.

    Each as it would serve: with as many sequences as its best rung had clients.
    """
    kept = search.recommend(done, space)
    if kept is None:
        return ()
    others = sorted(
        (
            trial
            for trial in done
            if trial is not kept.trial and trial.score >= _NEAR * kept.trial.score
        ),
        key=lambda trial: -trial.score,
    )
    found = [Final(dict(kept.configuration), kept.trial.score, kept.trial)]
    for trial in others[: _MOST - 1]:
        rung = trial.best
        if rung is not None:
            configuration = search.as_its_best_rung(trial, rung.clients, space)
            found.append(Final(configuration, trial.score, trial))
    return tuple(found)


def finalist(final: Final, turns: Sequence[Turn]) -> Finalist:
    """Return what a configuration served in open loop: of each start the most within the SLO."""
    starts = sorted({turn.start for turn in turns})
    bests = [_best([turn for turn in turns if turn.start == start]) for start in starts]
    return Finalist(
        configuration=final.configuration, turns=tuple(turns), pages_per_s=_over_starts(bests)
    )


def choose(
    done: Sequence[Trial], space: Space, finalists: Sequence[Finalist]
) -> tuple[Choice, Estimate] | None:
    """Return what to keep, with its pages a second; None when nothing served within the SLO.

    A finalist wins that is better by more than noise than each of the others. Otherwise the one is
    kept that takes least: the earliest trial, which moved least.
    """
    kept = search.recommend(done, space)
    if kept is None:
        return None
    served = [one for one in finalists if one.pages_per_s.value > 0]
    if not served:
        return _by_ladder(kept, done), kept.trial.best.pages_per_s if kept.trial.best else _NONE
    best = max(served, key=lambda one: one.pages_per_s.value)
    rivals = [one for one in served if one is not best and not _better(best, one)]
    if not rivals:
        return Choice(
            configuration=best.configuration, winner=True, why=_won(best, done)
        ), best.pages_per_s
    safer = served[min(served.index(one) for one in (best, *rivals))]
    why = (
        f"No winner: {len(rivals) + 1} configurations cannot be told apart, and the one that moves "
        f"least is kept. {_served(safer.pages_per_s)}"
    )
    return Choice(configuration=safer.configuration, winner=False, why=why), safer.pages_per_s


_NONE = Estimate(value=0.0, low=0.0, high=0.0, n=0)


def _best(turns: Sequence[Turn]) -> Estimate:
    served = [turn.pages_per_s for turn in turns if turn.met]
    return max(served, key=lambda rate: rate.value, default=_NONE)


def _over_starts(bests: Sequence[Estimate]) -> Estimate:
    """Return the mean over starts, with Student's interval; that of its pages for one start."""
    if len(bests) == 1:
        return bests[0]
    values = [rate.value for rate in bests]
    if not values:
        return _NONE
    half = half_width(values)
    mean, pages = fmean(values), sum(rate.n for rate in bests)
    return Estimate(value=mean, low=max(0.0, mean - half), high=mean + half, n=pages)


def _better(one: Finalist, other: Finalist) -> bool:
    """Tell whether intervals are apart, and the difference is worth having."""
    gain = one.pages_per_s.value / other.pages_per_s.value - 1
    return gain > search.WORTH and one.pages_per_s.low > other.pages_per_s.high


def _won(best: Finalist, done: Sequence[Trial]) -> str:
    moved = knobs.told(best.configuration, done[0].configuration)
    return f"Serve with {moved}. {_served(best.pages_per_s)}"


def _by_ladder(kept: search.Recommendation, done: Sequence[Trial]) -> Choice:
    moved = knobs.told(kept.configuration, done[0].configuration)
    rate = kept.trial.best.pages_per_s if kept.trial.best else _NONE
    why = (
        f"Serve with {moved}. {_served(rate)} That is by its ladder: there was no final, or none "
        "of it kept the SLO."
    )
    return Choice(configuration=dict(kept.configuration), winner=False, why=why)


def _served(rate: Estimate) -> str:
    return f"It served {rate.value:.2f} pages/s within the SLO ({rate.low:.2f} to {rate.high:.2f})."
