"""The gateway's access log as numbers: per route, key and replica, and nginx' own state."""

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cloister.endpoint import Endpoint
from cloister.spool import UNKNOWN_LINES, Spool

ROUTES = frozenset({"/v1/chat/completions", "/v1/models", "/health", "/metrics"})
_OTHER = "other"
# A page takes from a tenth of a second to minutes.
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_STATES = ("active", "reading", "writing", "waiting")
# What nginx writes for a request to its own state, which counts for no client.
_OF_STATUS = {"listener": "status"}
_POLL_S = 1.0
_CHUNK_BYTES = 16 << 20  # of a log that grew while nobody read it
_RESTARTED = -1
_LOG = logging.getLogger(__name__)


class Counters:
    """What was asked, answered and moved on, from lines of nginx' log format `access`."""

    def __init__(self, replicas: Mapping[str, Endpoint], registry: CollectorRegistry) -> None:
        self._replicas = {str(endpoint): name for name, endpoint in replicas.items()}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"cloister_gateway_{name}", text, labels, registry=registry)

        def seconds(name: str, text: str, label: str) -> Histogram:
            full = f"cloister_gateway_{name}_seconds"
            return Histogram(full, text, [label], buckets=_SECONDS, registry=registry)

        self._requests = counter("requests", "Requests answered", "route", "status", "key")
        self._bytes = counter("request_bytes", "Bytes received", "key")
        self._seconds = seconds(
            "request", "From the first byte of a request to the last of its answer", "route"
        )
        self._attempts = counter(
            "attempts", "Pages passed to a replica, retries among them", "replica", "status"
        )
        self._attempt_seconds = seconds(
            "attempt", "From the connection to a replica to the last byte of its answer", "replica"
        )
        self._retries = counter("retries", "Pages that were moved to another replica")
        self._full = counter("refused_full", "Pages for which every replica was full or down")
        self._faults = counter(
            "answers_refused", "Answers of engines that were not passed on, or cut", "fault"
        )
        self._strange = counter("log_errors", "Lines that could not be counted")

    def count(self, text: bytes) -> None:
        """Count one line."""
        try:
            line = json.loads(text)
            if line != _OF_STATUS:
                self._count(line)
        except (ValueError, LookupError, TypeError):
            self._strange.inc()

    def _count(self, line: Mapping[str, Any]) -> None:
        path = line["path"]
        route = path if path in ROUTES else _OTHER
        key = line["key"]
        self._requests.labels(route, str(line["status"]), key).inc()
        self._bytes.labels(key).inc(line["request_bytes"])
        self._seconds.labels(route).observe(line["seconds"])
        if fault := line.get("answer_fault"):  # lines of earlier versions have none
            self._faults.labels(fault).inc()
        if route != "/v1/chat/completions" or not line["upstream"]:
            return
        asked = 0
        for address, status, seconds in zip(
            *(re.split(r"[,:] ", line[name]) for name in _PER_ATTEMPT), strict=True
        ):
            name = self._replicas.get(address)
            if name is None:  # nginx names the group when none of its members could be asked
                self._full.inc()
                continue
            asked += 1
            self._attempts.labels(name, status).inc()
            if seconds != "-":
                self._attempt_seconds.labels(name).observe(float(seconds))
        self._retries.inc(max(0, asked - 1))


_PER_ATTEMPT = ("upstream", "upstream_status", "upstream_seconds")


