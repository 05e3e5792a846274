"""The gateway's access log as numbers: per route, key and replica, and nginx' own state."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

ROUTES = frozenset({"/v1/chat/completions", "/v1/models", "/health", "/metrics"})
_OTHER = "other"
# A page takes from a tenth of a second to minutes.
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
_STATES = ("reading", "writing", "waiting")


class Counters:
    """What was asked, answered and moved on, from lines of nginx' log format `access`."""

    def __init__(self, urls: Mapping[str, str], registry: CollectorRegistry) -> None:
        self._replicas = {url.partition("//")[2]: name for name, url in urls.items()}

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
        self._strange = counter("log_errors", "Lines that could not be counted")

    def count(self, datagram: bytes) -> None:
        """Count one line as nginx' syslog sends it: `<190>Nov 24 10:00:00 cloister: {...}`."""
        try:
            line = json.loads(datagram[datagram.index(b"{") :])
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


class Nginx(Collector):
    """nginx' own state, asked when it is scraped; `ask` returns the page of stub_status."""

    def __init__(self, ask: Callable[[], str | None]) -> None:
        self._ask = ask

    def describe(self) -> Iterable[Metric]:
        """Return nothing: nginx may not be there yet."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield whether it answers, its connections and its count of requests."""
        page = self._ask()
        yield GaugeMetricFamily(
            "cloister_gateway_up", "1 when it answers", 0 if page is None else 1
        )
        if page is None:
            return
        active, accepted, handled, requests, *states = map(int, re.findall(r"\d+", page))
        connections = GaugeMetricFamily(
            "cloister_gateway_connections", "Connections now", labels=["state"]
        )
        for state, count in zip(("active", *_STATES), (active, *states), strict=True):
            connections.add_metric([state], count)
        yield connections
        for name, text, value in (
            ("accepted", "Connections accepted", accepted),
            ("handled", "Connections handled; fewer than accepted when a limit was met", handled),
            ("seen", "Requests that began, those for nginx' own state among them", requests),
        ):
            yield CounterMetricFamily(f"cloister_gateway_{name}", text, value)
