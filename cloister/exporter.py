"""All replicas' metrics on one page, each series with the replica's name, and the gateway's own.

Run as `python -m cloister.exporter --port P [--gateway URL] NAME=URL...`. A replica that does not
answer has no series but `cloister_replica_up 0`. nginx sends each line of its access log to the
same port by UDP, where they are counted; `--gateway` is where nginx tells its own state.
"""

import argparse
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from signal import SIGTERM, signal
from types import FrameType

import requests
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from cloister import chat
from cloister.accesslog import Counters, Nginx

_SCRAPE_S = 3.0  # below Prometheus' own default of 10 s, with room for one that hangs
_BUFFER_BYTES = 4 << 20  # lines wait here while a scrape is being answered
_LINE_BYTES = 1 << 16


class Replicas(Collector):
    """Scrapes every replica when it is scraped itself."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        self._urls = urls

    def describe(self) -> Iterable[Metric]:
        """Return nothing: what the replicas have is not known before they are asked."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield each metric once, with the samples of all replicas."""
        with ThreadPoolExecutor(len(self._urls)) as threads:
            told = dict(zip(self._urls, threads.map(_numbers, self._urls.values()), strict=True))
        up = GaugeMetricFamily("cloister_replica_up", "1 when it answers", labels=["replica"])
        merged: dict[str, Metric] = {}
        for name, families in told.items():
            up.add_metric([name], 0 if families is None else 1)
            for family in families or ():
                target = merged.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    labels = {**sample.labels, "replica": name}
                    target.samples.append(sample._replace(labels=labels))
        yield up
        yield from merged.values()


def scrape(url: str, path: str = "/metrics") -> str | None:
    """Return a page of numbers, None when it is not there."""
    try:
        with chat.session() as session:
            answer = session.get(f"{url}{path}", timeout=_SCRAPE_S)
        answer.raise_for_status()
    except requests.RequestException:
        return None  # told by `cloister_replica_up` or `cloister_gateway_up`
    return answer.text


def _numbers(url: str) -> list[Metric] | None:
    page = scrape(url)
    try:
        return None if page is None else list(text_string_to_metric_families(page))
    except ValueError:
        return None  # not in Prometheus' format: one replica must not take the others' page away


def listen(host: str, port: int, counters: Counters) -> threading.Thread:
    """Count the lines that come by UDP for as long as the process lives."""
    lines = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    lines.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    lines.bind((host, port))

    def count() -> None:
        while True:
            counters.count(lines.recv(_LINE_BYTES))

    thread = threading.Thread(target=count, name="access log", daemon=True)
    thread.start()
    return thread


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="cloister.exporter", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--gateway", metavar="URL")
    parser.add_argument("replicas", nargs="+", metavar="NAME=URL")
    arguments = parser.parse_args()
    urls = dict(pair.split("=", 1) for pair in arguments.replicas)
    registry = CollectorRegistry()
    registry.register(Replicas(urls))
    if arguments.gateway:
        registry.register(Nginx(lambda: scrape(arguments.gateway, "/-/status")))
    listen(arguments.host, arguments.port, Counters(urls, registry))
    server, thread = start_http_server(arguments.port, arguments.host, registry)

    def stop(_: int, __: FrameType | None) -> None:
        # shutdown() waits for the serving thread, so it must not run on it; here it does not.
        server.shutdown()

    signal(SIGTERM, stop)
    thread.join()


if __name__ == "__main__":
    main()
