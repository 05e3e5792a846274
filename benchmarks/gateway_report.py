"""What the gateway's benchmark found: medians, ratios to no gateway, and verdicts."""

import math
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.load import EVENTS

_LEAST_RATIO = 0.97
_LEAST_OF_TCP = 0.98
_MOST_ADDED_MS = 1.0
# A client above this has no room left, so that it and not the gateway is what one measures.
_CLIENT_FULL = 0.85
# What others may use of one core before the times of a run mean little.
_DISTURBED = 0.2
# Two figures that are closer than the rounds of one side are called equal.
_EQUAL = 0.02
_EQUAL_MS = 0.1

_PIPED_COLUMNS = 240  # nothing is folded for a program that reads a table
console = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_COLUMNS)


@dataclass(frozen=True)
class Row:
    """One load: how many clients, and how long the engine takes from event to event."""

    kind: str
    concurrency: int
    event_ms: float

    def __str__(self) -> str:
        return f"{self.kind} {self.concurrency}"


@dataclass(frozen=True)
class Turn:
    """One side under one load for one window."""

    rate: float
    first_p50_ms: float
    first_ms: list[float]
    faults: int
    client_share: float
    stub_share: float
    others_share: float
    proxy_ms: float
    pss_mib: float
    rss_mib: float


@dataclass(frozen=True)
class Held:
    """One side with all large uploads at once."""

    pss_mib: float
    rss_mib: float
    spilled_mib: float
    held_s: float | None
    took_s: float
    faults: int


@dataclass(frozen=True)
class Summary:
    """One side under one load: medians of the rounds; the last percentile is of all pages."""

    rate: float
    rates: list[float]
    ratio: float
    ratio_low: float
    ratio_high: float
    first_p50_ms: float
    added_p50_ms: float
    first_p99_ms: float
    added_p99_ms: float
    pages: int
    proxy_ms: float
    client_share: float
    stub_share: float
    others_share: float
    pss_mib: float
    rss_mib: float
    faults: int


Summaries = dict[Row, dict[str, Summary]]


def _p99(turns: list[Turn]) -> float:
    pooled = sorted(value for turn in turns for value in turn.first_ms)
    return pooled[min(len(pooled) - 1, int(len(pooled) * 0.99))]


def _summary(turns: list[Turn], direct: list[Turn]) -> Summary:
    def median(value: Callable[[Turn], float]) -> float:
        return statistics.median(map(value, turns))

    pairs = list(zip(turns, direct, strict=True))
    ratios = [own.rate / other.rate if other.rate else 0 for own, other in pairs]
    added = [own.first_p50_ms - other.first_p50_ms for own, other in pairs]
    return Summary(
        rate=median(lambda turn: turn.rate),
        rates=[turn.rate for turn in turns],
        ratio=statistics.median(ratios),
        ratio_low=min(ratios),
        ratio_high=max(ratios),
        first_p50_ms=median(lambda turn: turn.first_p50_ms),
        added_p50_ms=statistics.median(added),
        first_p99_ms=_p99(turns),
        added_p99_ms=_p99(turns) - _p99(direct),
        pages=sum(len(turn.first_ms) for turn in turns),
        proxy_ms=median(lambda turn: turn.proxy_ms),
        client_share=median(lambda turn: turn.client_share),
        stub_share=median(lambda turn: turn.stub_share),
        others_share=median(lambda turn: turn.others_share),
        pss_mib=max(turn.pss_mib for turn in turns),
        rss_mib=max(turn.rss_mib for turn in turns),
        faults=sum(turn.faults for turn in turns),
    )


def summarise(results: Mapping[Row, Mapping[str, list[Turn]]]) -> Summaries:
    """Put the rounds together; each round is compared with its own direct turn."""
    return {
        row: {name: _summary(turns, sides["direct"]) for name, turns in sides.items()}
        for row, sides in results.items()
    }


def tables(summaries: Summaries, again: Mapping[str, bool], held: Mapping[str, list[Held]]) -> None:
    """Print what clients get, what it costs, and what the uploads took."""
    speed = _table(
        f"pages of 500 KB, answers of {EVENTS} events; TTFT is until the first of them",
        *("load", "side", "pages/s", "of direct", "(rounds)", "TTFT p50", "added", "p99", "added"),
        *("pages", "wrong"),
    )
    cost = _table(
        "processors: the proxy's for a page, shares of one core; memory: peaks",
        *("load", "side", "proxy CPU", "client", "stub", "others", "PSS", "RSS", "sent again"),
    )
    for row, sides in summaries.items():
        for name, own in sides.items():
            speed.add_row(str(row), name, *_speed(own))
            cost.add_row(str(row), name, *_cost(own), "yes" if again[name] else "no")
        speed.add_section()
        cost.add_section()
    uploads = _table(
        "256 uploads of 50 MB, all nearly complete at the same time; peaks, medians of the rounds",
        *("side", "PSS", "(rounds)", "RSS", "in files", "held after", "answered after", "wrong"),
    )
    for name, rounds in held.items():
        uploads.add_row(name, *_held(rounds))
    for table in (speed, cost, uploads):
        if table.rows:
            console.print(table, "")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in {"load", "side"} else "right")
    return table


