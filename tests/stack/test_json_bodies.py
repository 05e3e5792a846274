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
# What a page may take on a busy machine, whatever else is sent.
_FLOOR_S = 8.0


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
    assert (alone.lost, outcome.lost) == (0, 0), str(outcome)
    assert outcome.slowest_s <= max(2 * alone.slowest_s, _FLOOR_S)
    assert up.pids() == pids
    assert events(up)[before:] == []
