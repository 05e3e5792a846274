"""What keys may do: one zone of nginx for each rate in use, and how many requests at once."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from cloister.keys import Key

_RETRY_AFTER_S = 5
_MINUTE_S = 60


@dataclass(frozen=True)
class Rate:
    """Keys of one rate, such as "60r/m", and how many requests may come in one go."""

    zone: str
    rate: str
    burst: int
    names: tuple[str, ...]
    retry_after_s: int


def rates(keys: Iterable[Key]) -> tuple[Rate, ...]:
    """Return the rates in use, each with its keys."""
    found: dict[str, list[Key]] = {}
    for key in keys:
        if key.rate is not None:
            found.setdefault(key.rate, []).append(key)
    return tuple(_rate(alike) for alike in found.values())


def concurrencies(keys: Iterable[Key]) -> dict[str, int]:
    """Return how many requests a key may have under way, by name, where that is limited."""
    return {key.name: key.concurrency for key in keys if key.concurrency is not None}


def _rate(alike: list[Key]) -> Rate:
    key = alike[0]
    unit, window_s = ("m", _MINUTE_S) if key.per_minute else ("s", 1)
    return Rate(
        zone=f"rate_{key.burst}_{unit}",
        rate=f"{key.burst}r/{unit}",
        # The first request is not part of nginx' burst.
        burst=key.burst - 1,
        names=tuple(key.name for key in alike),
        # A second more: who comes back to the moment finds nginx' clock a little behind.
        retry_after_s=max(_RETRY_AFTER_S, math.ceil(window_s / key.burst) + 1),
    )
