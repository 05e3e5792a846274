"""How many cards a job needs, and how long any number of them takes."""

import datetime as dt
import math
from dataclasses import dataclass
from typing import Literal

from cloister.capacity.jobs import MOST_HOURS, Job
from cloister.capacity.ranges import Range
from cloister.capacity.speeds import Speed
from cloister.capacity.words import cards, duration, moment, number

MOST_CARDS = 64
Answer = Literal["yes", "likely", "perhaps", "no"]
_SHOWN = (1, 2, 4, 8)
_MOST_ROWS = 6
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Fleet:
    """A number of cards: working hours for all pages, when it is done and, at the latest, when."""

    cards: int
    replicas: int
    pages_per_s: Range
    hours: Range
    done: dt.datetime | None
    latest: dt.datetime | None
    in_time: Answer | None


@dataclass(frozen=True)
class Needed:
    """Cards for a job: the likely number, and the least and the most that it may turn out."""

    likely: int
    least: int
    most: int


@dataclass(frozen=True)
class Plan:
    """A job, a card's speed, and the cards that it needs where it has a date."""

    job: Job
    speed: Speed
    needed: Needed | None
    fleets: tuple[Fleet, ...]

    def __str__(self) -> str:
        """Return the answer in words."""
        if self.needed is None:
            *most, last = (str(one.cards) for one in self.fleets)
            return f"No date (`--by`), so this is how long {', '.join(most)} and {last} cards take"
        if self.needed.likely > MOST_CARDS:
            return _too_much(self.job, self.speed, self.needed)
        return _counted(self.needed, self.speed.card)

    @property
    def about(self) -> str:
        """What the answer rests on."""
        job, pages = self.job, self.speed.pages
        span = f"from {moment(job.start)}"
        if job.by is not None:
            span += f" to {moment(job.by)}, {number(job.hours or 0)} working hours"
        tokens = f"{pages.prompt_tokens:,.0f} tokens in and {pages.output_tokens:,.0f} out"
        what = (
            f"{job.pages:,} pages of `{pages.workload}`, each {tokens}",
            f"{span}; {job.hours_a_day} hours a day, {job.spare} % of the capacity kept free",
        )
        return "\n".join((*what, *self.speed.why))


def plan(job: Job, speed: Speed) -> Plan:
    """Return what a job needs at a speed, with a row for each number of cards worth showing."""
    needed = _needed(job, speed)
    counts = _SHOWN if needed is None else _counts(needed)
    return Plan(job, speed, needed, tuple(fleet(job, speed, count) for count in counts))


def fleet(job: Job, speed: Speed, count: int) -> Fleet:
    """Return what a number of cards makes of a job."""
    rate = speed.pages_per_s.times(count * job.share)
    hours = rate.over(job.pages / 3600)
    return Fleet(
        cards=count,
        replicas=count * speed.replicas,
        pages_per_s=rate,
        hours=hours,
        done=job.end(hours.value),
        latest=job.end(hours.high),
        in_time=None if job.hours is None else _answer(hours, job.hours),
    )


def _needed(job: Job, speed: Speed) -> Needed | None:
    if job.hours is None:
        return None
    # Card-hours over the hours that there are.
    exact = speed.pages_per_s.times(job.share).over(job.pages / 3600).times(1 / job.hours)
    ends = (exact.value, exact.low, exact.high)
    return Needed(*(max(1, math.ceil(one * (1 - _ROUNDING))) for one in ends))


def _counts(needed: Needed) -> tuple[int, ...]:
    ends = [min(count, MOST_CARDS) for count in (needed.least, needed.likely, needed.most)]
    between = range(ends[0], ends[-1] + 1)
    return tuple(between) if len(between) <= _MOST_ROWS else tuple(sorted(set(ends)))


def _answer(hours: Range, available: float) -> Answer:
    available *= 1 + _ROUNDING
    if hours.high <= available:
        return "yes"
    if hours.value <= available:
        return "likely"
    return "perhaps" if hours.low <= available else "no"


def _counted(needed: Needed, card: str) -> str:
    if needed.least == needed.most:
        return cards(f"{needed.likely}", card)
    last = f"{needed.most}" if needed.most <= MOST_CARDS else f"more than {MOST_CARDS}"
    return f"{cards(f'{needed.least} to {last}', card)}, {needed.likely} likely"


def _too_much(job: Job, speed: Speed, needed: Needed) -> str:
    """Say that the likely number is too large, and what the largest one does."""
    most, wanted = fleet(job, speed, MOST_CARDS), cards(f"{needed.likely:,}", speed.card)
    pages = int(most.pages_per_s.value * 3600 * (job.hours or 0))
    takes = duration(most.hours.value * MOST_HOURS / job.hours_a_day)
    done = f", until {moment(most.done)}" if most.done else ""
    return (
        f"Not by then: it would likely take {wanted} ({needed.least:,} at the least), and this "
        f"plans with {MOST_CARDS} at most. They read {pages:,} pages by then, and all in "
        f"{takes}{done}"
    )
