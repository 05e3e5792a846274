"""The engine's Prometheus series, under the names that vLLM gives them."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cloister.engines.tesseract.pool import Pool

# vLLM's own buckets for the same two histograms, in seconds.
_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0)
_LABELS = ("model_name", "engine")


class Metrics:
    """One registry for one server, labelled as vLLM labels it."""

    def __init__(self, model_name: str, pool: Pool) -> None:
        self._registry = registry = CollectorRegistry()
        self._labels = labels = {"model_name": model_name, "engine": "0"}
        gauge = partial(Gauge, labelnames=_LABELS, registry=registry)
        counter = partial(Counter, labelnames=_LABELS, registry=registry)
        histogram = partial(Histogram, labelnames=_LABELS, buckets=_SECONDS, registry=registry)

        running = gauge("vllm:num_requests_running", "Pages being read")
        running.labels(**labels).set_function(lambda: pool.running)
        waiting = gauge("vllm:num_requests_waiting", "Pages waiting")
        waiting.labels(**labels).set_function(lambda: pool.waiting)
        prompt_tokens = counter("vllm:prompt_tokens", "Prompt tokens")
        self._prompt_tokens = prompt_tokens.labels(**labels)
        generation_tokens = counter("vllm:generation_tokens", "Tokens written")
        self._generation_tokens = generation_tokens.labels(**labels)
        self._success = Counter(
            "vllm:request_success",
            "Finished requests",
            (*_LABELS, "finished_reason"),
            registry=registry,
        )
        first = histogram("vllm:time_to_first_token_seconds", "Seconds to the first block")
        self._first = first.labels(**labels)
        whole = histogram("vllm:e2e_request_latency_seconds", "Seconds to the last block")
        self._whole = whole.labels(**labels)

    def first_block(self, seconds: float) -> None:
        """Record the time to a request's first text."""
        self._first.observe(seconds)

    def finished(self, reason: str, usage: dict[str, int], seconds: float) -> None:
        """Record a request that was answered in full."""
        self._success.labels(**self._labels, finished_reason=reason).inc()
        self._prompt_tokens.inc(usage["prompt_tokens"])
        self._generation_tokens.inc(usage["completion_tokens"])
        self._whole.observe(seconds)

    def exposition(self) -> bytes:
        """Return all series in Prometheus' text format."""
        return generate_latest(self._registry)
