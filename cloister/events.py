"""What happened to the fleet and why: one append-only log, a line of JSON an event."""

import datetime as dt
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from cloister import console
from cloister.errors import DeploymentError
from cloister.layout import Layout

_MODE = 0o600
_POLL_S = 0.3


@dataclass(frozen=True)
class Event:
    """One thing that happened: when (UTC), by which command or the watchdog, to which replica.

    `details` are further facts, with their units in their names.
    """

    at: str
    by: str
    event: str
    replica: str | None = None
    why: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def at_s(self) -> float:
        """When, in seconds since 1970."""
        return dt.datetime.fromisoformat(self.at).timestamp()


@dataclass(frozen=True)
class Journal:
    """Where one command, or the watchdog, writes down what it does."""

    layout: Layout
    by: str

    def note(
        self, event: str, replica: str | None = None, why: str | None = None, **details: object
    ) -> None:
        """Append one event; raises DeploymentError when it cannot be written."""
        now = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        line = json.dumps(asdict(Event(now, self.by, event, replica, why, details)))
        path = self.layout.events
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # One write to a file opened for appending: lines of several writers never mix.
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _MODE)
            try:
                os.write(file, f"{line}\n".encode())
            finally:
                os.close(file)
        except OSError as error:
            raise DeploymentError(f"`{path}` cannot be written: {error.strerror}") from error


def read(layout: Layout) -> Iterator[Event]:
    """Yield all events, the oldest first; a line that was cut off by a full disk is left out."""
    if not layout.events.exists():
        return
    with layout.events.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if (event := parse(line)) is not None:
                yield event


def parse(line: str) -> Event | None:
    """Return the event of a line, None when it is none."""
    try:
        return Event(**json.loads(line))
    except (ValueError, TypeError):
        return None


def show(layout: Layout, replica: str | None, *, lines: int, follow: bool, as_json: bool) -> None:
    """Print the last events, of all replicas or of one, and with `follow` those that come."""
    chosen = [event for event in read(layout) if replica in {None, event.replica}]
    for event in chosen[-lines:] if lines else []:
        _print(event, as_json=as_json)
    for event in _coming(layout) if follow else ():
        if replica in {None, event.replica}:
            _print(event, as_json=as_json)


def _coming(layout: Layout) -> Iterator[Event]:
    """Yield the events that are written from now on, for ever."""
    layout.events.touch(mode=_MODE)
    with layout.events.open(encoding="utf-8", errors="replace") as file:
        file.seek(0, os.SEEK_END)
        rest = ""
        while True:
            rest += file.readline()
            if not rest.endswith("\n"):
                time.sleep(_POLL_S)
                continue
            event, rest = parse(rest), ""
            if event is not None:
                yield event


def _print(event: Event, *, as_json: bool) -> None:
    if as_json:
        console.show(json.dumps(asdict(event)))
        return
    local = dt.datetime.fromisoformat(event.at).astimezone()
    facts = [f"{name} {value}" for name, value in event.details.items() if name != "log" and value]
    said = "; ".join([*([event.why] if event.why else []), *facts])
    words = (f"{local:%Y-%m-%d %H:%M:%S}", f"{event.by:9}", event.replica or "", event.event)
    console.show("  ".join(word for word in words if word) + (f": {said}" if said else ""))
    for line in event.details.get("log", ()):
        console.show(f"    {line}")
