"""When pages are sent: the loads of each shape, and the arrivals of each load; pure."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Literal

from cloister.errors import LoadTestError

Shape = Literal["ladder", "poisson", "constant", "ramp", "spike", "soak", "replay"]
SHAPES: tuple[Shape, ...] = ("ladder", "poisson", "constant", "ramp", "spike", "soak", "replay")
_PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class Load:
    """So many clients, each sending its next page after the answer (closed loop), or a schedule.

    `offsets_s` are the times of the pages from the load's begin (open loop, whatever the server
    does). `seconds` is how long it takes, in closed loop at least and twice that at most.
    """

    name: str
    seconds: float
    users: int | None = None
    rate: float | None = None
    offsets_s: tuple[float, ...] = ()
    direct: bool = False

    @property
    def closed(self) -> bool:
        """Whether a client waits for its answer."""
        return self.users is not None


def closed(users: int, seconds: float, *, direct: bool = False) -> Load:
    """Return a load of clients that wait for their answers."""
    name = f"{users} client{'s' if users > 1 else ''}" + (", direct" if direct else "")
    return Load(name, seconds, users=users, direct=direct)


def poisson(rate: float, seconds: float, seed: int, name: str | None = None) -> Load:
    """Return pages that come at random, as from many users who know nothing of each other."""
    random = Random(f"poisson/{seed}/{rate}")  # noqa: S311  # repeatable on purpose
    offsets, at = list[float](), random.expovariate(rate)
    while at < seconds:
        offsets.append(at)
        at += random.expovariate(rate)
    return Load(name or f"{rate:g} pages/s", seconds, rate=rate, offsets_s=tuple(offsets))


def constant(rate: float, seconds: float) -> Load:
    """Return pages that come like clockwork."""
    count = max(1, math.floor(rate * seconds))
    offsets = tuple(number / rate for number in range(count))
    return Load(f"{rate:g} pages/s, even", seconds, rate=rate, offsets_s=offsets)


def ramp(rate: float, seconds: float, seed: int) -> Load:
    """Return pages at random whose rate grows evenly from nothing to `rate`.

    A Poisson process stretched in time: the inverse of the expected count, rate t^2 / 2 seconds.
    """
    even = poisson(rate / 2, seconds, seed).offsets_s
    offsets = tuple(math.sqrt(at * seconds) for at in even)
    return Load(f"0 to {rate:g} pages/s", seconds, rate=rate / 2, offsets_s=offsets)


def spike(rate: float, seconds: float, seed: int) -> tuple[Load, ...]:
    """Return a third of the time at a quarter of the rate, one at the rate, one at the quarter."""
    third = seconds / 3
    return (
        poisson(rate / 4, third, seed, f"before the spike, {rate / 4:g} pages/s"),
        poisson(rate, third, seed + 1, f"spike, {rate:g} pages/s"),
        poisson(rate / 4, third, seed + 2, f"after the spike, {rate / 4:g} pages/s"),
    )


def replay(path: Path) -> Load:
    """Return the pages of a gateway's access log, at their times; raises LoadTestError."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise LoadTestError(f"`{path}` cannot be read: {error.strerror}") from error
    times = sorted(_times(lines))
    if not times:
        raise LoadTestError(
            f"`{path}` has no page of {_PATH}", hint="it has to be the gateway's access log, JSON"
        )
    offsets = tuple(at - times[0] for at in times)
    seconds = max(offsets[-1], 1.0)
    return Load(f"replay of {path.name}", seconds, rate=len(times) / seconds, offsets_s=offsets)


def busiest(loads: Iterable[Load]) -> Load | None:
    """Return the load that asks most of the client, by its pages a second in the busiest second."""
    return max(loads, key=_peak, default=None)


def _peak(load: Load) -> float:
    if load.users is not None:
        return float(load.users)
    return max(_in_a_second(load.offsets_s), default=0)


def _in_a_second(offsets_s: Sequence[float]) -> Iterable[int]:
    counts: dict[int, int] = {}
    for at in offsets_s:
        counts[int(at)] = counts.get(int(at), 0) + 1
    return counts.values()


def _times(lines: Iterable[str]) -> Iterable[float]:
    """Yield when the pages of a log began: their line is written when they are answered."""
    for line in lines:
        try:
            entry = json.loads(line)
            if entry["path"] == _PATH:
                ended = datetime.fromisoformat(entry["time"]).timestamp()
                yield ended - float(entry["seconds"])
        except (ValueError, LookupError, TypeError):
            continue  # a line of something else
