"""Profiles for classes of cards that nobody measured: the arithmetic of memory and the roofline."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from cloister import config
from cloister.engines.vllm.memory import OVERHEAD_MIB
from cloister.loadtest import workload
from cloister.loadtest.result import Estimate
from cloister.tuning import ceiling, mix, shapes
from cloister.tuning.ceiling import Card, Shape
from cloister.tuning.profile import Pages, Profile

MODEL, ENGINE, WORKLOAD = "nanonets/Nanonets-OCR2-3B", "vllm-cuda", "mixed"
MEMORY_PERCENT = 90
# A page of an A4 scan and its text: 2,700 and 800 tokens.
TYPICAL_TOKENS = 3500
MOST_SEQS = 256
LEAST_GAIN = 0.05
# One H100 with 128 and 256 pages at once served 48 and 53 % of its roofline.
EFFICIENCY = 0.5
FACTOR = 2.0
_GRAPH_SEQS = 8  # vLLM captures CUDA graphs for multiples of it
_MIB = 1 << 20


@dataclass(frozen=True)
class Class:
    """Cards of about one size: the least memory that one of them reports, and common ones."""

    memory_mib: int
    cards: tuple[str, ...]
    caution: str = ""


CLASSES = (
    Class(
        15_000,
        ("T4",),
        "The T4 has no bf16: vLLM computes in fp16 there, for which these weights were not "
        "trained, so compare the text first.",
    ),
    Class(22_500, ("A10G", "L4")),
    Class(40_000, ("A100-SXM4-40GB",)),
    Class(45_000, ("L40S",)),
    Class(79_000, ("A100 80GB", "H100 PCIe", "H100")),
)


@dataclass(frozen=True)
class _Sums:
    """How many pages fit a card of a class, how many are read at once, and at what rate."""

    kv_mib: int
    fitting: int
    seqs: int
    card: Card
    pages_per_s: float


def profiles() -> tuple[Profile, ...]:
    """Return the starting point of every class."""
    return tuple(starting_point(one) for one in CLASSES)


def starting_point(one: Class) -> Profile:
    """Return the settings for a class of cards and, by its slowest one, what they might serve."""
    mixed = workload.load(WORKLOAD)
    pages = _rounded(mix.pages(WORKLOAD, mixed, _max_pixels()))
    sums = _sums(one, pages)
    rate = round(sums.pages_per_s, 2)
    return Profile(
        card=None,
        memory_mib=one.memory_mib,
        model=MODEL,
        engine=ENGINE,
        engine_version=None,
        measured=False,
        why=_why(one, sums),
        slo=mixed.slo,
        pages=pages,
        pages_per_s=Estimate(
            value=rate, low=round(rate / FACTOR, 3), high=round(rate * FACTOR, 3), n=0
        ),
        settings={"vllm": {"max_num_seqs": sums.seqs, "gpu_memory_percent": MEMORY_PERCENT}},
    )


def slowest(memory_mib: int, shape: Shape, pages: Pages, seqs: int) -> Card:
    """Return the slowest common card of the class of so much memory."""
    fitting = [one for one in CLASSES if one.memory_mib <= memory_mib]
    names = (fitting[-1] if fitting else CLASSES[0]).cards
    cards = [card for card in map(ceiling.card, names) if card is not None]
    return min(cards, key=lambda card: roofline(shape, card, pages, seqs))


def roofline(shape: Shape, card: Card, pages: Pages, seqs: int) -> float:
    """Return the bound in pages a second for mean pages, `seqs` of them at once."""
    return ceiling.ceiling(
        shape,
        card,
        at_once=seqs,
        prompt_tokens=pages.prompt_tokens,
        output_tokens=pages.output_tokens,
    ).pages_per_s


def _sums(one: Class, pages: Pages) -> _Sums:
    shape = shapes.SHAPES[MODEL]
    taken = one.memory_mib * MEMORY_PERCENT // 100
    kv_mib = taken - _weights_mib(shape) - OVERHEAD_MIB
    fitting = int(kv_mib * _MIB // (TYPICAL_TOKENS * shape.kv_bytes))
    card = slowest(one.memory_mib, shape, pages, max(1, fitting))
    seqs = _seqs(fitting, lambda seqs: roofline(shape, card, pages, seqs))
    return _Sums(kv_mib, fitting, seqs, card, EFFICIENCY * roofline(shape, card, pages, seqs))


def _seqs(fitting: int, rate: Callable[[int], float]) -> int:
    """Return how many pages to read at once: as they fit, and while twice as many gain enough."""
    seqs = min(fitting, MOST_SEQS) // _GRAPH_SEQS * _GRAPH_SEQS
    while seqs > _GRAPH_SEQS and rate(seqs) < (1 + LEAST_GAIN) * rate(seqs // 2):
        seqs -= _GRAPH_SEQS
    return max(1, seqs)


def _why(one: Class, sums: _Sums) -> str:
    shape = shapes.SHAPES[MODEL]
    page_s = sums.seqs / sums.pages_per_s
    memory = (
        f"{MEMORY_PERCENT} % of {one.memory_mib:,} MiB less {_weights_mib(shape):,} of weights "
        f"and {OVERHEAD_MIB:,} of overhead (an estimate) leave {sums.kv_mib:,} MiB of KV memory "
        f"for {sums.fitting} pages of {TYPICAL_TOKENS:,} tokens, of which {sums.seqs} are read at "
        "once."
    )
    rate = (
        f"The rate is {EFFICIENCY * 100:.0f} % of the {sums.card.name}'s roofline, which is what "
        f"an H100 reached, with all of them busy: a page then takes {page_s:.0f} s, so the SLO "
        "may need fewer clients."
    )
    return f"Not measured. {memory} {rate} {one.caution}".strip()


def _weights_mib(shape: Shape) -> int:
    return int(shape.weight_bytes) // _MIB


def _max_pixels() -> int:
    return config.load(
        flags=(f"model.name={MODEL}",), environ={config.CONFIG_VARIABLE: os.devnull}
    ).settings.vllm.max_pixels


def _rounded(pages: Pages) -> Pages:
    """Whole tokens, which a reader can check."""
    return pages.model_copy(
        update={
            "prompt_tokens": float(round(pages.prompt_tokens)),
            "output_tokens": float(round(pages.output_tokens)),
        }
    )
