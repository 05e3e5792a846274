"""What a person sees: progress on standard error, tables and values on standard output.

Names and messages come from anywhere. Nothing that is printed here has a control character, or is
taken for markup.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any, Self

from rich.console import Console, RenderableType
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
from rich.text import Text

from cloister.cleaning import printable, printable_json

_PIPED_COLUMNS = 240  # nothing is folded for a program that reads a table
_FIRST_S, _LONGEST_S = 2.0, 30.0  # of a wait, until it is told, and between two lines of it
_out = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else _PIPED_COLUMNS)
_err = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


def _draws() -> bool:
    """Return whether lines can be drawn in the place of others; a dumb terminal is like a pipe."""
    return _err.is_terminal and not _err.is_dumb_terminal


def say(text: str) -> None:
    """Print a line for a person, beside the data."""
    _err.print(printable(text), markup=False)


def show(text: str) -> None:
    """Print a part of the answer, to the letter."""
    print(printable(text))  # noqa: T201


def dump(value: Any) -> None:
    """Print a dataclass or a plain value as JSON, escaped where a terminal would obey it."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    text = json.dumps(plain, indent=2, ensure_ascii=False, default=str)
    print(printable_json(text))  # noqa: T201


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a heading."""
    draw(grid(columns, rows))


def grid(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return rows under a heading, to be drawn."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text("-" if cell is None else printable(str(cell))) for cell in row))
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


class _Reminder:
    """Tells when a line about a wait is due where no one looks: less and less often."""

    def __init__(self) -> None:
        self._gap_s = _FIRST_S
        self._due_s = time.monotonic() + _FIRST_S

    def is_due(self) -> bool:
        """Return whether a line is due; the next one is so after twice as long."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return False
        self._gap_s = min(_LONGEST_S, 2 * self._gap_s)
        self._due_s = now_s + self._gap_s
        return True


class _Clock:
    """Tells what is waited for and for how long: in place on a terminal, else a line now and then.

    Nothing is told before two seconds.
    """

    def __init__(self) -> None:
        self._step: tuple[Callable[[float], str], float, _Reminder] | None = None
        self._screen = _err.status("")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="waiting")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._screen.stop()

    def begin(self, describe: Callable[[float], str]) -> None:
        """Count from now; `describe` makes the words of the seconds."""
        self._step = (describe, time.monotonic(), _Reminder())

    def show(self, text: str) -> None:
        """Draw a text in the place of the last one."""
        self._screen.update(Text(printable(text)))
        self._screen.start()

    def _run(self) -> None:
        while not self._stopped.wait(1.0):
            if self._step is None:
                continue
            describe, begun_s, reminder = self._step
            seconds = time.monotonic() - begun_s
            if seconds >= _FIRST_S and (_draws() or reminder.is_due()):
                (self.show if _draws() else say)(describe(seconds))


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """Give a function that tells the step being taken: a spinner, or a line where no one looks.

    A step that takes more than two seconds is told with its time. The same step again is no other.
    """
    last = ""
    with _Clock() as clock:

        def begin(text: str) -> None:
            nonlocal last
            if text != last:
                last = text
                clock.begin(lambda seconds: f"{text}: {seconds:.0f} s so far")
                (clock.show if _draws() else say)(f"{text} ...")

        yield begin


@contextmanager
def waiting(what: str, at_most_s: float | None = None) -> Iterator[None]:
    """Tell that something is waited for, and for how long, where that is more than two seconds."""
    limit = "" if at_most_s is None else f" of at most {at_most_s:g} s"
    with _Clock() as clock:
        clock.begin(lambda seconds: f"waiting for {what} for {seconds:.0f} s{limit}")
        yield


@contextmanager
def transfer(what: str, size: int) -> Iterator[Callable[[int], None]]:
    """Give a function that advances a bar of `size` bytes by some of them, with rate and ETA."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_err, transient=True, disable=not _draws()) as progress:
        task = progress.add_task(what, total=size)
        yield lambda count: progress.advance(task, count)


@contextmanager
def bar(total: int, unit: str) -> Iterator[Callable[[], None]]:
    """Give a function that advances a bar by one; the bar is gone at the end."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_err, transient=True, disable=not _draws()) as progress:
        task = progress.add_task(unit, total=total, rate="")

        def advance() -> None:
            progress.advance(task)
            speed = progress.tasks[0].finished_speed or progress.tasks[0].speed
            progress.update(task, rate=f"{speed:.1f}/s" if speed else "")

        yield advance


class _NotedProgress(Progress):
    """Bars with a line below that says what is waited for, when there is something."""

    wait = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return what is drawn."""
        yield from super().get_renderables()
        if self.wait:
            yield Text(self.wait)


class Gauge:
    """A bar whose end moves, with a note; for a program a line each half minute."""

    _EVERY_S = 30.0

    def __init__(self, progress: _NotedProgress, unit: str) -> None:
        self._progress, self._unit = progress, unit
        self._task = progress.add_task(unit, total=None, note="")
        self._said_s = time.monotonic()
        self._reminder = _Reminder()

    def waits(self, text: str) -> None:
        """Tell what is waited for; `update` ends it. For a program a line less and less often."""
        if not self._progress.disable:
            self._progress.wait = printable(text)
        elif self._reminder.is_due():
            say(text)

    def update(self, done: int, total: int, note: str) -> None:
        """Tell how far it is."""
        self._progress.wait = ""
        if not self._progress.disable:
            self._progress.update(self._task, completed=done, total=total, note=note)
        elif time.monotonic() - self._said_s >= self._EVERY_S:
            self._said_s = time.monotonic()
            say(f"{done:,} of {total:,} {self._unit}, {note}")


@contextmanager
def gauge(unit: str) -> Iterator[Gauge]:
    """Give a bar for work whose size shows as it goes; it is gone at the end."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
    )
    bars = _NotedProgress(*columns, console=_err, transient=True, disable=not _draws())
    with bars:
        yield Gauge(bars, unit)
