"""What engines tell of themselves in numbers, summed."""

from collections.abc import Iterable

import requests

from cloister import metrics
from cloister.engines import Replica

RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
READ = "vllm:request_success_total"
TOKENS = "vllm:generation_tokens_total"
PROMPT_TOKENS = "vllm:prompt_tokens_total"
KV_USE = "vllm:kv_cache_usage_perc"  # 1 is all of it
_ASK_S = 2.0
_MOST = 1e15  # no engine counts that far


def of(session: requests.Session, url: str) -> dict[str, float]:
    """Return the gauges and counters of one engine, by sample; nothing when it tells none.

    What cannot be such a number, as NaN or 1e308, is left out: it is summed, compared and shown.
    """
    sums: dict[str, float] = {}
    page = get(session, f"{url}/metrics")
    # What is not in Prometheus' format is as good as no answer.
    for family in (page and metrics.parse(page)) or ():
        for sample in family.samples if family.type in {"gauge", "counter"} else ():
            if 0 <= sample.value <= _MOST:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def total(session: requests.Session, replicas: Iterable[Replica], name: str) -> int:
    """Return one number over several replicas."""
    return int(sum(of(session, replica.url).get(name, 0) for replica in replicas))


def load(session: requests.Session, url: str) -> int | None:
    """Return the pages of one engine, read or waiting; None when it does not answer."""
    told = of(session, url)
    return int(told[RUNNING] + told.get(WAITING, 0)) if RUNNING in told else None


def get(session: requests.Session, url: str) -> str | None:
    """Return what an address answers, None when it is an error, too much or nothing."""
    try:
        answer = session.get(url, timeout=_ASK_S)
    except requests.RequestException:
        return None  # not reached: the caller's None says so
    return metrics.text(answer)
