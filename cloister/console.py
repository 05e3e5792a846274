"""What a person sees: progress on standard error, tables and values on standard output."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

_PIPED_COLUMNS = 240  # nothing is folded for a program that reads a table
_out = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_COLUMNS)
_err = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line for a person, beside the data."""
    _err.print(text, markup=False)


def show(text: str) -> None:
    """Print a part of the answer, to the letter."""
    print(text)  # noqa: T201


def dump(value: Any) -> None:
    """Print a dataclass or a plain value as JSON."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    print(json.dumps(plain, indent=2, ensure_ascii=False, default=str))  # noqa: T201


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a heading."""
    draw(grid(columns, rows))


def grid(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return rows under a heading, to be drawn."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*("-" if cell is None else str(cell) for cell in row))
    return made


def draw(made: Table) -> None:
    """Print a table."""
    _out.print(made)


@contextmanager
def live() -> Iterator[Callable[[Table], None]]:
    """Give a function that draws a table in the place of the last one; below it for a program."""
    if not _out.is_terminal:

        def below(made: Table) -> None:
            draw(made)
            sys.stdout.flush()

        yield below
        return
    with Live(console=_out, auto_refresh=False) as screen:
        yield lambda made: screen.update(made, refresh=True)


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """Give a function that tells the step being taken: a spinner, or a line where no one looks."""
    if not _err.is_terminal:
        yield lambda text: say(f"{text} ...")
        return
    with _err.status("") as status:
        yield lambda text: status.update(f"{text} ...")


@contextmanager
def transfer(what: str, size: int) -> Iterator[Callable[[int], None]]:
    """Give a function that advances a bar of `size` bytes by some of them, with rate and ETA."""
    columns = (
        TextColumn(what),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as progress:
        task = progress.add_task(what, total=size)
        yield lambda count: progress.advance(task, count)


@contextmanager
def bar(total: int, unit: str) -> Iterator[Callable[[], None]]:
    """Give a function that advances a bar by one; the bar is gone at the end."""
    columns = (
        TextColumn(unit),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as progress:
        task = progress.add_task(unit, total=total, rate="")

        def advance() -> None:
            progress.advance(task)
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed
            progress.update(task, rate=f"{speed:.1f}/s" if speed else "")

        yield advance


class Gauge:
    """A bar whose end moves, with a note; for a program a line each half minute."""

    _EVERY_S = 30.0

    def __init__(self, progress: Progress, unit: str) -> None:
        self._progress, self._unit = progress, unit
        self._task = progress.add_task(unit, total=None, note="")
        self._said_s = time.monotonic()

    def update(self, done: int, total: int, note: str) -> None:
        """Tell how far it is."""
        if not self._progress.disable:
            self._progress.update(self._task, completed=done, total=total, note=note)
        elif time.monotonic() - self._said_s >= self._EVERY_S:
            self._said_s = time.monotonic()
            say(f"{done:,} of {total:,} {self._unit}, {note}")


@contextmanager
def gauge(unit: str) -> Iterator[Gauge]:
    """Give a bar for work whose size shows as it goes; it is gone at the end."""
    columns = (
        TextColumn(unit),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal) as progress:
        yield Gauge(progress, unit)
