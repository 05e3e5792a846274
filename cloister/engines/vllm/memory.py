"""What one vLLM server needs of a card's memory at least: an estimate, from the model's files.

Standard library only, as everything of this package; no weight is loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloister import datafiles

# An estimate: CUDA's context, the activations of a page of the largest size, and CUDA graphs. What
# it really takes varies with the card, vLLM's version, and how many pages are read at once.
OVERHEAD_MIB = 3072

_BYTES_PER_VALUE = 2  # bf16, in which the KV cache is kept unless told otherwise
_KEYS_AND_VALUES = 2
_MIB = 1 << 20


@dataclass(frozen=True)
class Need:
    """The parts of what one server needs at least, in MiB; `tokens` is the longest page."""

    weights_mib: int
    kv_mib: int
    overhead_mib: int = OVERHEAD_MIB
    tokens: int = 0

    @property
    def total_mib(self) -> int:
        """The sum in MiB."""
        return self.weights_mib + self.kv_mib + self.overhead_mib

    def __str__(self) -> str:
        return (
            f"{self.weights_mib:,} weights + {self.kv_mib:,} KV for one page of "
            f"{self.tokens:,} tokens + {self.overhead_mib:,} overhead = {self.total_mib:,} MiB"
        )


def need(folder: Path, max_model_len: int) -> Need | None:
    """Return what the model in a folder needs, None when there is none or it lacks the figures.

    Without a weight there, as for weights that are noise, they count as 0: too little, never too
    much.
    """
    try:
        config = datafiles.load_json(folder / "config.json", datafiles.CONFIG_BYTES)
        weights_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    except (OSError, ValueError, RecursionError):
        return None  # what is wrong with it, the model store says
    return estimate(weights_bytes, config, max_model_len) if isinstance(config, dict) else None


def estimate(weights_bytes: int, config: Mapping[str, Any], max_model_len: int) -> Need | None:
    """Return what a model needs by its config.json, None when that lacks the figures; pure.

    vLLM starts only if the longest page, of `max_model_len` tokens, fits its KV cache.
    """
    per_token = kv_bytes_per_token(config)
    if per_token is None:
        return None
    return Need(
        weights_mib=_mib(weights_bytes),
        kv_mib=_mib(per_token * max_model_len),
        tokens=max_model_len,
    )


def kv_bytes_per_token(config: Mapping[str, Any]) -> int | None:
    """Return the bytes of one token in the KV cache, None when config.json does not tell; pure.

    A key and a value for each layer and KV head, of the head's size, at two bytes: 36,864 for the
    36 layers and 2 heads of 128 that Qwen2.5-VL-3B has.
    """
    nested = config.get("text_config")
    text = {**config, **nested} if isinstance(nested, Mapping) else config
    layers = _count(text, "num_hidden_layers")
    heads = _count(text, "num_attention_heads")
    kv_heads = _count(text, "num_key_value_heads") or heads
    size, hidden = _count(text, "head_dim"), _count(text, "hidden_size")
    if size is None and hidden and heads:
        size = hidden // heads
    if not layers or not kv_heads or not size:
        return None
    return _KEYS_AND_VALUES * layers * kv_heads * size * _BYTES_PER_VALUE


def _count(config: Mapping[str, Any], name: str) -> int | None:
    found = config.get(name)
    return found if type(found) is int and found > 0 else None


def _mib(size: int) -> int:
    return -(-size // _MIB)
