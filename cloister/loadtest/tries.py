"""Which replica answered a page, and after how many tries: the gateway's access log knows."""

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
        self._upstreams: dict[str, str] = {}

    def told(self, records: Sequence[Record]) -> list[Record]:
        """Return the records with `replica` and `tries` where the log has them by now."""
        self._read_on()
        return [self._of(record) for record in records]

    def _of(self, record: Record) -> Record:
        upstream = self._upstreams.get(record.request_id or "")
        if not upstream:
            return record
        tried = upstream.split(", ")
        return replace(record, replica=tried[-1], tries=len(tried))

    def _read_on(self) -> None:
        for line in self._lines.read() if self._lines else ():
            try:
                entry = json.loads(line)
                self._upstreams[entry["request_id"]] = entry["upstream"]
            except (ValueError, LookupError, TypeError):
                continue  # hostile paths can put anything into it
