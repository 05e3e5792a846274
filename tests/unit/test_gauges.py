"""What is made of an engine's numbers, whatever it answers."""

from types import SimpleNamespace
from typing import Any

import pytest

from cloister.bounded import MOST_METRICS_BYTES
from cloister.deployment import gauges

PAGE = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0"} 1
vllm:num_requests_running{engine="1"} 2
# TYPE vllm:e2e histogram
vllm:e2e_count 9
"""


def session(text: str, *, ok: bool = True) -> Any:
    answer = SimpleNamespace(ok=ok, text=text, content=text.encode())
    return SimpleNamespace(get=lambda *_, **__: answer)


def test_the_numbers_of_an_engine_s_cores_are_summed() -> None:
    assert gauges.of(session(PAGE), "http://a") == {gauges.RUNNING: 3}
    assert gauges.load(session(PAGE), "http://a") == 3


@pytest.mark.parametrize("number", ["NaN", "+Inf", "-Inf", "1e308", "-1"])
def test_a_number_that_nothing_can_be_counts_as_none(number: str) -> None:
    """It would be 309 digits in `invoke status`, or no whole number at all."""
    text = PAGE.replace("} 1", f"}} {number}")
    assert gauges.of(session(text), "http://a") == {gauges.RUNNING: 2}
    assert gauges.load(session(text.replace("} 2", f"}} {number}")), "http://a") is None


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "<html>",
        '{"detail": "Not Found"}',
        "a{b=} 1",
        "a 1 2 3",
        pytest.param(PAGE + "#" * MOST_METRICS_BYTES, id="too much"),
    ],
)
def test_what_is_in_another_format_is_as_good_as_no_answer(text: str) -> None:
    assert gauges.of(session(text), "http://a") == {}
    assert gauges.load(session(text), "http://a") is None
    assert gauges.of(session(PAGE, ok=False), "http://a") == {}
