"""Which of an engine's metrics leave for the gateway's /metrics, and under which labels.

An engine has seen every page, and could write its text into names, labels or help texts. Only
the series below pass, with label values from known sets or of a plain, short form. They are
those of vLLM 0.32, of the embedded engine, and of the libraries by which vLLM serves.
"""

import re
from collections.abc import Container, Iterable, Mapping

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

# vLLM has some 400 for each of its engines.
_MOST = 5000

_GAUGES = (
    *("vllm:num_requests_running", "vllm:num_requests_waiting"),
    *("vllm:num_requests_waiting_by_reason", "vllm:kv_cache_usage_perc"),
    *("vllm:engine_sleep_state", "vllm:cache_config_info"),
    *("process_virtual_memory_bytes", "process_resident_memory_bytes"),
    *("process_start_time_seconds", "process_open_fds", "process_max_fds", "python_info"),
)
_COUNTERS = (
    *("vllm:prompt_tokens", "vllm:prompt_tokens_by_source"),
    *("vllm:prompt_tokens_cached", "vllm:prompt_tokens_cached_by_source"),
    *("vllm:generation_tokens", "vllm:request_success", "vllm:num_preemptions"),
    *("vllm:admission_rejections", "vllm:corrupted_requests"),
    *("vllm:prefix_cache_queries", "vllm:prefix_cache_hits"),
    *("vllm:external_prefix_cache_queries", "vllm:external_prefix_cache_hits"),
    *("vllm:mm_cache_queries", "vllm:mm_cache_hits"),
    *("vllm:spec_decode_num_drafts", "vllm:spec_decode_num_draft_tokens"),
    *("vllm:spec_decode_num_accepted_tokens", "vllm:spec_decode_num_accepted_tokens_per_pos"),
    *("vllm:estimated_flops_per_gpu", "vllm:estimated_read_bytes_per_gpu"),
    *("vllm:estimated_write_bytes_per_gpu",),
    *("process_cpu_seconds", "http_requests", "python_gc_collections"),
    *("python_gc_objects_collected", "python_gc_objects_uncollectable"),
)
_HISTOGRAMS = (
    *("vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds"),
    *("vllm:request_time_per_output_token_seconds", "vllm:e2e_request_latency_seconds"),
    *("vllm:request_queue_time_seconds", "vllm:request_inference_time_seconds"),
    *("vllm:request_prefill_time_seconds", "vllm:request_decode_time_seconds"),
    *("vllm:request_prompt_tokens", "vllm:request_generation_tokens"),
    *("vllm:iteration_tokens_total", "vllm:request_max_num_generation_tokens"),
    *("vllm:request_params_n", "vllm:request_params_max_tokens"),
    *("vllm:request_num_preemptions", "vllm:request_prefill_kv_computed_tokens"),
    *("vllm:kv_block_lifetime_seconds", "vllm:kv_block_idle_before_evict_seconds"),
    *("vllm:kv_block_reuse_gap_seconds",),
    *("http_request_duration_seconds", "http_request_duration_highr_seconds"),
)
_SUMMARIES = ("http_request_size_bytes", "http_response_size_bytes")
_ENDINGS = {
    "gauge": ("",),
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "summary": ("_sum", "_count", "_created"),
}
_FAMILIES = {
    **dict.fromkeys(_GAUGES, "gauge"),
    **dict.fromkeys(_COUNTERS, "counter"),
    **dict.fromkeys(_HISTOGRAMS, "histogram"),
    **dict.fromkeys(_SUMMARIES, "summary"),
}
_FAMILY_BY_SAMPLE = {
    f"{family}{ending}": family for family, kind in _FAMILIES.items() for ending in _ENDINGS[kind]
}


class _Form:
    """The values that a pattern matches."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and self._pattern.fullmatch(value) is not None


_NUMBER = _Form(r"-?[0-9]{1,15}(\.[0-9]{1,17})?(e[+-]?[0-9]{1,2})?|\+Inf|None")
_LABELS: Mapping[str, Container[str]] = {
    "model_name": _Form(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}"),  # as `model.name` may be
    "engine": _Form("[0-9]{0,3}"),
    "le": _NUMBER,
    "position": _NUMBER,
    "finished_reason": {"stop", "length", "abort", "error", "repetition"},
    "reason": {"capacity", "deferred", "max_num_queued_reqs", "max_num_queued_tokens"},
    "sleep_state": {"awake", "weights_offloaded", "discard_all"},
    "source": {
        *("local_compute", "local_cache_hit", "external_kv_transfer"),
        *("device", "host", "p2p", "disk", "external_unspecified"),
    },
    # Of the libraries by which vLLM serves; the gateway lets nobody ask for other routes.
    "handler": {"/v1/chat/completions", "/v1/models", "none"},
    "method": {"GET", "POST", "HEAD"},
    "status": {"2xx", "3xx", "4xx", "5xx"},
    "generation": {"0", "1", "2"},
    "implementation": {"CPython"},
    **dict.fromkeys(("major", "minor", "patchlevel"), _Form("[0-9]{1,2}")),
    "version": _Form(r"3\.[0-9]{1,2}\.[0-9]{1,2}"),
    # Of vllm:cache_config_info, which has all of vLLM's CacheConfig, more with each version.
    **dict.fromkeys(
        (
            *("block_size", "num_gpu_blocks", "num_cpu_blocks", "gpu_memory_utilization"),
            *("kv_cache_size_tokens", "kv_cache_max_concurrency", "kv_cache_memory_bytes"),
        ),
        _NUMBER,
    ),
}
_INFO = "vllm:cache_config_info"


def sift(families: Iterable[Metric]) -> tuple[dict[str, list[Sample]], int]:
    """Return what may pass of a replica's page, by family, and how many series may not."""
    passed: dict[str, list[Sample]] = {}
    series, model, dropped = set[tuple[str, frozenset[tuple[str, str]]]](), None, 0
    for sample in (sample for family in families for sample in family.samples):
        labels = sample.labels
        if sample.name == _INFO:
            labels = {name: value for name, value in labels.items() if name in _LABELS}
        one = sample.name, frozenset(labels.items())
        fits = sample.name in _FAMILY_BY_SAMPLE and _are_plain(labels) and len(series) < _MOST
        # A replica serves one model, under one name, and Prometheus refuses a series given twice.
        if (
            not fits
            or one in series
            or labels.get("model_name", model) != (model := model or labels.get("model_name"))
        ):
            dropped += 1
            continue
        series.add(one)
        # Without the time stamp, which an engine chooses too.
        kept = Sample(sample.name, labels, sample.value)
        passed.setdefault(_FAMILY_BY_SAMPLE[sample.name], []).append(kept)
    return passed, dropped


def family(name: str) -> Metric:
    """Return a family without samples; its help text is ours."""
    return Metric(name, "Of the engine", _FAMILIES[name])


def _are_plain(labels: Mapping[str, str]) -> bool:
    return all(name in _LABELS and value in _LABELS[name] for name, value in labels.items())
