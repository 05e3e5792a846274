"""Which replica answered a page, and after how many tries: the gateway's access log knows."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cloister.loadtest.record import Record


class Tries:
    """What an access log says of pages from now on; of none, where there is no log."""

    def __init__(self, log: Path | None) -> None:
        self._log = log
        self._read = log.stat().st_size if log else 0
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
        if self._log is None:
            return
        with self._log.open("rb") as file:
            if self._read > self._log.stat().st_size:
                self._read = 0  # the log was turned over
            file.seek(self._read)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        for line in whole.splitlines():
            try:
                entry = json.loads(line)
                self._upstreams[entry["request_id"]] = entry["upstream"]
            except (ValueError, LookupError, TypeError):
                continue  # hostile paths can put anything into it
