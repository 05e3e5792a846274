"""After how many tries a page was answered: the gateway's access log knows."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cloister.files import NewLines
from cloister.loadtest.record import Record


class Tries:
    """What an access log says of pages from now on; of none, where there is no log."""

    def __init__(self, log: Path | None) -> None:
        self._lines = NewLines(log, begin=log.stat().st_size) if log else None
        self._tries: dict[str, int] = {}

    def told(self, records: Sequence[Record]) -> list[Record]:
        """Return the records with `tries` where the log has them by now."""
        self._read_on()
        return [self._of(record) for record in records]

    def _of(self, record: Record) -> Record:
        return replace(record, tries=self._tries.get(record.request_id or "", record.tries))

    def _read_on(self) -> None:
        for line in self._lines.read() if self._lines else ():
            try:
                entry = json.loads(line)
                self._tries[entry["request_id"]] = len(entry["upstream"].split(", "))
            except (ValueError, LookupError, TypeError, AttributeError):
                continue  # hostile paths can put anything into it
