"""In which order a fleet is changed, as plans that people read: golden, without a card."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister import config, placement
from cloister.config import Settings
from cloister.deployment import present
from cloister.deployment.plan import Plan, plan, programs
from cloister.deployment.scaling import Proposal
from cloister.deployment.steps import pauses, steps
from cloister.gpus import Card
from cloister.runtimes import BESIDE, Changes

CARDS = (
    Card(0, "NVIDIA L4", 23_034),
    Card(1, "NVIDIA A100-SXM4-40GB", 40_960),
    Card(2, "NVIDIA H100 80GB HBM3", 81_559),
    Card(3, "NVIDIA H200", 143_771),
)


def settings(*flags: str) -> Settings:
    environ = {"CLOISTER_CONFIG": "/dev/null", "CLOISTER_STATE_DIR": "/state"}
    return config.load(flags=flags, environ=environ).settings


def planned(engine: str, replicas: int, *flags: str, per_gpu: int = 1) -> Plan:
    chosen = settings(f"engine={engine}", f"replicas={replicas}", *flags)
    seats: tuple[placement.Seat, ...] = ()
    if engine == "vllm-cuda":
        seats = placement.place(replicas, CARDS, per_gpu=per_gpu, memory_percent=90, need=None)
    return plan(chosen, 16, seats)


def changes(before: Plan | None, after: Plan) -> Changes:
    """Return what a runtime would say."""
    old = {p.name: p for p in programs(before, None)} if before else {}
    new = {p.name: p for p in programs(after, None)}
    return Changes(
        frozenset(new.keys() - old.keys() - BESIDE),
        frozenset(n for n in new.keys() & old.keys() - BESIDE if new[n] != old[n]),
        frozenset(old.keys() - new.keys() - BESIDE),
    )


def proposed(before: Plan | None, after: Plan) -> str:
    found = steps(before, after, changes(before, after))
    pause = 42.0 if pauses(before, found) else 0.0
    count = len(before.names) if before else 0
    return present.proposal(Proposal(count, after, found, pause))


def test_the_plans(golden: Callable[[str, str], None]) -> None:
    one_each = [f"tesseract.workers={1}"]
    cases = {
        "tesseract 0 -> 2": (None, planned("tesseract", 2)),
        "tesseract 1 -> 4, workers fixed": (
            planned("tesseract", 1, *one_each),
            planned("tesseract", 4, *one_each),
        ),
        "tesseract 1 -> 4, cores shared": (planned("tesseract", 1), planned("tesseract", 4)),
        "tesseract 4 -> 2, cores shared": (planned("tesseract", 4), planned("tesseract", 2)),
        "tesseract, another setting": (
            planned("tesseract", 3, *one_each),
            planned("tesseract", 3, *one_each, "tesseract.queue_depth=5"),
        ),
        "tesseract 1, another setting": (
            planned("tesseract", 1),
            planned("tesseract", 1, "tesseract.queue_depth=5"),
        ),
        "another engine": (planned("tesseract", 2), planned("vllm-cpu", 2)),
        "nothing": (planned("tesseract", 2), planned("tesseract", 2)),
        "cuda 0 -> 4": (None, planned("vllm-cuda", 4)),
        "cuda 4 -> 8, two a card": (
            planned("vllm-cuda", 4),
            planned("vllm-cuda", 8, per_gpu=2),
        ),
        "cuda 0 -> 8, two a card": (None, planned("vllm-cuda", 8, per_gpu=2)),
        "cuda 8 -> 3": (planned("vllm-cuda", 8, per_gpu=2), planned("vllm-cuda", 3)),
        "cuda 1, longer pages": (
            planned("vllm-cuda", 1),
            planned("vllm-cuda", 1, "vllm.max_model_len=20000"),
        ),
    }
    golden("plans.txt", "\n\n".join(f"# {name}\n{proposed(*case)}" for name, case in cases.items()))


ENGINES = st.sampled_from(["tesseract", "vllm-cpu", "vllm-cuda"])


@given(ENGINES, st.integers(0, 8), st.integers(1, 8), st.sampled_from([32, 33]))
def test_a_plan_does_what_has_to_be_done_once_and_keeps_readers_where_it_can(
    engine: str, now: int, then: int, depth: int
) -> None:
    flags = (f"tesseract.queue_depth={depth}", f"vllm.max_queued_requests={depth}")
    before = planned(engine, now, per_gpu=2) if now else None
    after = planned(engine, then, *flags, per_gpu=2)
    todo = changes(before, after)
    found = steps(before, after, todo)
    done = [(step.action, name) for step in found for name in step.names]
    assert len(done) == len(set(done))
    assert {name for action, name in done if action == "start"} == todo.added
    assert {name for action, name in done if action == "replace"} == todo.changed
    assert {name for action, name in done if action == "stop"} == todo.removed
    left = set(before.names) if before else set()
    for step in found:
        if step.action != "start":
            left -= set(step.names)
        if now > 1 and then > 1:
            assert left, f"{step} leaves nobody who reads"
        if step.action != "stop":
            left |= set(step.names)
    assert left == set(after.names)


@given(st.integers(1, 8), st.integers(1, 8))
def test_no_two_start_at_once_on_a_card(now: int, then: int) -> None:
    before, after = (planned("vllm-cuda", n, per_gpu=2) for n in (now, then))
    cards = {replica.name: replica.gpu for replica in after.replicas}
    for step in steps(before, after, changes(before, after)):
        if step.action == "start":
            used = [cards[name] for name in step.names]
            assert len(used) == len(set(used))


@pytest.mark.parametrize(("now", "then"), [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)])
def test_a_pause_is_said_only_where_there_is_one(now: int, then: int) -> None:
    before = planned("tesseract", now)
    after = planned("tesseract", then, "tesseract.queue_depth=7")
    assert pauses(before, steps(before, after, changes(before, after))) is (now == then == 1)


def test_going_down_to_one_that_changes_is_no_pause_where_another_stops_after_it() -> None:
    """On cards it stops before, because the one that stays may need its memory."""
    for engine, is_pause in (("tesseract", False), ("vllm-cuda", True)):
        before = planned(engine, 4)
        after = planned(engine, 1, "tesseract.queue_depth=7", "vllm.max_model_len=20000")
        assert pauses(before, steps(before, after, changes(before, after))) is is_pause


def test_replicas_of_an_earlier_versions_names_stop_before_theirs_start() -> None:
    """They hold the card, and nothing that is recorded says so."""
    after = planned("vllm-cuda", 1)
    todo = Changes(added=frozenset(after.names), removed=frozenset({"vllm-1"}))
    assert [str(step) for step in steps(after, after, todo)] == [
        "stop vllm-1",
        "start vllm-nanonets-ocr-1",
    ]
