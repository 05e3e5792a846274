"""What the records of a load say, and what limits the service by them."""

from dataclasses import replace
from typing import Any

import pytest

from cloister.loadtest import measure, selfcheck, shapes, share, verdict
from cloister.loadtest.record import Record, lines, read
from cloister.loadtest.result import Sample, SelfCheck, Slo, Stage

SLO = Slo(ttft_p95_s=1.0, e2e_p95_s=2.0, fault_share=0.01)


def record(at_s: float, **fields: Any) -> Record:
    usual: dict[str, Any] = {
        "first_s": 0.5,
        "end_s": 1.0,
        "chunks": 9,
        "gap_s": 0.1,
        "status": 200,
        "fault": None,
    }
    usual |= {"prompt_tokens": 1000, "completion_tokens": 11, "kind": "letter", "stage": 0}
    return Record(**{"scheduled_s": at_s, "sent_s": at_s, **usual, **fields})


def many(count: int = 200, every_s: float = 0.5, **fields: Any) -> list[Record]:
    return [record(number * every_s, **fields) for number in range(count)]


def opened(records: list[Record], slo: Slo = SLO) -> Stage:
    load = shapes.constant(2, 100)
    return measure.stage(load, records, slo=slo, origin_s=0, begun_s=0, over_s=101)


def test_times_count_from_when_a_page_was_due_not_from_when_it_was_sent() -> None:
    late = [replace(one, sent_s=one.scheduled_s + 3) for one in many()]
    stage = opened(late)
    assert stage.ttft_s is not None
    assert stage.e2e_s is not None
    assert stage.lateness_s is not None
    assert stage.ttft_s.p50 == pytest.approx(3.5)
    assert stage.e2e_s.p50 == pytest.approx(4.0)
    assert stage.lateness_s.p50 == pytest.approx(3.0)
    assert stage.tpot_s is not None
    assert stage.tpot_s.p50 == pytest.approx(0.05), "(1.0 - 0.5) / (11 - 1)"
    assert stage.verdict == "fail"


def test_a_page_that_waits_for_its_turn_makes_those_behind_it_late_too() -> None:
    """Coordinated omission: a stall of 10 s is not one slow page but twenty."""
    stalled = [
        replace(one, first_s=max(0.5, 60.5 - one.scheduled_s), end_s=max(1.0, 61 - one.scheduled_s))
        if 50 <= one.scheduled_s <= 60
        else one
        for one in many()
    ]
    stage = opened(stalled)
    assert stage.e2e_s is not None
    assert stage.e2e_s.p95 > 5
    assert stage.verdict == "fail"


def test_rates_are_of_pages_that_ended_in_the_window_whenever_they_were_due() -> None:
    """Twenty pages are under way when the warm-up ends: the service reads them in the window."""
    slow = [replace(one, end_s=10.0) for one in many(120)]
    records = [*slow, *(record(60 + number * 0.5) for number in range(80))]
    stage = opened(records, Slo(ttft_p95_s=1.0, e2e_p95_s=20.0, fault_share=0.01))
    ended = sum(stage.begin_s < one.done_s <= stage.end_s for one in records)
    assert stage.warmup_s > 0
    assert stage.pages_per_s.n == ended > stage.sent
    assert stage.goodput_per_s == stage.pages_per_s, "all of them were within the SLO"
    for tokens, rate in ((1000, stage.prompt_tokens_per_s), (11, stage.output_tokens_per_s)):
        assert rate == pytest.approx(tokens * stage.pages_per_s.value)


@pytest.mark.parametrize("fault", ["cut short", "empty", "repeats itself", "HTTP 503", "truncated"])
def test_a_fault_is_told_and_is_no_goodput(fault: str) -> None:
    records = many()
    records[::10] = [replace(one, fault=fault) for one in records[::10]]
    stage = opened(records)
    assert stage.faults[fault] == stage.sent - stage.good > 0
    assert stage.pages_per_s.value == pytest.approx(1.8, rel=0.03)
    assert stage.goodput_per_s == stage.pages_per_s
    assert stage.attainment.value == pytest.approx(0.9, rel=0.01)
    assert stage.verdict == "fail"


@pytest.mark.parametrize(
    ("count", "slow", "expected"),
    [
        (200, 0, "pass"),
        (200, 3, "pass"),
        (200, 9, "undecided"),
        (200, 40, "fail"),
        (20, 0, "undecided"),
    ],
)
def test_the_slo_is_met_failed_or_undecided(count: int, slow: int, expected: str) -> None:
    records = many(count)
    records[count - slow :] = [replace(one, end_s=3.0) for one in records[count - slow :]]
    assert opened(records).verdict == expected


