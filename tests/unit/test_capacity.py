"""How many cards a job needs: by hand, by properties, and as the task says it."""

import datetime as dt
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from invoke.context import Context
from invoke.exceptions import Exit

from cloister import capacity, config, gpus
from cloister.capacity import Job, Plan, Range, Speed, words
from cloister.errors import TuningError
from cloister.loadtest.result import Estimate
from cloister.tuning import fitting, mix, profile, starting_points
from cloister.tuning.profile import Pages, Profile
from tasks.planning import plan as plan_task

START = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
OWN = Pages(workload="own", prompt_tokens=2809, output_tokens=800)
BASE = starting_points.starting_point(starting_points.CLASSES[-1])
SETTINGS = fitting.settings(BASE)
INVOICES = mix.load("invoices", 2_007_040)


def card(rate: float, low: float, high: float, *, measured: bool = True) -> Profile:
    found = Estimate(value=rate, low=low, high=high, n=5)
    made = {"card": "NVIDIA H100 80GB HBM3", "measured": measured, "pages": OWN}
    return BASE.model_copy(update={**made, "pages_per_s": found})


def speed(one: Profile, pages: Pages | None = None) -> Speed:
    return capacity.speed(one, fitting.settings(one), pages)


def planned(rate: Range, pages: int, by: dt.datetime | None, **job: int) -> Plan:
    known = Speed("H100", 1, OWN, 1.0, rate, ())
    return capacity.plan(Job(pages, START, by, **job), known)


def test_by_hand() -> None:
    # 10 pages/s, 20 % kept free: 8 pages/s, 691,200 pages a day; 7 days of one card: 4,838,400.
    made = planned(Range(10, 8, 12.5), 10_000_000, START + 7 * DAY)
    assert made.needed is not None
    assert (made.needed.least, made.needed.likely, made.needed.most) == (2, 3, 3)
    assert str(made) == "2 to 3 H100, 3 likely"
    assert [one.cards for one in made.fleets] == [2, 3]
    two, three = made.fleets
    assert two.hours.value == pytest.approx(10_000_000 / 16 / 3600)
    assert two.hours.low == pytest.approx(10_000_000 / 20 / 3600)
    assert three.hours.high == pytest.approx(10_000_000 / 19.2 / 3600)
    assert (two.in_time, three.in_time) == ("perhaps", "yes")
    assert three.done == START + dt.timedelta(seconds=10_000_000 / 24)


def test_what_ends_on_the_second_is_in_time() -> None:
    made = planned(Range(10, 10, 10), 8 * 86400, START + DAY)
    assert str(made) == "1 H100"
    assert made.fleets[0].in_time == "yes"
    assert made.fleets[0].done == START + DAY


def test_half_the_hours_of_a_day_need_twice_the_cards() -> None:
    pages = 4 * 8 * 86400
    assert str(planned(Range(10, 10, 10), pages, START + DAY)) == "4 H100"
    half = planned(Range(10, 10, 10), pages, START + DAY, hours_a_day=12)
    assert str(half) == "8 H100"
    assert half.fleets[0].done == START + DAY


def test_without_a_date_it_shows_how_long_some_numbers_take() -> None:
    made = planned(Range(10, 8, 12), 1_000_000, None)
    assert made.needed is None
    assert [one.cards for one in made.fleets] == [1, 2, 4, 8]
    assert {one.in_time for one in made.fleets} == {None}
    assert "1, 2, 4 and 8 cards" in str(made)


def test_what_cannot_be_done_says_what_can() -> None:
    # 80 cards; 64 of them read four fifths until then, and all in 1.25 days.
    made = planned(Range(10, 9, 12), 80 * 8 * 86400, START + DAY)
    assert str(made).startswith("Not by then: it would likely take 80 H100 (67 at the least)")
    assert "They read 44,236,800 pages by then, and all in 30 hours" in str(made)
    assert "until 2026-11-02 06:00" in str(made)
    assert [(one.cards, one.in_time) for one in made.fleets] == [(64, "no")]
    some = planned(Range(10, 5, 20), 60 * 8 * 86400, START + DAY)
    assert str(some) == "30 to more than 64 H100, 60 likely"
    assert [one.cards for one in some.fleets] == [30, 60, 64]


def test_a_job_longer_than_the_calendar_has_no_end() -> None:
    made = planned(Range(1e-9, 1e-9, 1e-9), 10**12, None)
    assert made.fleets[0].done is None
    assert "years" in words.duration(made.fleets[0].hours.value)


