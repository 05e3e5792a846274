"""What engines tell of themselves in numbers, summed."""

from collections.abc import Iterable

import requests
from prometheus_client.parser import text_string_to_metric_families

from cloister.engines import Replica

RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
READ = "vllm:request_success_total"
_ASK_S = 2.0


def of(session: requests.Session, url: str) -> dict[str, int]:
    """Return the gauges and counters of one engine, by sample; nothing when it does not answer."""
    sums: dict[str, int] = {}
    for family in text_string_to_metric_families(get(session, f"{url}/metrics") or ""):
        for sample in family.samples if family.type in {"gauge", "counter"} else ():
            sums[sample.name] = sums.get(sample.name, 0) + int(sample.value)
    return sums


def total(session: requests.Session, replicas: Iterable[Replica], name: str) -> int:
    """Return one number over several replicas."""
    return sum(of(session, replica.url).get(name, 0) for replica in replicas)


def get(session: requests.Session, url: str) -> str | None:
    """Return what an address answers, None when it is an error or nothing."""
    try:
        answer = session.get(url, timeout=_ASK_S)
    except requests.RequestException:
        return None  # not reached: the caller's None says so
    return answer.text if answer.ok else None
