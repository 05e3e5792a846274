"""The access log as numbers."""

import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from cloister.accesslog import Counters, Nginx
from cloister.endpoint import TcpAddress

REPLICAS = {
    "vllm-nanonets-ocr-1": TcpAddress("10.0.0.1", 8000),
    "vllm-nanonets-ocr-2": TcpAddress("10.0.0.2", 8000),
}
STATUS = """Active connections: 3
server accepts handled requests
 11 10 20
Reading: 0 Writing: 1 Waiting: 2
"""


def line(**more: Any) -> bytes:
    made = {
        "key": "alice",
        "path": "/v1/chat/completions",
        "status": 200,
        "request_bytes": 1000,
        "seconds": 2.5,
        "upstream": "10.0.0.1:8000",
        "upstream_status": "200",
        "upstream_seconds": "2.400",
        **more,
    }
    return json.dumps(made).encode()


def test_answers_that_were_not_passed_on_are_counted_by_their_fault(
    registry: CollectorRegistry,
) -> None:
    counters = Counters(REPLICAS, registry)
    for fault in ("", "status", "size", "size"):
        counters.count(line(answer_fault=fault))
    counters.count(line())
    text = generate_latest(registry).decode()
    assert 'cloister_gateway_answers_refused_total{fault="size"} 2.0' in text
    assert text.count("cloister_gateway_answers_refused_total{") == 2


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def counters(registry: CollectorRegistry) -> Counters:
    return Counters(REPLICAS, registry)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(f"cloister_gateway_{name}", labels) or 0


def test_a_page_counts_for_its_key_and_its_replica(
    counters: Counters, registry: CollectorRegistry
) -> None:
    counters.count(line())
    route = "/v1/chat/completions"
    assert value(registry, "requests_total", route=route, status="200", key="alice") == 1
    assert value(registry, "request_bytes_total", key="alice") == 1000
    assert value(registry, "attempts_total", replica="vllm-nanonets-ocr-1", status="200") == 1
    assert value(registry, "attempt_seconds_sum", replica="vllm-nanonets-ocr-1") == 2.4
    assert value(registry, "request_seconds_count", route=route) == 1
    assert value(registry, "retries_total") == 0


def test_a_page_that_was_moved_counts_at_both(
    counters: Counters, registry: CollectorRegistry
) -> None:
    moved = {
        "upstream": "10.0.0.1:8000, 10.0.0.2:8000",
        "upstream_status": "502, 200",
        "upstream_seconds": "0.010, 3.000",
    }
    counters.count(line(**moved))
    assert value(registry, "attempts_total", replica="vllm-nanonets-ocr-1", status="502") == 1
    assert value(registry, "attempts_total", replica="vllm-nanonets-ocr-2", status="200") == 1
    assert value(registry, "retries_total") == 1


def test_a_full_service_and_refusals_count_for_no_replica(
    counters: Counters, registry: CollectorRegistry
) -> None:
    none = {"upstream": "engine", "upstream_status": "502", "upstream_seconds": "0.000"}
    counters.count(line(status=503, **none))
    counters.count(line(status=401, key="", upstream="", upstream_status="", upstream_seconds=""))
    assert value(registry, "refused_full_total") == 1
    assert value(registry, "retries_total") == 0
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    assert not [sample for sample in samples if "replica" in sample.labels]


def test_paths_of_strangers_make_one_series(
    counters: Counters, registry: CollectorRegistry
) -> None:
    for number in range(50):
        counters.count(line(path=f"/wp-login-{number}", status=404, key="", upstream=""))
    assert value(registry, "requests_total", route="other", status="404", key="") == 50


@pytest.mark.parametrize(
    "datagram", [b"", b"<190>", b"{", b"{}", b'{"path": 1}', b"\xff\xfe{", line(seconds="x")]
)
def test_what_cannot_be_counted_is_counted_as_that(
    counters: Counters, registry: CollectorRegistry, datagram: bytes
) -> None:
    counters.count(datagram)
    assert value(registry, "log_errors_total") == 1


def test_nginx_own_state(registry: CollectorRegistry) -> None:
    registry.register(Nginx(lambda: STATUS))
    text = generate_latest(registry).decode()
    assert "cloister_gateway_up 1.0" in text
    assert 'cloister_gateway_connections{state="active"} 3.0' in text
    assert 'cloister_gateway_connections{state="waiting"} 2.0' in text
    assert "cloister_gateway_handled_total 10.0" in text
    assert "cloister_gateway_seen_total 20.0" in text


def test_a_gateway_that_is_silent_is_down(registry: CollectorRegistry) -> None:
    registry.register(Nginx(lambda: None))
    assert "cloister_gateway_up 0.0" in generate_latest(registry).decode()