def _speed(own: Summary) -> Iterator[str]:
    yield f"{own.rate:.1f}"
    yield from (f"{own.ratio:.3f}", f"({own.ratio_low:.3f}-{own.ratio_high:.3f})")
    yield from (f"{own.first_p50_ms:.2f} ms", f"{own.added_p50_ms:+.2f}")
    yield from (f"{own.first_p99_ms:.2f} ms", f"{own.added_p99_ms:+.2f}")
    yield from (str(own.pages), str(own.faults))


def _cost(own: Summary) -> Iterator[str]:
    yield f"{own.proxy_ms:.2f} ms"
    yield from (f"{share:.0%}" for share in (own.client_share, own.stub_share, own.others_share))
    yield from (f"{size:.0f} MiB" if size else "-" for size in (own.pss_mib, own.rss_mib))


def _held(rounds: list[Held]) -> Iterator[str]:
    sizes = [one.pss_mib for one in rounds]
    yield f"{statistics.median(sizes):.0f} MiB"
    yield f"({min(sizes):.0f}-{max(sizes):.0f})"
    yield f"{statistics.median(one.rss_mib for one in rounds):.0f} MiB"
    yield f"{statistics.median(one.spilled_mib for one in rounds):.0f} MiB"
    yield f"{statistics.median(one.held_s or math.inf for one in rounds):.0f} s"
    yield f"{statistics.median(one.took_s for one in rounds):.0f} s"
    yield str(sum(one.faults for one in rounds))


def verdicts(summaries: Summaries, held: Mapping[str, list[Held]]) -> int:
    """Print what holds and what does not; return how many answers were wrong."""
    faults = sum(own.faults for sides in summaries.values() for own in sides.values())
    faults += sum(one.faults for rounds in held.values() for one in rounds)
    _say(not faults, f"every answer was whole and right ({faults} were not)")
    others = max(own.others_share for sides in summaries.values() for own in sides.values())
    if others > _DISTURBED:
        console.print(f"      others used up to {others:.0%} of a core: repeat on an idle machine")
    for row, sides in summaries.items():
        own, direct = sides["nginx"], sides["direct"]
        full = max(own.client_share, direct.client_share) > _CLIENT_FULL
        claim = f"{row}: nginx gives {own.ratio:.3f} of direct (goal {_LEAST_RATIO} at 32, paced)"
        if row.event_ms and row.concurrency == 32 and not full:  # noqa: PLR2004  # the goal's own
            _say(own.ratio >= _LEAST_RATIO, claim)
        else:
            console.print(f"      {claim}; not judged{', the client is the limit' * full}")
        if row.event_ms:
            claim = f"{row}: nginx adds {own.added_p50_ms:.2f} ms to the median TTFT"
            _say(own.added_p50_ms <= _MOST_ADDED_MS, f"{claim} (goal {_MOST_ADDED_MS:.0f} ms)")
    # Unpaced the client and the stub take the processors that nginx does not.
    for row, sides in summaries.items():
        if not row.event_ms:
            continue
        pairs = zip(sides["nginx"].rates, sides["nginx by TCP"].rates, strict=True)
        ratios = sorted(own / tcp if tcp else 0 for own, tcp in pairs)
        ratio, spread = statistics.median(ratios), f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
        claim = f"{row}: sockets give {ratio:.3f} ({spread}) of the pages by TCP"
        _say(ratio >= _LEAST_OF_TCP, f"{claim} (goal {_LEAST_OF_TCP})")
    for row, sides in summaries.items():
        for claim, own_, other, equal in _compared(sides["nginx"], sides["haproxy"]):
            _say(own_ <= other + equal, f"{row}: nginx is no worse than haproxy in {claim}")
    if held:
        own_mib, other_mib = (
            statistics.median(one.pss_mib for one in held[name]) for name in ("nginx", "haproxy")
        )
        claim = f"uploads: nginx is no worse than haproxy in PSS: {own_mib:.0f}, {other_mib:.0f}"
        _say(own_mib <= other_mib * (1 + _EQUAL), f"{claim} MiB")
    return faults


def _compared(own: Summary, other: Summary) -> Iterator[tuple[str, float, float, float]]:
    """Yield pairs of which the smaller is better, and how far apart is still equal."""
    rates = f"pages/s: {own.rate:.1f}, {other.rate:.1f}"
    yield rates, -own.rate, -other.rate, _EQUAL * other.rate
    for name, mine, theirs, least in (
        ("TTFT p50", own.first_p50_ms, other.first_p50_ms, _EQUAL_MS),
        ("TTFT p99", own.first_p99_ms, other.first_p99_ms, _EQUAL_MS),
        ("CPU a page", own.proxy_ms, other.proxy_ms, 0),
    ):
        claim = f"{name}: {mine:.2f}, {theirs:.2f} ms"
        yield claim, mine, theirs, max(least, _EQUAL * theirs)
    if own.pss_mib:
        sizes = f"PSS: {own.pss_mib:.0f}, {other.pss_mib:.0f} MiB"
        yield sizes, own.pss_mib, other.pss_mib, _EQUAL * other.pss_mib


def _say(holds: bool, claim: str) -> None:  # noqa: FBT001  # what it is about comes first
    console.print(f"{'ok    ' if holds else 'MISSED'} {claim}")
