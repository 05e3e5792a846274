"""The roofline: how many pages a second a card could read at most, from the model's shapes; pure.

A page costs the sums of vision and prefill, bound by the card's arithmetic, and its share of each
decoding step, bound by the memory that a step reads: all weights, and the KV cache of all pages
that are read at once. Both at the card's best, one after the other (Williams, Waterman and
Patterson 2009); what overlaps or stalls is not in it, so it is a bound and no forecast.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloister import datafiles
from cloister.engines.vllm.memory import kv_bytes_per_token

# Dense bf16 (T4: fp16) FLOP/s and memory bytes/s by NVIDIA's data sheets, first match by name.
_CARDS = (
    ("H200", 989e12, 4.8e12),
    ("H100 PCIe", 756e12, 2.0e12),
    ("H100", 989e12, 3.35e12),
    ("A100-SXM4-80GB", 312e12, 2.04e12),
    ("A100 80GB", 312e12, 1.94e12),
    ("A100", 312e12, 1.555e12),
    ("L40S", 362e12, 0.864e12),
    ("L40", 181e12, 0.864e12),
    ("L4", 121e12, 0.3e12),
    ("A40", 150e12, 0.696e12),
    ("RTX A6000", 155e12, 0.768e12),
    ("A10G", 70e12, 0.6e12),
    ("A10", 125e12, 0.6e12),
    ("RTX 4090", 165e12, 1.008e12),
    ("T4", 65e12, 0.32e12),
)
# What matrix products of these shapes reach of it: 790 of 989 TFLOP/s on an H100.
_REACHED = 0.8
_BYTES_PER_WEIGHT = 2  # bf16
_TOKEN_SIDE, _PATCHES = 28, 4  # pixels; a token of the image is 2 x 2 patches


@dataclass(frozen=True)
class Card:
    """What a card can do: FLOP and bytes a second."""

    name: str
    flops: float
    bandwidth: float


@dataclass(frozen=True)
class Shape:
    """What a model costs: weights in numbers of parameters, KV cache in bytes a token."""

    text: float
    vision: float
    kv_bytes: int

    @property
    def weight_bytes(self) -> float:
        """All weights."""
        return (self.text + self.vision) * _BYTES_PER_WEIGHT


@dataclass(frozen=True)
class Ceiling:
    """The bound, in pages a second, and the seconds of a page that it is made of."""

    pages_per_s: float
    vision_s: float
    prefill_s: float
    decode_s: float

    def __str__(self) -> str:
        return (
            f"{self.pages_per_s:.1f} pages/s at most: a page costs {self.vision_s * 1000:.0f} ms "
            f"of vision, {self.prefill_s * 1000:.0f} ms of prefill and "
            f"{self.decode_s * 1000:.0f} ms as its part of decoding"
        )


def card(name: str) -> Card | None:
    """Return what is known of a card by nvidia-smi's name for it, None for nothing."""
    found = next((one for one in _CARDS if re.search(rf"\b{one[0]}\b", name, re.IGNORECASE)), None)
    return Card(*found) if found else None


def shape(config: Mapping[str, Any]) -> Shape | None:
    """Return a model's costs by its config.json, None when that lacks the figures.

    A layer has queries and outputs of hidden x hidden, keys and values of hidden x KV size, and
    three matrices of hidden x intermediate; the output layer is vocabulary x hidden.
    """
    text = {**config, **(config.get("text_config") or {})}
    vision = config.get("vision_config") or {}
    kv_bytes = kv_bytes_per_token(config)
    try:
        hidden, layers, wide = (
            text[name] for name in ("hidden_size", "num_hidden_layers", "intermediate_size")
        )
        kv = text["num_key_value_heads"] * hidden // text["num_attention_heads"]
        seen, depth, seen_wide = (
            vision[name] for name in ("hidden_size", "depth", "intermediate_size")
        )
        layer = 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * wide
        block = 4 * seen * seen + 3 * seen * seen_wide
        words = text["vocab_size"] * hidden
    except (KeyError, TypeError):
        return None
    merger = (_PATCHES * seen) ** 2 + _PATCHES * seen * hidden
    known = Shape(layers * layer + words, depth * block + merger, kv_bytes or 0)
    return known if kv_bytes else None


def image_tokens(pixels: float, max_pixels: int) -> float:
    """Return the tokens of a page of so many pixels, 28 x 28 to one."""
    return min(pixels, max_pixels) / _TOKEN_SIDE**2


def ceiling(
    shape: Shape, card: Card, *, at_once: int, prompt_tokens: float, output_tokens: float
) -> Ceiling:
    """Return the bound for pages of so many tokens, so many of them read at once.

    Half of a page's answer is in the cache on average.
    """
    arithmetic = card.flops * _REACHED
    vision_s = 2 * shape.vision * prompt_tokens * _PATCHES / arithmetic
    prefill_s = 2 * shape.text * prompt_tokens / arithmetic
    cached = at_once * (prompt_tokens + output_tokens / 2) * shape.kv_bytes
    step_s = (shape.weight_bytes + cached) / card.bandwidth
    decode_s = output_tokens * step_s / at_once
    return Ceiling(1 / (vision_s + prefill_s + decode_s), vision_s, prefill_s, decode_s)


def of_folder(folder: Path) -> Shape | None:
    """Return the costs of the model in a folder, None when it tells none."""
    try:
        config = datafiles.load_json(folder / "config.json", datafiles.CONFIG_BYTES)
    except (OSError, ValueError):
        return None
    return shape(config) if isinstance(config, dict) else None
