"""How many pages a second one card reads, and what is known of that."""

from dataclasses import dataclass

from cloister.capacity.ranges import Range
from cloister.capacity.words import rate
from cloister.config import Settings
from cloister.errors import TuningError
from cloister.tuning import ceiling, shapes, starting_points
from cloister.tuning.profile import Pages, Profile

UNMEASURED = 2.0
SCALED = 0.25  # of a page's cost, where the roofline says how much another mix costs
# An interval that reaches down to nothing says no more than that little was measured.
_WIDEST = 10.0


@dataclass(frozen=True)
class Speed:
    """Pages a second of one card for `pages`, on its `replicas`, and why so many.

    A page costs `factor` times one of the profile's own.
    """

    card: str
    replicas: int
    pages: Pages
    factor: float
    pages_per_s: Range
    why: tuple[str, ...]


def speed(profile: Profile, settings: Settings, pages: Pages | None = None) -> Speed:
    """Return a card's speed by its profile, for its own pages or for others by the roofline.

    Raises TuningError for a profile that served nothing, or that no roofline is known for.
    """
    pages = pages or profile.pages
    known, *why = _known(profile)
    factor = 1.0
    if pages.workload == profile.pages.workload:
        pages = profile.pages
    else:
        factor, scaled = _factor(profile, settings, pages)
        known = known.times(1 / factor).wider(SCALED)
        why.append(scaled)
    label = profile.card or f"GPU of {profile.class_gb} GB"
    return Speed(label, settings.engines.per_gpu, pages, factor, known, tuple(why))


def _known(profile: Profile) -> tuple[Range, str]:
    found = profile.pages_per_s
    if found.value <= 0:
        raise TuningError("the profile served no page within its SLO", hint="`--profile` another")
    known = Range(
        found.value,
        max(min(found.low, found.value), found.value / _WIDEST),
        min(max(found.high, found.value), found.value * _WIDEST),
    )
    what = f"pages/s of `{profile.pages.workload}` a card"
    if profile.measured:
        return known, f"measured: {known.written(rate)} {what}, a 95 % interval"
    known = Range(
        known.value,
        min(known.low, known.value / UNMEASURED),
        max(known.high, known.value * UNMEASURED),
    )
    return known, f"not measured, an estimate by the roofline: {known.written(rate)} {what}"


def _factor(profile: Profile, settings: Settings, pages: Pages) -> tuple[float, str]:
    """Return how many times as much a page costs as one of the profile's, by the roofline."""
    own = profile.pages
    shape = shapes.SHAPES.get(profile.model)
    if shape is None or own.prompt_tokens + own.output_tokens <= 0:
        raise TuningError(
            f"what a page of `{pages.workload}` costs is not known for {profile.model} on "
            f"{profile.engine}",
            hint=f"`--mix {own.workload}`, which the profile is for",
        )
    seqs = settings.vllm.max_num_seqs
    card = ceiling.card(profile.card or "") or starting_points.slowest(
        profile.memory_mib, shape, own, seqs
    )
    mine, other = (starting_points.roofline(shape, card, one, seqs) for one in (own, pages))
    factor = mine / other
    return factor, (
        f"by the {card.name}'s roofline a page of `{pages.workload}` ({_tokens(pages)}) costs "
        f"{factor:.2f} times one of `{own.workload}` ({_tokens(own)}); nobody measured that, so "
        f"its cost is trusted to {SCALED * 100:.0f} %"
    )


def _tokens(pages: Pages) -> str:
    return f"{pages.prompt_tokens:,.0f} tokens in, {pages.output_tokens:,.0f} out"
