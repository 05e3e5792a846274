"""Pages sent to a gateway by several clients at once, and what became of each."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests
from deployments import eventually

PATH = "/v1/chat/completions"
_AGAIN_S = 0.2
_PATIENCE_S = 310.0  # longer than the gateway's, 300 s: what it gives up on, it has to say


@dataclass
class Outcome:
    """What became of the pages: `answered` are whole, `errors` were told to the client.

    `lies` are answers that looked like a success and were cut.
    """

    sent: int = 0
    answered: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    lies: int = 0
    slowest_s: float = 0.0
    again: int = 0
    by_replica: Counter[str] = field(default_factory=Counter)

    @property
    def lost(self) -> int:
        return self.sent - self.answered

    def __str__(self) -> str:
        told = ", ".join(f"{name}: {number}" for name, number in self.errors.items())
        return (
            f"sent {self.sent}, answered {self.answered}, lost {self.lost} ({told or 'none'}), "
            f"cut but called a success {self.lies}, sent again {self.again}, "
            f"slowest {self.slowest_s:.2f} s"
        )


@contextmanager
def load(
    url: str,
    *,
    at_once: int = 8,
    stream: bool = False,
    page: Any = None,
    patience_s: float = 0,
    pause_s: float = 0,
) -> Iterator[Outcome]:
    """Send pages until the block ends; the outcome grows meanwhile, and is whole after it.

    A page that is refused, or whose connection breaks, is sent again for `patience_s`, as clients
    do; it counts as one, and as `again`. Each client pauses after a page.
    """
    outcome, lock, over = Outcome(), threading.Lock(), threading.Event()
    request = page or {"model": "stub", "max_tokens": 100, "messages": ["x" * 2000]}
    body = json.dumps({**request, "stream": stream})

    def client() -> None:
        with requests.Session() as session:
            session.trust_env = False  # a proxy of the environment must not see loopback
            session.verify = False
            while not over.is_set():
                one = _patiently(session, url, body, stream=stream, patience_s=patience_s)
                with lock:
                    _add(outcome, one)
                over.wait(pause_s)

    with ThreadPoolExecutor(at_once) as threads:
        clients = [threads.submit(client) for _ in range(at_once)]
        try:
            yield outcome
        finally:
            over.set()
    for one in clients:
        one.result()


def until(outcome: Outcome, more: int) -> None:
    """Wait until as many more pages are done; a busy machine may do a few a second only."""
    wanted = outcome.sent + more
    eventually(lambda: _require(outcome.sent >= wanted), within_s=300)


def _require(reached: bool) -> None:  # noqa: FBT001
    assert reached


def _add(outcome: Outcome, one: Outcome) -> None:
    outcome.sent += one.sent
    outcome.answered += one.answered
    outcome.errors += one.errors
    outcome.lies += one.lies
    outcome.again += one.again
    outcome.slowest_s = max(outcome.slowest_s, one.slowest_s)
    outcome.by_replica += one.by_replica


def _patiently(
    session: requests.Session, url: str, body: str, *, stream: bool, patience_s: float
) -> Outcome:
    until_s, again = time.monotonic() + patience_s, 0
    while True:
        one = _page(session, url, body, stream=stream)
        if not one.errors or time.monotonic() > until_s:
            one.again = again
            return one
        again += 1
        time.sleep(_AGAIN_S)  # what clients wait between two tries


def _page(session: requests.Session, url: str, body: str, *, stream: bool) -> Outcome:
    one = Outcome(sent=1)
    try:
        kind = {"Content-Type": "application/json"}
        answer = session.post(
            f"{url}{PATH}", data=body, headers=kind, stream=stream, timeout=_PATIENCE_S
        )
        one.slowest_s = answer.elapsed.total_seconds()
        content = b"".join(answer.iter_content(None)) if stream else answer.content
    except requests.RequestException as error:
        one.errors[type(error).__name__] += 1
        return one
    if answer.status_code != requests.codes.ok:
        one.errors[str(answer.status_code)] += 1
    elif _whole(content, stream=stream):
        one.answered = 1
        one.by_replica[read_by(content)] += 1
    else:
        one.lies = 1
    return one


def read_by(content: bytes) -> str:
    """Return which stub wrote an answer or a stream; nothing else of it reaches a client."""
    found = re.search(rb'"system_fingerprint": ?"([^"]*)"', content)
    return found[1].decode() if found else "?"


def _whole(content: bytes, *, stream: bool) -> bool:
    if stream:
        return content.endswith(b"data: [DONE]\n\n")
    return json.loads(content)["choices"][0]["finish_reason"] in {"stop", "length"}
