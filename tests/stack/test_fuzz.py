"""Made-up requests: nothing breaks, nothing leaks, and only pages reach an engine.

The figures are printed: `pytest -s tests/stack/test_fuzz.py`.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import anything
import pytest
import wire
from anything import Sent
from deployments import eventually
from hypothesis import strategies as st
from judge import Judge
from key_guessing import GOOD
from repetitions import REPETITIONS
from siege import ALLOWED, EXPIRED, PAGE, QUERY, WORDS, WRONG, Siege, siege
from smuggling import MARKER
from volley import Vitals, fire

REQUESTS = REPETITIONS.fuzzed_requests
WARM_UP = REQUESTS // 5
SHARES: dict[Callable[[], st.SearchStrategy[Sent]], float] = {
    anything.documented: 0.25,
    anything.composed: 0.35,
    anything.smuggled: 0.20,
    anything.broken: 0.15,
    anything.meaningless: 0.04,
    anything.large: 0.01,
}


@dataclass
class Outcome:
    """What was sent and what came of it; `problems` are answers that must not be."""

    siege: Siege
    judge: Judge
    sent: Counter[str] = field(default_factory=Counter)
    with_key: int = 0
    problems: list[AssertionError] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    vitals: Vitals = field(default_factory=Vitals)
    seconds: float = 0.0

    def send(self, sent: Sent) -> None:
        """Send one request and look at its answer."""
        self.sent[sent.kind] += 1
        self.with_key += sent.has_a_good_key
        self.judge.look(sent, wire.exchange(self.siege.door.port, sent.wire, leaves=sent.leaves))

    def log(self) -> list[dict[str, Any]]:
        """Return the access log; a path has the bytes that were asked for, of any coding."""
        text = (self.siege.door.logs / "access.log").read_text(errors="replace")
        return [json.loads(line) for line in text.splitlines()]

    def errors(self) -> str:
        return (self.siege.door.logs / "gateway-error.log").read_text(errors="replace")


@pytest.fixture(scope="module")
def outcome() -> Iterator[Outcome]:
    with siege() as besieged:
        made = Outcome(besieged, Judge(besieged))
        started = time.monotonic()
        made.vitals.note(besieged.door)
        for count in (WARM_UP, REQUESTS - WARM_UP):
            for kind, share in SHARES.items():
                made.problems += fire(
                    kind(), round(count * share), made.send, first=count == WARM_UP
                )
            made.vitals.note(besieged.door)
        made.seconds = time.monotonic() - started
        made.seen = besieged.seen()
        _say(made)
        yield made


def _say(outcome: Outcome) -> None:
    queries = sum(QUERY in line for line in outcome.errors().splitlines())
    lines = (
        f"{sum(outcome.sent.values())} requests in {outcome.seconds:.0f} s: {dict(outcome.sent)}",
        f"answers: {dict(sorted(outcome.judge.statuses.items()))}",
        f"with a good key: {outcome.with_key}, pages read: {outcome.judge.pages}",
        f"at the engines: {dict(outcome.seen)}",
        f"PSS of nginx in MiB, before, after {WARM_UP}, after {REQUESTS}: {outcome.vitals}",
        f"lines of the error log with a query: {queries}",
    )
    print("", *lines, sep="\n")  # noqa: T201  # with -s, the figures of the docs


def test_every_answer_is_documented_and_tells_nothing(outcome: Outcome) -> None:
    if outcome.problems:
        raise outcome.problems[0]
    assert sum(outcome.sent.values()) >= REQUESTS
    # So that the requests are not all refused by the first check they meet.
    assert {"200", "400", "401", "404", "405", "413", "501", "505"} <= set(outcome.judge.statuses)


def test_no_process_ended(outcome: Outcome) -> None:
    outcome.vitals.require_same_processes()


def test_only_what_is_on_the_list_reaches_an_engine(outcome: Outcome) -> None:
    assert set(outcome.seen) <= ALLOWED
    assert {PAGE, "GET /v1/models", "GET /health"} <= set(outcome.seen)
    assert set(outcome.siege.scraped()) <= {"GET /metrics"}


def test_no_page_is_asked_for_without_a_good_key(outcome: Outcome) -> None:
    def logged() -> None:
        lines = [line for line in outcome.log() if line["upstream"]]
        passed = [line for line in lines if line["path"] == PAGE.partition(" ")[2]]
        # A client that left at once may be gone before its page was handed over.
        assert len(passed) >= outcome.seen[PAGE]
        assert {line["key"] for line in passed} == {"good"}

    eventually(logged)
    assert REQUESTS // 100 < outcome.judge.pages <= outcome.seen[PAGE] < outcome.with_key


def test_a_connection_carries_one_request(outcome: Outcome) -> None:
    lines = outcome.log()
    assert len(lines) <= sum(outcome.sent.values())
    assert not any(MARKER.decode() in line["path"] for line in lines)


def test_memory_is_flat(outcome: Outcome) -> None:
    outcome.vitals.require_flat_memory()


def test_logs_have_no_key_no_text_and_no_query(outcome: Outcome) -> None:
    access = (outcome.siege.door.logs / "access.log").read_text(errors="replace")
    assert len(outcome.errors()) > 0, "there are requests that it tells of"
    for log in (access, outcome.errors()):
        for key in (GOOD, EXPIRED, WRONG):
            assert key.partition(".")[2][:20] not in log
        assert WORDS not in log
    # The error log has whole request lines, whatever nginx is told: see docs/gateway.md.
    assert QUERY not in access


def test_a_good_page_is_read_afterwards(outcome: Outcome) -> None:
    answer = outcome.siege.read_a_page()
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "word0 word1 "
