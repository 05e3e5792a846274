"""No line of the access log is lost without a word."""

import ctypes
import errno
import json
import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from cloister.accesslog import AccessLog, Counters, Nginx

LINE = json.dumps(
    {
        "key": "alice",
        "path": "/v1/models",
        "status": 200,
        "request_bytes": 1000,
        "seconds": 0.1,
        "upstream": "",
    }
)


class Gateway:
    """nginx as the exporter sees it, and its exporter: the log's file and the page of its state."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requests = self.under_way = 0
        path.touch()
        self.start_exporter()

    def start_exporter(self) -> None:
        """Begin with another exporter."""
        self.registry = CollectorRegistry()
        self.log = AccessLog(self.path, Counters({}, self.registry))
        self.registry.register(self.log)
        self.registry.register(Nginx(self.tell, self.log))

    def answer(self, count: int, *, lost: int = 0) -> None:
        """Answer requests; the lines of the lost ones met a full disk."""
        self.requests += count
        self.write(LINE, count - lost)

    def write(self, line: str, count: int = 1) -> None:
        """Add a line to the log, once or more."""
        with self.path.open("a") as file:
            file.write(f"{line}\n" * count)

    def tell(self) -> str:
        """Tell of nginx' state, which is a request too: under way now, and over then."""
        self.requests += 1
        self.write('{"listener":"status"}')
        return (
            "Active connections: 1\nserver accepts handled requests\n"
            f" 1 1 {self.requests}\nReading: 0 Writing: {1 + self.under_way} Waiting: 0\n"
        )

    def scrape(self) -> dict[str, float]:
        """Return the samples at /metrics, as the exporter makes them: it reads the log first."""
        self.log.read_on()
        lines = generate_latest(self.registry).decode().splitlines()
        pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
        return {name.removeprefix("cloister_gateway_"): float(value) for name, _, value in pairs}

    def counted(self) -> float:
        """Return how many requests of clients were counted."""
        return self.scrape().get('requests_total{key="alice",route="/v1/models",status="200"}', 0.0)

    def missing(self) -> float | None:
        """Return how many lines are missing, as soon as two scrapes agree."""
        found = [self.scrape().get("log_lines_missing") for _ in range(4)]
        assert found[-1] == found[-2]
        return found[-1]


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path / "access.log")


def test_nothing_is_missing_of_what_was_counted(gateway: Gateway) -> None:
    assert gateway.missing() == 0
    gateway.answer(10_000)
    assert (gateway.counted(), gateway.missing()) == (10_000, 0)


@pytest.mark.parametrize("lost", [1, 2, 1000])
def test_lines_that_met_a_full_disk_are_missing(gateway: Gateway, lost: int) -> None:
    assert gateway.missing() == 0
    gateway.answer(10_000, lost=lost)
    assert (gateway.counted(), gateway.missing()) == (10_000 - lost, lost)


def test_lines_that_were_lost_without_an_exporter_are_missing(gateway: Gateway) -> None:
    gateway.answer(1000)
    assert gateway.missing() == 0
    gateway.answer(10_000, lost=7)
    gateway.start_exporter()
    assert (gateway.counted(), gateway.missing()) == (9993, 7)
    gateway.start_exporter()
    assert (gateway.counted(), gateway.missing()) == (0, 7)


def test_what_was_before_the_first_exporter_is_not_guessed_at(gateway: Gateway) -> None:
    gateway.requests = 5000  # a reload has just given nginx this log
    assert "log_lines_missing" not in gateway.scrape()
    assert gateway.missing() == 0
    gateway.answer(10, lost=1)
    assert gateway.missing() == 1


def test_a_page_under_way_is_not_missing(gateway: Gateway) -> None:
    assert gateway.missing() == 0
    gateway.requests += 3
    gateway.under_way = 3
    assert gateway.missing() == 0
    gateway.under_way = 0
    gateway.write(LINE, 3)
    assert gateway.missing() == 0


def test_a_line_that_is_late_is_not_missing(gateway: Gateway) -> None:
    assert gateway.missing() == 0
    gateway.requests += 1
    assert gateway.scrape()["log_lines_missing"] == 0
    gateway.write(LINE)
    assert gateway.missing() == 0


@pytest.mark.parametrize("lost", [0, 5])
def test_nginx_that_was_started_again_is_not_guessed_at(gateway: Gateway, lost: int) -> None:
    gateway.answer(1000, lost=lost)
    assert gateway.missing() == 0, "not known before"
    gateway.answer(100, lost=lost)
    assert gateway.missing() == lost
    gateway.requests = 0
    gateway.answer(10)
    assert "log_lines_missing" not in gateway.scrape()
    assert gateway.missing() == 0
    gateway.answer(10, lost=2)
    assert gateway.missing() == 2


def test_lines_are_counted_before_they_are_freed(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.answer(10)

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Counters, "count", end)
        with pytest.raises(KeyboardInterrupt):
            gateway.log.read_on()
    gateway.start_exporter()
    assert gateway.counted() == 10


def test_a_log_that_cannot_be_freed_is_counted_and_told(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Libc:
        @staticmethod
        def fallocate(*_: object) -> int:
            ctypes.set_errno(errno.EOPNOTSUPP)
            return -1

    assert gateway.scrape()["log_readable"] == 1
    with monkeypatch.context() as patch:
        patch.setattr("cloister.spool._LIBC", Libc)
        gateway.answer(10)
        assert gateway.counted() == 10
        assert gateway.scrape()["log_readable"] == 0
        (told,) = caplog.messages
        assert told.startswith("the access log cannot be taken out of its file: ")
        assert os.strerror(errno.EOPNOTSUPP) in told
    gateway.answer(10)
    assert gateway.counted() == 20
    assert gateway.scrape()["log_readable"] == 1


def test_a_log_that_cannot_be_read_says_nothing_of_missing_lines(gateway: Gateway) -> None:
    assert gateway.missing() == 0
    kept = gateway.path.rename(gateway.path.with_suffix(".kept"))
    gateway.path.symlink_to(kept)
    os.truncate(kept, 0)
    found = gateway.scrape()
    assert found["log_readable"] == 0
    assert "log_lines_missing" not in found
    assert found["up"] == 1