def test_closed_loop_counts_what_ended_in_the_window_without_each_client_s_first() -> None:
    records = [record(number // 4 * 1.0) for number in range(400)]
    load = shapes.closed(4, 100)
    stage = measure.stage(load, records, slo=SLO, origin_s=-10, begun_s=0, over_s=100)
    assert stage.pages_per_s.value == pytest.approx(4.0, rel=0.03)
    assert stage.warmup_s >= 1
    assert stage.begin_s >= 11
    assert stage.little_gap < 0.05
    assert stage.lateness_s is None


def test_clients_whose_pages_do_not_explain_their_time_are_seen() -> None:
    records = [record(number // 4 * 2.0) for number in range(200)]  # a pause of a second each
    load = shapes.closed(4, 100)
    stage = measure.stage(load, records, slo=SLO, origin_s=0, begun_s=0, over_s=100)
    assert stage.little_gap == pytest.approx(0.5, abs=0.05)


def test_the_pauses_of_clients_that_were_turned_away_are_explained() -> None:
    turned_away: dict[str, Any] = {"fault": "HTTP 503", "status": 503, "end_s": 0.5}
    records = [record(number // 4 * 1.0, **turned_away) for number in range(400)]
    load = shapes.closed(4, 100)
    stage = measure.stage(load, records, slo=SLO, origin_s=0, begun_s=0, over_s=100)
    assert stage.little_gap < 0.05


def test_a_service_that_dies_as_a_load_ends_does_not_empty_its_window() -> None:
    whole = [record(number // 4 * 1.0) for number in range(200)]
    refused = [record(50 + number * 0.004, status=502, fault="HTTP 502") for number in range(999)]
    load = shapes.closed(4, 50)
    stage = measure.stage(load, whole + refused, slo=SLO, origin_s=0, begun_s=0, over_s=50.5)
    assert stage.good > 150
    assert stage.good == stage.sent


def test_quality_is_of_good_pages_with_a_truth() -> None:
    records = [
        *(record(n / 2, cer=0.02, fields=1.0, facts=4) for n in range(100)),
        *(record(50 + n / 2, cer=0.5, fields=0.0, facts=4, fault="cut short") for n in range(100)),
    ]
    quality = opened(records).quality
    assert quality is not None
    assert quality.cer_median.value == 0.02
    assert quality.field_recall.value == 1.0
    assert opened(many()).quality is None


def test_records_come_back_as_they_were_written(tmp_path: Any) -> None:
    records = many(3)
    (tmp_path / "r").write_text(lines(records))
    assert list(read(tmp_path / "r")) == records


def samples(**fields: float) -> list[Sample]:
    growing = {"preemptions", "prefill_s", "decode_s"}

    def at(second: int) -> dict[str, Any]:
        return {n: value * second if n in growing else value for n, value in fields.items()}

    return [Sample(at_s=second, **at(second)) for second in range(100)]


PASSED = SelfCheck(
    load="x", sent=9, ttft_error_p50_s=0, ttft_error_p95_s=0, lateness_p95_s=0, cpu=0.1,
    passed=True, why="",
)  # fmt: skip
FAILED = PASSED.model_copy(update={"passed": False, "why": "too slow"})


@pytest.mark.parametrize(
    ("seen", "check", "limit"),
    [
        ({"host_cpu": 0.95}, FAILED, "client"),
        ({"client_cpu": 0.9, "host_cpu": 0.95}, PASSED, "client"),
        ({"gateway_cpu": 1.5, "host_cpu": 0.95}, PASSED, "gateway"),
        ({"kv_use": 0.97, "preemptions": 2, "gpu_busy": 1.0}, PASSED, "KV memory"),
        ({"host_cpu": 0.95}, PASSED, "host CPU"),
        ({"host_cpu": 0.95, "gpu_busy": 0.5}, PASSED, "host CPU"),
        ({"gpu_busy": 0.95, "prefill_s": 7, "decode_s": 3, "host_cpu": 0.95}, PASSED, "prefill"),
        ({"gpu_busy": 0.95, "prefill_s": 3, "decode_s": 7}, PASSED, "decode"),
        ({"waiting": 9, "running": 5, "kv_use": 0.2, "host_cpu": 0.3}, PASSED, "queue limit"),
        ({"host_cpu": 0.3}, None, "nothing"),
    ],
)
def test_what_limits_is_named_with_its_evidence(
    seen: dict[str, float], check: SelfCheck | None, limit: str
) -> None:
    found = verdict.verdict(opened(many()), samples(**seen), check, cores=2)
    assert found.limit == limit
    assert found.evidence


def test_refusals_are_a_queue_s_limit_and_lateness_the_client_s() -> None:
    refused = many()
    refused[::5] = [replace(one, fault="HTTP 503") for one in refused[::5]]
    assert verdict.verdict(opened(refused), [], None, 2).limit == "queue limit"
    late = [replace(one, sent_s=one.scheduled_s + 0.1) for one in many()]
    assert verdict.verdict(opened(late), [], None, 2).limit == "client"
    assert verdict.verdict(None, [], None, 2).limit == "unknown"


def test_the_gateway_s_share_is_that_of_the_busiest_pair() -> None:
    through = opened(many())
    quick = opened(many(first_s=0.4, end_s=0.9)).model_copy(update={"direct": True})
    assert share.share((through,)) is None
    found = share.share((through, quick))
    assert found is not None
    assert found.ttft_added_s == pytest.approx(0.1)
    assert found.e2e_added_s == pytest.approx(0.1)
    assert found.pages_ratio.low <= 1 <= found.pages_ratio.high
    idle = opened(many(50, every_s=2.0))
    alike = idle.model_copy(update={"direct": True})
    for stages in ((idle, alike, through, quick), (through, quick, idle, alike)):
        busiest = share.share(stages)
        assert busiest is not None
        assert busiest.e2e_added_s == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("first_s", "late_s", "cpu", "passed"),
    [
        (0.102, 0, 0.3, True),
        (0.108, 0, 0.3, False),
        (0.102, 0.02, 0.3, False),
        (0.102, 0, 0.9, False),
    ],
)
def test_a_client_is_believed_only_within_bounds(
    first_s: float, late_s: float, cpu: float, *, passed: bool
) -> None:
    records = [record(1.0, first_s=first_s, sent_s=1.0 + late_s) for _ in range(50)]
    found = selfcheck.judged(shapes.closed(8, 1), records, samples(client_cpu=cpu))
    assert found.passed is passed
    assert bool(found.why) is not passed


def test_a_client_that_got_no_answer_is_not_believed() -> None:
    assert not selfcheck.judged(shapes.closed(8, 1), [], []).passed
