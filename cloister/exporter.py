"""All replicas' metrics on one page, each series with the replica's name, and the gateway's own.

Run as `python -m cloister.exporter --listen ENDPOINT [--gateway ENDPOINT] NAME=ENDPOINT...`, where
an endpoint is `HOST:PORT` or `unix:PATH`. A replica that does not answer has no series but
`cloister_replica_up 0`; of one that does, `cloister.allowlist` says what passes. `--gateway` is
where nginx tells its own state. The lines that nginx adds to `--access-log` are counted and taken
out of it.
"""

import argparse
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGTERM, signal
from socketserver import ThreadingMixIn
from types import FrameType
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import requests
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cloister import allowlist, chat, metrics, sockets
from cloister.accesslog import AccessLog, Counters, Nginx
from cloister.endpoint import Endpoint, parse

_SCRAPE_S = 3.0  # below Prometheus' own default of 10 s, with room for one that hangs


class Replicas(Collector):
    """Scrapes every replica when it is scraped itself."""

    def __init__(self, replicas: Mapping[str, Endpoint]) -> None:
        self._urls = {name: endpoint.url for name, endpoint in replicas.items()}

    def describe(self) -> Iterable[Metric]:
        """Return nothing: what the replicas have is not known before they are asked."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield each metric once, with the samples of all replicas."""
        with ThreadPoolExecutor(len(self._urls)) as threads:
            told = dict(zip(self._urls, threads.map(_numbers, self._urls.values()), strict=True))
        up = GaugeMetricFamily("cloister_replica_up", "1 when it answers", labels=["replica"])
        dropped = GaugeMetricFamily(
            "cloister_replica_series_dropped",
            "Series on its page that are not among the allowed ones, and were left out",
            labels=["replica"],
        )
        merged: dict[str, Metric] = {}
        for name, families in told.items():
            up.add_metric([name], 0 if families is None else 1)
            passed, count = allowlist.sift(families or ())
            dropped.add_metric([name], count)
            for family, samples in passed.items():
                target = merged.setdefault(family, allowlist.family(family))
                for sample in samples:
                    labels = {**sample.labels, "replica": name}
                    target.samples.append(sample._replace(labels=labels))
        yield up
        yield dropped
        yield from merged.values()


def scrape(url: str, path: str = "/metrics") -> str | None:
    """Return a page of numbers, None when it is not there."""
    try:
        with chat.session(f"{url}/") as session:
            answer = session.get(f"{url}{path}", timeout=_SCRAPE_S)
    except requests.RequestException:
        return None  # told by `cloister_replica_up` or `cloister_gateway_up`
    return metrics.text(answer)


def _numbers(url: str) -> list[Metric] | None:
    """Return the families of a replica, None of one that must not take the others' page away."""
    page = scrape(url)
    return None if page is None else metrics.parse(page)


class _Server(ThreadingMixIn, WSGIServer):
    """Serves the page on a socket that is bound already: prometheus_client's own knows TCP only."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listening: socket.socket, app: WSGIApplication) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.server_name, self.server_port = "exporter", 0
        self.setup_environ()
        self.set_app(app)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Take a connection; a client on a Unix socket has no address."""
        return self.socket.accept()[0], ("", 0)


class _Handler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing of a scrape."""


def _after(first: Callable[[], object], app: WSGIApplication) -> WSGIApplication:
    def scraped(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        first()
        return app(environ, start)

    return scraped


def _replica(text: str) -> tuple[str, Endpoint]:
    name, _, endpoint = text.partition("=")
    return name, parse(endpoint)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="cloister.exporter", description=__doc__)
    parser.add_argument("--listen", type=parse, metavar="ENDPOINT", required=True)
    parser.add_argument("--gateway", type=parse, metavar="ENDPOINT")
    parser.add_argument("--access-log", type=Path, metavar="FILE")
    parser.add_argument("replicas", type=_replica, nargs="+", metavar="NAME=ENDPOINT")
    arguments = parser.parse_args()
    replicas = dict(arguments.replicas)
    registry = CollectorRegistry()
    counters, app = Counters(replicas, registry), make_wsgi_app(registry)
    registry.register(Replicas(replicas))
    log = AccessLog(arguments.access_log, counters) if arguments.access_log else None
    if log:
        registry.register(log)
        log.follow()
        app = _after(log.read_on, app)
    if arguments.gateway:
        registry.register(Nginx(lambda: scrape(arguments.gateway.url, "/-/status"), log))
    server = _Server(sockets.bound(arguments.listen), app)

    def stop(_: int, __: FrameType | None) -> None:
        # shutdown() waits for the serving thread, which is this one.
        threading.Thread(target=server.shutdown).start()

    signal(SIGTERM, stop)
    server.serve_forever()


if __name__ == "__main__":
    main()
