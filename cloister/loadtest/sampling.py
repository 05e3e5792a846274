"""What the engines, the cards and the machine do while pages are sent, once a second."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import requests

from cloister import chat, gpus, metrics
from cloister.errors import ToolError
from cloister.loadtest.result import Cache, Sample

_ASK_S = 2.0
_PREFIX = "vllm:"
_PREFIX_HITS, _PREFIX_ASKED = "prefix_cache_hits_total", "prefix_cache_queries_total"
_IMAGE_HITS, _IMAGES_ASKED = "mm_cache_hits_total", "mm_cache_queries_total"
# The prompt's beginning, before the image, is the same in each request, and so is the watchdog's
# test page.
_HITS_ALLOWED = 0.05


@dataclass
class Sampler:
    """Samples until it is told to stop; `client` and `gateway` give the processes to be watched.

    Of the cards only those of the numbers in `gpus` count, all of them where it is empty.
    """

    enter: chat.Pass
    origin_s: float
    client: Callable[[], Iterable[psutil.Process]]
    gateway: Callable[[], Iterable[psutil.Process]]
    gpus: tuple[int, ...] = ()
    samples: list[Sample] = field(default_factory=list)
    first: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    _used: dict[str, tuple[float, dict[int, float]]] = field(default_factory=dict)

    @contextmanager
    def running(self, every_s: float = 1.0) -> Iterator["Sampler"]:
        """Sample in a thread of its own until the block ends."""
        over = threading.Event()
        with chat.session(self.enter) as session:
            thread = threading.Thread(
                target=self._keep_sampling, args=(session, over, every_s), daemon=True
            )
            thread.start()
            try:
                yield self
            finally:
                over.set()
                thread.join()

    def cache(self) -> Cache:
        """Return what the caches did between the first sample and the last."""

        def grown(name: str) -> float | None:
            return self.last[name] - self.first.get(name, 0) if name in self.last else None

        hits, asked = grown(_PREFIX_HITS), grown(_PREFIX_ASKED)
        images, images_asked = grown(_IMAGE_HITS), grown(_IMAGES_ASKED)
        return Cache(
            prefix_hit_tokens=hits,
            prefix_queried_tokens=asked,
            image_hits=images,
            image_queries=images_asked,
            defeated=_few(images, images_asked) and _few(hits, asked),
        )

    def _keep_sampling(
        self, session: requests.Session, over: threading.Event, every_s: float
    ) -> None:
        psutil.cpu_percent()  # the first answer counts from the machine's start
        while True:
            self.samples.append(self._sample(session))
            if over.wait(every_s):
                return

    def _sample(self, session: requests.Session) -> Sample:
        told = engine(session, self.enter.url)
        self.last = {**self.last, **told}
        self.first = self.first or told
        cards = [card for card in _cards() if not self.gpus or card.index in self.gpus]
        memory = sum(card.memory_mib for card in cards)
        busy = [card.busy_percent for card in cards if card.busy_percent is not None]
        return Sample(
            at_s=time.time() - self.origin_s,
            running=told.get("num_requests_running"),
            waiting=told.get("num_requests_waiting"),
            kv_use=told.get("kv_cache_usage_perc"),
            preemptions=told.get("num_preemptions_total"),
            prefill_s=told.get("request_prefill_time_seconds_sum"),
            decode_s=told.get("request_decode_time_seconds_sum"),
            host_cpu=psutil.cpu_percent() / 100,
            client_cpu=self._cores("client", self.client(), max),
            gateway_cpu=self._cores("gateway", self.gateway(), sum),
            gpu_busy=sum(busy) / len(busy) / 100 if busy else None,
            gpu_memory=sum(card.used_mib for card in cards) / memory if memory else None,
        )

    def _cores(
        self,
        name: str,
        processes: Iterable[psutil.Process],
        whole: Callable[[list[float]], float],
    ) -> float | None:
        """Return the cores that processes used since the last call, as one number."""
        now, seconds = time.monotonic(), dict[int, float]()
        for process in processes:
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue  # it ended since it was listed
            seconds[process.pid] = times.user + times.system
        before_s, before = self._used.get(name, (now, {}))
        self._used[name] = now, seconds
        used = [value - before[pid] for pid, value in seconds.items() if pid in before]
        return whole(used) / (now - before_s) if used and now > before_s else None


def _few(hits: float | None, asked: float | None) -> bool:
    return (hits or 0) <= _HITS_ALLOWED * (asked or 0)


def engine(session: requests.Session, url: str) -> dict[str, float]:
    """Return vLLM's numbers, summed over replicas but for shares, which are averaged."""
    try:
        answer = session.get(f"{url}/metrics", timeout=_ASK_S)
    except requests.RequestException:
        return {}  # shown as a gap
    found: dict[str, list[float]] = {}
    for family in metrics.read(answer) or ():
        if family.name.startswith(_PREFIX):
            for sample in family.samples:
                if not sample.name.endswith(("_bucket", "_created")):
                    name = sample.name.removeprefix(_PREFIX)
                    found.setdefault(name, []).append(sample.value)
    return {
        name: sum(values) / (len(values) if name.endswith("_perc") else 1)
        for name, values in found.items()
    }


def _cards() -> tuple[gpus.Card, ...]:
    try:
        return gpus.cards()
    except ToolError:
        return ()  # the load test does not need them, and `invoke up` says what is wrong