@given(
    st.floats(0.01, 100),
    st.floats(0.1, 1),
    st.floats(1, 4),
    st.lists(st.integers(1, 10**9), min_size=2, max_size=2),
    st.lists(st.integers(1, 2000), min_size=2, max_size=2),
)
def test_more_pages_or_less_time_never_need_fewer_cards(
    rate: float, low: float, high: float, counts: list[int], times: list[int]
) -> None:
    (pages, more), (days, later) = counts, times
    known = Range(rate, rate * low, rate * high)
    first, larger, slower = (
        planned(known, count, START + wait * DAY).needed
        for count, wait in ((pages, days), (pages + more, days), (pages, days + later))
    )
    assert first is not None
    assert larger is not None
    assert slower is not None
    assert first.least <= first.likely <= first.most
    for one, other in ((first, larger), (slower, first)):
        assert one.least <= other.least
        assert one.likely <= other.likely
        assert one.most <= other.most


@pytest.mark.parametrize("pages", [None, INVOICES])
@pytest.mark.parametrize("measured", [True, False])
@given(rate=st.floats(0.01, 100), low=st.floats(-1, 3), high=st.floats(0, 100))
def test_every_range_has_the_point_in_it(
    *, rate: float, low: float, high: float, measured: bool, pages: Pages | None
) -> None:
    one = card(rate, rate * low, rate * high, measured=measured)
    known = capacity.speed(one, SETTINGS, pages).pages_per_s
    made = planned(known, 1_000_000, None)
    for found in (known, *(one.hours for one in made.fleets)):
        assert 0 < found.low <= found.value <= found.high
    if not measured:
        assert known.low <= known.value / 2 * 1.000001
        assert known.high >= known.value * 2 / 1.000001


@given(st.integers(1, 64), st.integers(1, 10**9), st.floats(0.01, 100), st.integers(1, 24))
def test_the_cards_that_are_needed_are_enough_and_one_less_is_not(
    days: int, pages: int, rate: float, hours: int
) -> None:
    made = planned(Range(rate, rate, rate), pages, START + days * DAY, hours_a_day=hours)
    assert made.needed is not None
    count = made.needed.likely
    assert capacity.fleet(made.job, made.speed, count).in_time == "yes"
    assert count == 1 or capacity.fleet(made.job, made.speed, count - 1).in_time == "no"


def test_the_profile_s_own_mix_is_not_scaled() -> None:
    one = card(5, 4.5, 5.5)
    same = OWN.model_copy(update={"output_tokens": 9999})
    for known in (speed(one), speed(one, same)):
        assert known.factor == 1
        assert known.pages == OWN
        assert known.pages_per_s == Range(5, 4.5, 5.5)
        assert len(known.why) == 1
        assert "measured: 5 (4.5 to 5.5)" in known.why[0]


def test_equal_pages_of_another_name_cost_the_same_but_are_less_sure() -> None:
    known = speed(card(5, 4.5, 5.5), OWN.model_copy(update={"workload": "other"}))
    assert known.factor == pytest.approx(1)
    assert known.pages_per_s.low == pytest.approx(4.5 / 1.25)
    assert known.pages_per_s.high == pytest.approx(5.5 / 0.75)
    assert "trusted to 25 %" in known.why[1]


def test_another_mix_costs_what_the_roofline_says() -> None:
    # H100: 791.2 TFLOP/s and 3.35 TB/s. A page of `own`, 256 at once: 2,809 tokens x (2 x 3.086e9
    # + 8 x 0.667e9) = 32.3 TFLOP, 40.8 ms; a step reads 7.505e9 + 256 x 3,209 x 36,864 = 37.8e9
    # bytes, 11.3 ms, and 800 of them by 256 pages 35.2 ms. Half the tokens: 20.4 and 12.0 ms.
    half = Pages(workload="half", prompt_tokens=1404.5, output_tokens=400)
    known = speed(card(5, 5, 5), half)
    assert known.factor == pytest.approx((20.4 + 10.56) / (40.8 + 35.2), rel=0.01)
    assert known.pages_per_s.value == pytest.approx(5 / known.factor)
    assert "H100's roofline" in known.why[1]


