"""What is made of an engine's numbers, whatever it answers."""

from types import SimpleNamespace
from typing import Any

import pytest

from cloister.deployment import gauges

PAGE = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0"} 1
vllm:num_requests_running{engine="1"} 2
# TYPE vllm:e2e histogram
vllm:e2e_count 9
"""


def session(text: str, *, ok: bool = True) -> Any:
    return SimpleNamespace(get=lambda *_, **__: SimpleNamespace(ok=ok, text=text))


def test_the_numbers_of_an_engine_s_cores_are_summed() -> None:
    assert gauges.of(session(PAGE), "http://a") == {gauges.RUNNING: 3}
    assert gauges.load(session(PAGE), "http://a") == 3


@pytest.mark.parametrize("text", ["{}", "<html>", '{"detail": "Not Found"}', "a{b=} 1", "a 1 2 3"])
def test_what_is_in_another_format_is_as_good_as_no_answer(text: str) -> None:
    assert gauges.of(session(text), "http://a") == {}
    assert gauges.load(session(text), "http://a") is None
    assert gauges.of(session(PAGE, ok=False), "http://a") == {}
