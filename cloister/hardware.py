"""What an engine runs on, by the name under which its tuned settings are kept."""

import os
from dataclasses import dataclass

import psutil

from cloister import gpus
from cloister.errors import ToolError


@dataclass(frozen=True)
class Hardware:
    """A card by nvidia-smi's name, or the processor by its number of cores; with its memory.

    `gpu` tells which of the two it is.
    """

    name: str
    memory_mib: int
    gpu: bool = True


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def of(engine: str, chosen: tuple[int, ...] = ()) -> Hardware | None:
    """Return what an engine runs on, of several cards the first of `chosen` or of all.

    None where it needs a card and there is none. `auto` takes a card where there is one.
    """
    if engine in {"auto", "vllm-cuda"}:
        try:
            cards = [card for card in gpus.cards() if not chosen or card.index in chosen]
        except ToolError:
            cards = []  # `invoke up` says what is wrong with the driver
        if cards:
            return Hardware(cards[0].name, cards[0].memory_mib)
    if engine == "vllm-cuda":
        return None
    memory_mib = psutil.virtual_memory().total >> 20
    return Hardware(f"CPU, {cores()} cores", memory_mib, gpu=False)
