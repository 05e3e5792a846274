"""The engine's Prometheus series, under the names that vLLM gives them."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cloister.engines.tesseract.pool import Pool

# vLLM's own buckets for the same two histograms, in seconds.
_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0)
_LABELS = ("model_name", "engine")


class Metrics:
    """One registry for one server, labelled as vLLM labels it."""

    def __init__(self, model_name: str, pool: Pool) -> None:
        self._registry = registry = CollectorRegistry()
        labels = {"model_name": model_name, "engine": "0"}
        running = Gauge("vllm:num_requests_running", "Pages being read", _LABELS, registry=registry)
        running.labels(**labels).set_function(lambda: pool.running)
        waiting = Gauge("vllm:num_requests_waiting", "Pages waiting", _LABELS, registry=registry)
        waiting.labels(**labels).set_function(lambda: pool.waiting)
        prompt = Counter("vllm:prompt_tokens", "Prompt tokens", _LABELS, registry=registry)
        self._prompt_tokens = prompt.labels(**labels)
        generated = Counter("vllm:generation_tokens", "Tokens written", _LABELS, registry=registry)
        self._generation_tokens = generated.labels(**labels)
        self._success = Counter(
            "vllm:request_success",
            "Finished requests",
            (*_LABELS, "finished_reason"),
            registry=registry,
        )
        self._labels = labels
        first = Histogram(
            "vllm:time_to_first_token_seconds",
            "Seconds to the first block",
            _LABELS,
            buckets=_SECONDS,
            registry=registry,
        )
        self._first = first.labels(**labels)
        whole = Histogram(
            "vllm:e2e_request_latency_seconds",
            "Seconds to the last block",
            _LABELS,
            buckets=_SECONDS,
            registry=registry,
        )
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