def test_a_card_that_no_data_sheet_is_known_of_is_scaled_as_its_class() -> None:
    one = card(5, 5, 5).model_copy(update={"card": "NVIDIA B200", "memory_mib": 183359})
    assert "A100 80GB's roofline" in speed(one, INVOICES).why[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "someone/else"}, "not known for someone/else on vllm-cuda"),
        (
            {"pages": Pages(workload="own", prompt_tokens=0, output_tokens=0)},
            "what a page of `invoices` costs is not known",
        ),
        ({"pages_per_s": Estimate(value=0, low=0, high=0, n=3)}, "served no page"),
    ],
)
def test_what_cannot_be_scaled_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(TuningError, match=said) as raised:
        capacity.speed(card(5, 4, 6).model_copy(update=change), SETTINGS, INVOICES)
    assert len(str(raised.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        (0.25, "15 minutes"),
        (1.99, "119 minutes"),
        (5, "5 hours"),
        (47.6, "48 hours"),
        (60, "2.5 days"),
        (21 * 24, "3 weeks"),
        (30 * 7 * 24, "30 weeks"),
        (24 * 365.25 * 3, "3 years"),
    ],
)
def test_durations_are_readable(hours: float, text: str) -> None:
    assert words.duration(hours) == text


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        ({"pages": 0}, 14, "0 pages need no card"),
        ({"pages": -3}, 14, "-3 pages need no card"),
        ({"pages": 9, "by": "1.1.2027"}, 14, "`1.1.2027` is no date"),
        ({"pages": 9, "by": "2027-02-30"}, 14, "--by 2027-06-30"),
        ({"pages": 9, "from_": "soon"}, 14, "--from 2027-06-30"),
        ({"pages": 9, "by": "2020-01-01"}, 14, "2020-01-01 00:00 is not after the beginning"),
        ({"pages": 9, "by": "2027-01-01", "from_": "2027-01-01"}, 14, "is not after"),
        ({"pages": 9, "hours_a_day": 25}, 14, "1 to 24 hours, not 25"),
        ({"pages": 9, "hours_a_day": 0}, 14, "1 to 24 hours, not 0"),
        ({"pages": 9, "spare": 100}, 14, "0 to 90 percent, not 100"),
        ({"pages": 9}, 14, "no GPU to plan for"),
        ({"pages": 9, "card": "h900"}, 14, "16gb, 24gb, 40gb, 48gb, 80gb"),
        ({"pages": 9, "card": "24gb", "mix": "nope"}, 9, "no workload `nope`"),
        ({"pages": 9, "card": "24gb", "mix": "/nope.yaml"}, 9, "no workload"),
        ({"pages": 9, "profile": "/nope.yaml"}, 14, "`/nope.yaml` cannot be read"),
    ],
)
def test_wrong_words_end_with_one_or_two_lines(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, object], code: int, said: str
) -> None:
    monkeypatch.setattr(gpus, "cards", tuple)
    with pytest.raises(Exit) as raised:
        plan_task(Context(), **flags)
    assert raised.value.code == code
    assert said in str(raised.value.message)
    assert len(str(raised.value.message).splitlines()) <= 2


def test_the_task_prints_what_the_docs_show(capsys: pytest.CaptureFixture[str]) -> None:
    flags = {"by": "2027-01-01", "from_": "2026-11-01", "mix": "invoices", "card": "80gb"}
    plan_task(Context(), pages=10_000_000, **flags)
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    text = (config.project_root() / "docs" / "tuning.md").read_text()
    _, _, shown = text.partition("--mix invoices --card 80gb\n")
    assert printed == shown.partition("```")[0].splitlines()


def test_the_task_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    plan_task(Context(), pages=1000, by="2027-01-01T06:00+01:00", card="40gb", json_=True)
    found = json.loads(capsys.readouterr().out)
    assert found["answer"] == "1 GPU of 40 GB"
    assert found["needed"] == {"likely": 1, "least": 1, "most": 1}
    assert found["job"]["by"] == "2027-01-01 05:00:00+00:00"
    assert found["speed"]["pages"]["workload"] == "mixed"
    assert found["fleets"][0]["in_time"] == "yes"


def test_the_task_takes_the_card_of_this_machine_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpus, "cards", lambda: (gpus.Card(0, "NVIDIA L4", 23034),))
    plan_task(Context(), pages=1000)
    assert "24gb--nanonets" in capsys.readouterr().out
    settings = {"vllm": {"max_num_seqs": 64}, "engines": {"per_gpu": 2}}
    mine = profile.write(card(5, 4, 6).model_copy(update={"settings": settings}), tmp_path)
    plan_task(Context(), pages=1000, profile=str(mine), json_=True)
    found = json.loads(capsys.readouterr().out)
    assert found["speed"]["card"] == "NVIDIA H100 80GB HBM3"
    assert [one["replicas"] for one in found["fleets"]] == [2, 4, 8, 16]
