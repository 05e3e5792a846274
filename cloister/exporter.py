"""All replicas' metrics on one page, each series with the replica's name.

Run as `python -m cloister.exporter --port P NAME=URL...`. A replica that does not answer has no
series but `cloister_replica_up 0`.
"""

import argparse
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

_SCRAPE_S = 3.0  # below Prometheus' own default of 10 s, with room for one that hangs


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
            pages = dict(zip(self._urls, threads.map(_scrape, self._urls.values()), strict=True))
        up = GaugeMetricFamily("cloister_replica_up", "1 when it answers", labels=["replica"])
        merged: dict[str, Metric] = {}
        for name, page in pages.items():
            up.add_metric([name], 0 if page is None else 1)
            for family in text_string_to_metric_families(page or ""):
                target = merged.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    labels = {**sample.labels, "replica": name}
                    target.samples.append(sample._replace(labels=labels))
        yield up
        yield from merged.values()


def _scrape(url: str) -> str | None:
    try:
        with chat.session() as session:
            answer = session.get(f"{url}/metrics", timeout=_SCRAPE_S)
        answer.raise_for_status()
    except requests.RequestException:
        return None  # told by `cloister_replica_up`
    return answer.text


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="cloister.exporter", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("replicas", nargs="+", metavar="NAME=URL")
    arguments = parser.parse_args()
    registry = CollectorRegistry()
    registry.register(Replicas(dict(pair.split("=", 1) for pair in arguments.replicas)))
    server, thread = start_http_server(arguments.port, arguments.host, registry)

    def stop(_: int, __: FrameType | None) -> None:
        # shutdown() waits for the serving thread, so it must not run on it; here it does not.
        server.shutdown()

    signal(SIGTERM, stop)
    thread.join()


if __name__ == "__main__":
    main()
