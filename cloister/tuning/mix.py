"""What a page of a workload has in the mean: tokens of its image, its prompt and its text."""

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from cloister.loadtest import workload as workloads
from cloister.loadtest.workload import OutputLengths, Workload
from cloister.tuning.ceiling import image_tokens
from cloister.tuning.profile import Pages

_A4_MM2 = 210 * 297
# Only a till roll is far from A4: 80 mm wide, and as long as its list, in the mean of `corpus`.
_PAPER_MM2 = {"receipt": 80 * 105}
_MM_PER_INCH = 25.4
_PROMPT_TOKENS = 160  # the words of the default model's prompt

_Choice = TypeVar("_Choice")


def load(name: str, max_pixels: int) -> Pages:
    """Return the mean page of a workload by its name or its file; raises LoadTestError."""
    return pages(name, workloads.load(name), max_pixels)


def pages(name: str, workload: Workload, max_pixels: int) -> Pages:
    """Return the mean page of a workload where larger ones are scaled down to `max_pixels`."""

    def image(kind: str) -> float:
        area = _PAPER_MM2.get(kind, _A4_MM2) / _MM_PER_INCH**2
        return _mean(workload.dpi, lambda dpi: image_tokens(area * dpi**2, max_pixels))

    return Pages(
        workload=name,
        prompt_tokens=_mean(workload.kinds, image) + _PROMPT_TOKENS,
        output_tokens=output_tokens(workload.output_tokens),
    )


def output_tokens(lengths: OutputLengths) -> float:
    """Return the mean of a log-normal length that is cut at both ends, as `draw` cuts it."""
    least, most = min(lengths.least, lengths.most), lengths.most
    if lengths.sigma == 0:
        return float(min(max(lengths.median, least), most))
    low, high = (math.log(end / lengths.median) / lengths.sigma for end in (least, most))
    # The part between the ends has the mean of the whole, shifted by sigma (a standard integral).
    whole = lengths.median * math.exp(lengths.sigma**2 / 2)
    between = whole * (_below(high - lengths.sigma) - _below(low - lengths.sigma))
    return least * _below(low) + between + most * (1 - _below(high))


def _below(deviations: float) -> float:
    return (1 + math.erf(deviations / math.sqrt(2))) / 2


def _mean(shares: Mapping[_Choice, float], value: Callable[[_Choice], float]) -> float:
    total = sum(shares.values())
    return sum(share * value(choice) for choice, share in shares.items()) / total
