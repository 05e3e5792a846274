"""Bodies that cost more to parse than to send, under a light load: nobody else notices them."""

from collections.abc import Iterator

import json_bodies
import pytest
from deployments import Stack, deployed
from fleets import events
from load import load
from load import until as sent
from pages import data_url, encoded, page, request
from repetitions import REPETITIONS

_PAGE = request(data_url(encoded(page("Page 2345"))))
# Times the slowest page that was alone, before or after. The costliest body, were it parsed, would
# take as long as 350 of them (17 s to 0.05 s); with bodies that are refused, 5 times was measured.
# Whatever else the machine does slows all of them down.
_MOST_TIMES = 100


@pytest.fixture(scope="module")
def up() -> Iterator[Stack]:
    """One that is looked at more often than by default, with the time-outs of the default."""
    with deployed(gateway_max_body_mib=50, healing_interval_s=1) as stack:
        stack.invoke("up")
        yield stack


def test_no_body_of_json_keeps_other_pages_waiting_or_has_the_engine_restarted(up: Stack) -> None:
    pids, before = up.pids(), len(events(up))
    with load(up.url, at_once=1, page=_PAGE) as alone:
        sent(alone, 10)
    with load(up.url, at_once=1, page=_PAGE) as outcome:
        sent(outcome, 1)
        assert json_bodies.refusal(up.url, json_bodies.costliest()) == (400, "body_too_complex")
        for name, body in json_bodies.bodies(REPETITIONS.json_bytes):
            assert json_bodies.refusal(up.url, body)[0] == 400, name
        sent(outcome, 1)
    with load(up.url, at_once=1, page=_PAGE) as again:
        sent(again, 10)
    assert (alone.lost, outcome.lost, again.lost) == (0, 0, 0), str(outcome)
    assert outcome.slowest_s <= _MOST_TIMES * max(alone.slowest_s, again.slowest_s)
    assert up.pids() == pids
    assert events(up)[before:] == []
