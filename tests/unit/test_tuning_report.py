"""A tuning's page as people see it; nothing that an engine or a user wrote becomes a part of it."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tuning_samples
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_report import LOADED, Page
from tuning_samples import HOSTILE, rate

from cloister import report
from cloister.loadtest.result import Estimate, Slo
from cloister.report import formats, tuning_charts, tuning_content, tuning_html
from cloister.report.tuning_sections import finalist_name, sections
from cloister.tuning import result
from cloister.tuning.ceiling import Ceiling
from cloister.tuning.result import Choice, Finalist, Tuning, Turn
from cloister.tuning.trial import Rung, Trial

WHOLE = tuning_samples.make()
NAMES = ("frontier", "surface", "loads", "finalists", "pruned", "roofline", "repeat")


@pytest.fixture(scope="module")
def page() -> str:
    return tuning_html.render(WHOLE)


def changed(**changes: object) -> Tuning:
    return WHOLE.model_copy(update=changes)


def chosen(**changes: object) -> Choice:
    assert WHOLE.choice is not None
    return WHOLE.choice.model_copy(update=changes)


def test_markdown(golden: Callable[[str, str], None]) -> None:
    golden("tuning.md", report.tuning_markdown(WHOLE))


def test_the_page_is_well_formed_and_needs_nothing_but_itself(page: str) -> None:
    read = Page(page)
    assert read.tags.count("svg") == 3
    assert len(read.ids) == len(set(read.ids))
    assert [name for name in read.ids if name in NAMES] == list(NAMES)
    assert {"script", "iframe", "object", "embed", "link", "base", "img"}.isdisjoint(read.tags)
    assert not re.search(rf'(?:{"|".join(LOADED)})="(?!#|[0-9a-z/-]+/report\.html")', page)
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    assert "@import" not in page


def test_every_table_and_every_loads_own_report_is_on_the_page(page: str) -> None:
    read = Page(page)
    texts = set(read.texts)
    for section in sections(WHOLE):
        for table in section.tables:
            assert {cell for row in table.rows for cell in row if cell} <= texts, section.title
    folders = [rung.report for trial in WHOLE.trials for rung in trial.rungs]
    folders += [turn.report for one in WHOLE.finalists for turn in one.turns]
    assert {f"{folder}/report.html" for folder in folders} <= set(read.links)


def test_the_result_comes_before_the_recommendation_and_that_before_the_charts(page: str) -> None:
    order = ("25.5 pages a second within the SLO", "What is recommended", 'id="frontier"')
    places = [page.index(words) for words in order]
    assert places == sorted(places)


def test_the_same_tuning_gives_the_same_page(page: str) -> None:
    assert tuning_html.render(WHOLE) == page


def test_a_tuning_is_written_and_read_back(tmp_path: Path) -> None:
    report.write_tuning(tmp_path / "new", WHOLE)
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["tuning.html", "tuning.json", "tuning.md"]
    assert result.load(tmp_path / "new") == WHOLE


def test_hostile_words_are_only_shown() -> None:
    made = tuning_samples.make(hostile=True)
    page, text = tuning_html.render(made), report.tuning_markdown(made)
    read = Page(page)
    assert "script" not in read.tags
    assert "<script" not in page
    assert any(formats.plain(HOSTILE) in piece for piece in read.texts)
    assert not re.search(r"(?<!\\)<script", re.sub(r"(?m)^    .*$", "", text))
    assert "\n# no" not in text
    for sign in ("\u202e", "\x1b"):
        assert sign not in page
        assert sign not in text


@pytest.mark.parametrize(
    "folder", ["javascript:alert(1)", "//evil.test", "../x", "a/../b", "/etc", "a b", 'a"b', "a\n"]
)
def test_only_a_folder_of_the_tuning_is_linked(folder: str) -> None:
    trial = WHOLE.trials[0]
    rungs = (replace(trial.rungs[0], report=folder), *trial.rungs[1:])
    made = changed(trials=(replace(trial, rungs=rungs),), finalists=())
    links = [link for link in Page(tuning_html.render(made)).links if link[:1] != "#"]
    assert links == [f"{rung.report}/report.html" for rung in rungs[1:]]


def test_the_settings_are_a_part_of_cloister_yaml() -> None:
    assert yaml.safe_load(tuning_content.settings(WHOLE)) == {
        "vllm": {
            "max_num_seqs": 64,
            "gpu_memory_percent": 90,
            "api_server_count": 4,
            "max_num_batched_tokens": 16384,
            "flags": ["--stream-interval=1"],
        },
        "engines": {"per_gpu": 2},
    }
    assert tuning_content.settings(changed(choice=None)) == ""


def test_what_is_chosen_is_found_by_its_other_settings() -> None:
    assert tuning_content.chosen(WHOLE) == 5
    strange = changed(choice=chosen(configuration={"vllm.x": 1}), finalists=())
    assert tuning_content.chosen(strange) is None
    assert tuning_content.headline(strange).endswith("was not measured")


def test_the_result_is_the_finals_else_that_of_the_ladder() -> None:
    found = tuning_content.result(WHOLE)
    assert found is not None
    assert found.pages_per_s == WHOLE.finalists[0].pages_per_s
    assert found.e2e_p95_s == max(
        turn.e2e_p95_s or 0 for turn in tuning_content.kept(WHOLE.finalists[0])
    )
    alone = tuning_content.result(changed(finalists=()))
    assert alone is not None
    assert alone.measured == "1 start, 128 clients"


def missed(finalist: Finalist) -> Finalist:
    turns = tuple(turn.model_copy(update={"met": False}) for turn in finalist.turns)
    return finalist.model_copy(update={"turns": turns})


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (changed(complete=False), "ended before"),
        (changed(choice=None), "nothing is recommended"),
        (changed(choice=chosen(winner=False)), "the safer one is kept"),
        (changed(finalists=()), "not started a second time"),
        (changed(finalists=tuple(map(missed, WHOLE.finalists))), "missed the SLO in each turn"),
        (changed(choice=chosen(configuration={})), "none of what was tried"),
        (changed(ceiling=Ceiling(20.0, 0.01, 0.02, 0.02)), "more was measured than"),
        (
            changed(trials=tuple(replace(one, rungs=one.rungs[:5]) for one in WHOLE.trials)),
            "the highest load",
        ),
    ],
)
def test_doubts_are_among_the_warnings(made: Tuning, words: str) -> None:
    assert any(words in warning for warning in tuning_content.warnings(made))
    assert words in report.tuning_markdown(made)


def test_a_tuning_without_doubts_has_no_warning(page: str) -> None:
    assert tuning_content.warnings(WHOLE) == []
    assert "Read this first" not in page


@pytest.mark.parametrize("trials", [0, 1, 2, 4])
def test_a_tuning_that_ended_early_has_a_page(trials: int) -> None:
    made = tuning_samples.make(trials)
    read = Page(tuning_html.render(made))
    assert read.tags.count("svg") == (2 if trials else 0)
    assert "Read this first" in read.texts


def test_when_every_start_failed_the_page_says_how() -> None:
    failed = tuple(trial for trial in WHOLE.trials if trial.failure)
    made = changed(trials=failed, finalists=(), choice=None, ceiling=None)
    read = Page(tuning_html.render(made))
    assert read.tags.count("svg") == 1
    assert "Nothing served a page within the SLO on NVIDIA H100 80GB HBM3." in read.texts
    assert any("OOM at start: torch.OutOfMemoryError" in text for text in read.texts)


def test_a_start_whose_loads_all_missed_the_slo_is_no_failure() -> None:
    trial = WHOLE.trials[0]
    late = replace(trial, rungs=tuple(replace(rung, met=False) for rung in trial.rungs))
    text = report.tuning_markdown(changed(trials=(late,), finalists=(), choice=None))
    assert "limit or failure no load met the SLO; host CPU: " in text


def test_what_was_ruled_out_is_told_up_to_a_length() -> None:
    many = changed(pruned=tuple(f"a={number}: no" for number in range(1000)))
    assert "and 800 more" in report.tuning_markdown(many)
    assert "Nothing was ruled out" in report.tuning_markdown(changed(pruned=()))


def test_the_frontier_has_no_point_that_another_beats() -> None:
    points = [point for trial in WHOLE.trials for point in tuning_charts._points(trial)]
    edge = tuning_charts._frontier(points)
    for rung, e2e in points:
        beaten = any(
            other.pages_per_s.value > rung.pages_per_s.value and late < e2e for other, late in edge
        )
        assert beaten or any(
            late <= e2e and other.pages_per_s.value >= rung.pages_per_s.value
            for other, late in edge
        )
    assert edge == sorted(edge, key=lambda one: one[0].pages_per_s.value)


def test_finalists_have_letters() -> None:
    assert [finalist_name(place) for place in (0, 1, 25, 26)] == ["A", "B", "Z", "27"]


numbers = st.floats() | st.integers(-5, 5).map(float) | st.floats(0, 100)
estimates = st.builds(Estimate, value=numbers, low=numbers, high=numbers, n=st.integers())
maybe = st.none() | numbers
texts = st.text(max_size=12)
configurations = st.dictionaries(
    st.sampled_from(["vllm.a", "vllm", "x", "--y", "vllm.flags"]) | texts,
    st.integers() | texts,
    max_size=3,
)
rungs = st.builds(
    Rung,
    clients=st.integers(-1, 10**6),
    pages_per_s=estimates,
    met=st.booleans(),
    ttft_p95_s=maybe,
    e2e_p95_s=maybe,
    attainment=numbers,
    prompt_tokens=numbers,
    output_tokens=numbers,
    report=texts,
)
trials = st.builds(
    Trial,
    configuration=configurations,
    failure=st.none() | st.just("crash"),
    rungs=st.lists(rungs, max_size=3).map(tuple),
    kv_pages=numbers,
    said=texts,
    start_s=numbers,
    seconds=numbers,
)
turns = st.builds(
    Turn,
    start=st.integers(),
    share=numbers,
    rate=numbers,
    pages_per_s=estimates,
    e2e_p95_s=maybe,
    attainment=numbers,
    met=st.booleans(),
    report=texts,
)
finalists = st.builds(
    Finalist,
    configuration=configurations,
    turns=st.lists(turns, max_size=3).map(tuple),
    pages_per_s=estimates,
)


@settings(max_examples=25)
@given(
    st.lists(trials, max_size=3).map(tuple),
    st.lists(finalists, max_size=2).map(tuple),
    st.none() | st.builds(Ceiling, numbers, numbers, numbers, numbers),
    st.builds(Slo, ttft_p95_s=numbers, e2e_p95_s=numbers, fault_share=numbers),
    st.data(),
)
def test_odd_numbers_have_a_page(
    started: tuple[Trial, ...],
    finals: tuple[Finalist, ...],
    ceiling: Ceiling | None,
    slo: Slo,
    data: st.DataObject,
) -> None:
    known = [dict(trial.configuration) for trial in started]
    known += [one.configuration for one in finals]
    configuration = data.draw(st.sampled_from(known) if known else configurations)
    made = changed(
        trials=started,
        finalists=finals,
        ceiling=ceiling,
        slo=slo,
        choice=chosen(configuration=configuration),
    )
    Page(tuning_html.render(made))
    assert report.tuning_markdown(made).startswith("# ")


@pytest.mark.parametrize("low", [0.0, -1e154, float("nan")])
def test_a_rate_of_nothing_has_a_page(low: float) -> None:
    trial, nothing = WHOLE.trials[0], rate(0.0).model_copy(update={"low": low})
    none = tuple(replace(rung, pages_per_s=nothing, e2e_p95_s=0.0) for rung in trial.rungs)
    made = changed(trials=(replace(trial, rungs=none),), finalists=(), choice=None)
    assert Page(tuning_html.render(made)).tags.count("svg") == 2
