"""Replicas' metrics on one page."""

from typing import Any

import pytest
import requests
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


class _Replica(requests.adapters.HTTPAdapter):
    """A replica without a network, which answers everything with one status and page."""

    def __init__(self, status: int, page: str) -> None:
        super().__init__()
        self._status, self._page = status, page

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        if not self._status:
            raise requests.ConnectionError(self._page, request=request)
        answer = requests.Response()
        answer.status_code, answer._content = self._status, self._page.encode()
        return answer


@pytest.mark.parametrize(
    ("status", "page", "up"),
    [
        (200, PAGE % 5, 1),
        (500, PAGE % 5, 0),
        (404, "", 0),
        (503, "the engine is dead", 0),
        (0, "refused", 0),
    ],
)
def test_a_replica_is_up_that_answers_well(
    monkeypatch: pytest.MonkeyPatch, status: int, page: str, up: int
) -> None:
    def session() -> requests.Session:
        made = requests.Session()
        made.mount("http://", _Replica(status, page))
        return made

    monkeypatch.setattr("cloister.chat.session", session)
    registry = CollectorRegistry()
    registry.register(exporter.Replicas({"a": "http://a"}))
    text = generate_latest(registry).decode()
    assert f'cloister_replica_up{{replica="a"}} {up}.0' in text
    assert ("vllm:prompt_tokens_total" in text) is bool(up)
