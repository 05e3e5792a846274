"""Replicas' metrics on one page."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import requests
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cloister import bounded, exporter
from cloister.endpoint import TcpAddress
from cloister.engines.tesseract.metrics import Metrics

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
    pages = {"a": PAGE % 5, "b": PAGE % 7, "c": None, "d": "{}"}
    monkeypatch.setattr(exporter, "scrape", lambda url: pages[url.removeprefix("http://")[0]])
    registry = CollectorRegistry()
    registry.register(exporter.Replicas({name: TcpAddress(name, 1) for name in pages}))
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


def scraped(monkeypatch: pytest.MonkeyPatch, *pages: str) -> str:
    """Return the page of a service whose replicas `0`, `1` and so on have these pages."""
    names = [str(number) for number in range(len(pages))]
    by_url = {f"http://{name}:1": page for name, page in zip(names, pages, strict=True)}
    monkeypatch.setattr(exporter, "scrape", by_url.__getitem__)
    registry = CollectorRegistry()
    registry.register(exporter.Replicas({name: TcpAddress(name, 1) for name in names}))
    return generate_latest(registry).decode()


HOSTILE = """\
# HELP vllm:num_requests_running SECRET
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a/b"} 1 1234567890
vllm:num_requests_running{engine="0",model_name="a/b"} 2
vllm:num_requests_running{engine="1",model_name="SECRET"} 1
vllm:num_requests_running{engine="SECRET"} 1
vllm:num_requests_running{engine="0",page="SECRET"} 1
vllm:num_requests_running{engine="0",SECRET="0"} 1
vllm:request_success_total{finished_reason="SECRET"} 1
vllm:SECRET 1
x{page="the text of a page SECRET"} 1
# HELP cloister_replica_up SECRET
# TYPE cloister_replica_up gauge
cloister_replica_up{replica="1"} 1
# TYPE http_requests_total counter
http_requests_total{handler="/SECRET",method="GET",status="2xx"} 1
"""


def test_text_of_a_page_does_not_leave_in_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    text = scraped(monkeypatch, HOSTILE, PAGE % 5)
    assert "SECRET" not in text
    assert "1234567890" not in text
    running = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running{")]
    assert running == [
        'vllm:num_requests_running{engine="0",model_name="a/b",replica="0"} 1.0',
        'vllm:num_requests_running{engine="0",replica="1"} 1.0',
    ]
    assert text.count("# TYPE cloister_replica_up") == 1
    assert 'cloister_replica_series_dropped{replica="0"} 10.0' in text
    assert 'cloister_replica_series_dropped{replica="1"} 0.0' in text


def test_a_family_that_replicas_declare_differently_stands_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = PAGE.replace("counter", "gauge").replace("gauge", "histogram")
    text = scraped(monkeypatch, PAGE % 5, other % 6)
    assert [line for line in text.splitlines() if line.startswith("# TYPE vllm:")] == [
        "# TYPE vllm:prompt_tokens_total counter",
        "# TYPE vllm:num_requests_running gauge",
    ]


def test_a_replica_has_a_bounded_number_of_series(monkeypatch: pytest.MonkeyPatch) -> None:
    many = "".join(
        f'vllm:iteration_tokens_total_bucket{{le="{number}"}} 1\n' for number in range(6000)
    )
    text = scraped(monkeypatch, many, PAGE % 5)
    assert text.count("vllm:iteration_tokens_total_bucket{") == 5000
    assert 'cloister_replica_series_dropped{replica="0"} 1000.0' in text
    assert 'vllm:num_requests_running{engine="0",replica="1"} 1.0' in text


@pytest.mark.parametrize("page", ['{"vllm:x", =="b"} 5\n', "# TYPE x foo\nx 1\n", "x{ 1\n"])
def test_a_page_that_cannot_be_parsed_takes_no_other_away(
    monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    text = scraped(monkeypatch, page, PAGE % 5)
    assert 'cloister_replica_up{replica="0"} 0.0' in text
    assert 'vllm:num_requests_running{engine="0",replica="1"} 1.0' in text


def test_all_of_the_embedded_engine_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics(
        "nanonets/Nanonets-OCR2-3B", cast("Any", SimpleNamespace(running=1, waiting=2))
    )
    metrics.first_block(1.0)
    metrics.finished("stop", {"prompt_tokens": 5, "completion_tokens": 7}, 2.0)
    own = metrics.exposition().decode()
    text = scraped(monkeypatch, own)
    assert 'cloister_replica_series_dropped{replica="0"} 0.0' in text
    assert sum(not line.startswith("#") for line in text.splitlines()) == 2 + sum(
        not line.startswith("#") for line in own.splitlines()
    )


# As vLLM 0.32 gives them, shortened.
VLLM = """\
# TYPE python_info gauge
python_info{implementation="CPython",major="3",minor="12",patchlevel="11",version="3.12.11"} 1.0
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 12.5
# TYPE vllm:engine_sleep_state gauge
vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="awake"} 1.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 0.0
# TYPE vllm:prompt_tokens_by_source_total counter
vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_compute"} 5.0
# TYPE vllm:prompt_tokens_by_source_created gauge
vllm:prompt_tokens_by_source_created{engine="0",model_name="m",source="local_compute"} 1.7e+09
# TYPE vllm:iteration_tokens_total histogram
vllm:iteration_tokens_total_bucket{engine="0",le="16384.0",model_name="m"} 1.0
vllm:iteration_tokens_total_bucket{engine="0",le="+Inf",model_name="m"} 1.0
vllm:iteration_tokens_total_sum{engine="0",model_name="m"} 12.0
vllm:iteration_tokens_total_count{engine="0",model_name="m"} 1.0
# TYPE http_request_size_bytes summary
http_request_size_bytes_count{handler="/v1/chat/completions"} 1.0
http_request_size_bytes_sum{handler="/v1/chat/completions"} 1000.0
# TYPE http_requests_total counter
http_requests_total{handler="none",method="GET",status="4xx"} 1.0
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",cache_dtype="auto",cpu_kvcache_space_bytes="None",\
engine="0",gpu_memory_utilization="0.92",kv_cache_max_concurrency="3.4814453125",\
kv_cache_size_tokens="12345",num_gpu_blocks="771",sliding_window="SECRET"} 1.0
""".replace("\\\n", "")


def test_all_of_vllm_passes_and_of_its_settings_the_numbers_that_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = scraped(monkeypatch, VLLM)
    assert 'cloister_replica_series_dropped{replica="0"} 0.0' in text
    assert (
        'vllm:cache_config_info{block_size="16",engine="0",gpu_memory_utilization="0.92",'
        'kv_cache_max_concurrency="3.4814453125",kv_cache_size_tokens="12345",num_gpu_blocks="771",'
        'replica="0"} 1.0'
    ) in text
    assert "SECRET" not in text


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
        pytest.param(200, PAGE % 5 + "#" * bounded.MOST_METRICS_BYTES, 0, id="too much"),
    ],
)
def test_a_replica_is_up_that_answers_well(
    monkeypatch: pytest.MonkeyPatch, status: int, page: str, up: int
) -> None:
    def session(_: str) -> requests.Session:
        made = requests.Session()
        made.mount("http://", _Replica(status, page))
        return made

    monkeypatch.setattr("cloister.chat.session", session)
    registry = CollectorRegistry()
    registry.register(exporter.Replicas({"a": TcpAddress("a", 80)}))
    text = generate_latest(registry).decode()
    assert f'cloister_replica_up{{replica="a"}} {up}.0' in text
    assert ("vllm:prompt_tokens_total" in text) is bool(up)
