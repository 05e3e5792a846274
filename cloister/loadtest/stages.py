"""One load after the other, until each is measured."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cloister.loadtest.client import Client
from cloister.loadtest.record import Record
from cloister.loadtest.shapes import Load

_LOOK_S = 0.25
_REPORT_S = 4.0  # workers tell their records every three seconds
_WRITE_S = 1.0  # and a process of its own writes them four times a second

Told = Callable[[int, float], None]


class Patience(Protocol):
    """When a closed load has gone on for long enough."""

    def over(self, pages: int, elapsed_s: float) -> bool:
        """Tell it from the pages so far and the seconds since its begin."""


@dataclass(frozen=True)
class Clock:
    """So many seconds, however many pages."""

    seconds: float

    def over(self, pages: int, elapsed_s: float) -> bool:  # noqa: ARG002
        """Tell whether the time is up."""
        return elapsed_s >= self.seconds


def sent(
    client: Client,
    load: Load,
    number: int,
    patience: Patience,
    told: Told = lambda _pages, _elapsed_s: None,
) -> tuple[list[Record], float, float]:
    """Send one load; return its records, and when it began and ended in seconds since 1970.

    An open load ends when all its pages are answered, or given up by the client's time-out.
    """
    begin_s = client.order(load, number)
    try:
        while not _over(client, load, number, patience, begin_s, told):
            time.sleep(_LOOK_S)
    except KeyboardInterrupt:
        raise Interrupted(_of(client, number), begin_s, time.time()) from None
    over_s = time.time()
    if load.closed:
        _wait_for_reports(client)
    records = _of(client, number)
    if load.closed:  # the clients begin when Locust has heard of it
        begin_s = min((record.sent_s for record in records), default=begin_s)
    return records, begin_s, over_s


class Interrupted(Exception):  # noqa: N818  # it is no error: the user had enough
    """Ctrl-C, with what was measured of the present load."""

    def __init__(self, records: list[Record], begin_s: float, over_s: float) -> None:
        super().__init__()
        self.records = records
        self.begin_s = begin_s
        self.over_s = over_s


def _over(
    client: Client, load: Load, number: int, patience: Patience, begin_s: float, told: Told
) -> bool:
    records = [record for record in client.collect() if record.stage == number]
    elapsed_s = time.time() - begin_s
    told(len(records), elapsed_s)
    if load.closed:
        return patience.over(len(records), elapsed_s)
    return elapsed_s >= load.seconds and len(records) >= len(load.offsets_s)


def _wait_for_reports(client: Client) -> None:
    """Let the workers tell what ended before the load did; one process writes at once."""
    until_s = time.time() + (_WRITE_S if client.alone else _REPORT_S)
    while time.time() < until_s:
        time.sleep(_LOOK_S)
        client.collect()


def _of(client: Client, number: int) -> list[Record]:
    return [record for record in client.records if record.stage == number]