class AccessLog(Collector):
    """Takes lines out of a spool at each scrape, and between scrapes so that few are left."""

    def __init__(self, path: Path, counters: Counters) -> None:
        self._spool = Spool(path)
        self._counters = counters
        self._guard = threading.Lock()
        self.error = ""

    def describe(self) -> Iterable[Metric]:
        """Return nothing: it is not read before it is asked."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield whether its lines can be taken."""
        yield GaugeMetricFamily(
            "cloister_gateway_log_readable",
            "1 when the lines of the access log can be read, and their room be given back",
            0 if self.error else 1,
        )

    def read_on(self) -> int:
        """Count every line that has not been counted yet; return how many ever were."""
        with self._guard:
            try:
                while True:
                    lines = self._spool.take(_CHUNK_BYTES)
                    for line in lines:
                        self._counters.count(line)
                    self._spool.free()  # not before: no line is lost when this process ends
                    if not lines:
                        break
                error = ""
            except OSError as failure:
                error = str(failure)
                if error != self.error:
                    _LOG.warning("the access log cannot be taken out of its file: %s", error)
            self.error = error
            return self._spool.lines

    def shift(self, lines: int) -> None:
        """Correct the number of lines that were ever counted."""
        with self._guard:
            self._spool.lines += lines

    def follow(self) -> None:
        """Take what there is every second for as long as the process lives."""

        def go_on() -> None:
            while True:
                self.read_on()
                time.sleep(_POLL_S)

        threading.Thread(target=go_on, name="access log", daemon=True).start()


@dataclass(frozen=True)
class Status:
    """The page of nginx' stub_status."""

    active: int
    accepted: int
    handled: int
    requests: int
    reading: int
    writing: int
    waiting: int

    @property
    def ended(self) -> int:
        """How many requests are over."""
        return self.requests - self.reading - self.writing


class Balance:
    """nginx' count of requests against the log's lines: it writes one for each that ended.

    A look may come in the midst of things, so that only what two in a row agree on holds. nginx
    counts from 0 when it is started: there are more lines than requests then, and what is missing
    is counted from there.
    """

    def __init__(self, log: AccessLog) -> None:
        self._log = log
        self._guard = threading.Lock()
        self._before: int | None = None

    def look(self, ask: Callable[[], Status | None]) -> tuple[Status | None, int | None]:
        """Return what nginx tells, and how many lines are missing, None while that is not known."""
        with self._guard:
            least = self._log.read_on()
            status = ask()
            most = self._log.read_on()
            before, self._before = self._before, None
            if status is None or self._log.error:
                return status, None
            if status.ended >= least:
                # The line of this very question may be there by now, and it has not ended.
                now = max(0, status.ended - (least if most - least <= 1 else most))
            elif before != _RESTARTED and least < UNKNOWN_LINES:
                now = _RESTARTED
            else:
                self._log.shift(status.ended - least)
                return status, None
            self._before = now
            if before is None or _RESTARTED in {before, now}:
                return status, None
            return status, min(before, now)


class Nginx(Collector):
    """nginx' own state, asked when it is scraped; `ask` returns the page of stub_status."""

    def __init__(self, ask: Callable[[], str | None], log: AccessLog | None = None) -> None:
        self._ask = ask
        self._balance = Balance(log) if log else None

    def describe(self) -> Iterable[Metric]:
        """Return nothing: nginx may not be there yet."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield whether it answers, its connections, its requests and the lines that lack."""
        status, missing = (
            self._balance.look(self._status) if self._balance else (self._status(), None)
        )
        yield GaugeMetricFamily(
            "cloister_gateway_up", "1 when it answers", 0 if status is None else 1
        )
        if missing is not None:
            yield GaugeMetricFamily(
                "cloister_gateway_log_lines_missing",
                "Requests that ended without a line, since nginx began or was first seen",
                missing,
            )
        if status is None:
            return
        connections = GaugeMetricFamily(
            "cloister_gateway_connections", "Connections now", labels=["state"]
        )
        for state in _STATES:
            connections.add_metric([state], getattr(status, state))
        yield connections
        for name, text, value in (
            ("accepted", "Connections accepted", status.accepted),
            (
                "handled",
                "Connections handled; fewer than accepted when a limit was met",
                status.handled,
            ),
            (
                "seen",
                "Requests that began, those for nginx' own state among them",
                status.requests,
            ),
        ):
            yield CounterMetricFamily(f"cloister_gateway_{name}", text, value)

    def _status(self) -> Status | None:
        page = self._ask()
        return None if page is None else Status(*map(int, re.findall(r"\d+", page)))
