"""What a person sees: progress on standard error, tables and values on standard output."""

import json
import sys
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
