"""Made-up conversations in HTTP/2, over TLS: the same holds as for HTTP/1.1.

nginx speaks HTTP/1.1 to the engines: what a frame can carry and a line cannot must not get there.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import anything_http2
import http2
import pytest
import wire
from anything_http2 import Talk
from judge import HEALTHY, Judge
from key_guessing import GOOD
from repetitions import REPETITIONS
from siege import ALLOWED, PAGE, QUERY, WORDS, Siege, siege
from volley import Vitals, fire

REQUESTS = REPETITIONS.fuzzed_conversations
WARM_UP = REQUESTS // 5


@dataclass
class Outcome:
    """What was asked and answered; `problems` are answers that must not be."""

    siege: Siege
    judge: Judge
    talks: int = 0
    with_key: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[AssertionError] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    vitals: Vitals = field(default_factory=Vitals)

    def talk(self, talk: Talk) -> None:
        """Have one conversation and look at its answers."""
        self.talks += 1
        self.with_key += talk.with_key
        heard = http2.talk(self.siege.door.port, talk.wire, whole=talk.whole)
        for stream, status in heard.statuses.items():
            self.statuses[status] += 1
            body = heard.bodies.get(stream, b"")
            self.judge.require_silence(body)
            if status != 200:
                assert body in {b""} | self.judge.refusals[status]
            elif body not in {b"", HEALTHY}:
                assert talk.with_key, body


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    with siege(tmp_path_factory.mktemp("tls")) as besieged:
        made = Outcome(besieged, Judge(besieged))
        made.vitals.note(besieged.door)
        for count in (WARM_UP, REQUESTS - WARM_UP):
            made.problems += fire(anything_http2.talks(), count, made.talk, first=count == WARM_UP)
            made.vitals.note(besieged.door)
        made.seen = besieged.seen()
        _say(made)
        yield made


def _say(outcome: Outcome) -> None:
    lines = (
        f"{outcome.talks} conversations in HTTP/2: {dict(sorted(outcome.statuses.items()))}",
        f"streams with a good key: {outcome.with_key}, at the engines: {dict(outcome.seen)}",
        f"PSS of nginx in MiB, before, after {WARM_UP}, after {REQUESTS}: {outcome.vitals}",
    )
    print("", *lines, sep="\n")  # noqa: T201  # with -s, the figures of the docs


def test_every_answer_is_documented_and_tells_nothing(outcome: Outcome) -> None:
    if outcome.problems:
        raise outcome.problems[0]
    assert outcome.talks >= REQUESTS
    assert {200, 400, 401, 404, 405} <= set(outcome.statuses)


def test_no_process_ended_and_memory_is_flat(outcome: Outcome) -> None:
    outcome.vitals.require_same_processes()
    outcome.vitals.require_flat_memory()


def test_only_pages_with_a_key_reach_an_engine(outcome: Outcome) -> None:
    assert set(outcome.seen) <= ALLOWED
    assert REQUESTS // 100 < outcome.seen[PAGE] < outcome.with_key


def test_logs_have_no_key_no_text_and_no_query(outcome: Outcome) -> None:
    logs = outcome.siege.door.logs
    access = (logs / "access.log").read_text(errors="replace")
    errors = (logs / "gateway-error.log").read_text(errors="replace")
    assert GOOD.partition(".")[2] not in access + errors
    assert WORDS not in access + errors
    assert QUERY not in access


def test_plain_http_on_its_port_is_told_to_use_tls(outcome: Outcome) -> None:
    sent = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = wire.read(wire.exchange(outcome.siege.door.port, sent))
    assert answer is not None
    assert answer.status == 400
    assert b'"https_required"' in answer.body


def test_a_good_page_is_read_afterwards(outcome: Outcome) -> None:
    assert outcome.siege.read_a_page().status_code == 200
