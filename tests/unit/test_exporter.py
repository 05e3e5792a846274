"""Replicas' metrics on one page."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cloister import exporter

PAGE = """\
# HELP vllm:prompt_tokens_total Prompt tokens
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0"} %d
# HELP vllm:num_requests_running Running
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0"} 1
"""


def test_series_are_told_apart_and_each_metric_stands_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pages = {"http://a": PAGE % 5, "http://b": PAGE % 7, "http://c": None, "http://d": "{}"}
    monkeypatch.setattr(exporter, "scrape", pages.__getitem__)
    registry = CollectorRegistry()
    registry.register(exporter.Replicas({url[-1]: url for url in pages}))
    text = generate_latest(registry).decode()
    assert text.count("# TYPE vllm:prompt_tokens_total") == 1
    samples = {
        (sample.name, sample.labels["replica"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["vllm:prompt_tokens_total", "a"] == 5
    assert samples["vllm:prompt_tokens_total", "b"] == 7
    assert samples["vllm:num_requests_running", "b"] == 1
    assert [samples["cloister_replica_up", name] for name in "abcd"] == [1, 1, 0, 0]
