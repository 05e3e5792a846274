"""The gateway's part: stages with it against the same ones without; pure."""

import math
from collections.abc import Sequence
from itertools import pairwise

from cloister.loadtest.result import Estimate, Gateway, Stage


def share(stages: Sequence[Stage]) -> Gateway | None:
    """Return what the gateway costs at the busiest pair of stages, None where there is no pair.

    The ratio's interval is that of two independent estimates, by their relative half-widths.
    """
    pairs = [
        (through, direct)
        for through, direct in pairwise(stages)
        if direct.direct and not through.direct and through.e2e_s and direct.e2e_s
    ]
    if not pairs:
        return None
    through, direct = max(pairs, key=lambda pair: pair[0].pages_per_s.value)
    if not (
        through.e2e_s and direct.e2e_s and through.pages_per_s.value and direct.pages_per_s.value
    ):
        return None
    ratio = through.pages_per_s.value / direct.pages_per_s.value
    off = math.hypot(_relative(through.pages_per_s), _relative(direct.pages_per_s)) * ratio
    added = through.ttft_s.p50 - direct.ttft_s.p50 if through.ttft_s and direct.ttft_s else 0.0
    return Gateway(
        pages_ratio=Estimate(value=ratio, low=ratio - off, high=ratio + off, n=len(pairs)),
        ttft_added_s=added,
        e2e_added_s=through.e2e_s.p50 - direct.e2e_s.p50,
    )


def _relative(estimate: Estimate) -> float:
    return (estimate.high - estimate.value) / estimate.value
