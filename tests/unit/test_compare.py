"""One report against another: nothing is called worse that may be noise."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import report_samples
from hypothesis import given
from hypothesis import strategies as st

from cloister.errors import LoadTestError
from cloister.files import write_atomically
from cloister.loadtest import record
from cloister.loadtest.result import Estimate, Report
from cloister.report import Comparison, Measured, Row, compare
from cloister.report.compare import _bootstrap, _wider

ROOT = Path(__file__).parents[2]
MIRROR = {"better": "worse", "worse": "better"}


@cache
def measured(seed: int = 1, slower: float = 1.0) -> Measured:
    return Measured(*report_samples.make(seed, slower=slower))


def rows(found: Comparison, metric: str) -> list[Row]:
    return [row for row in found.rows if row.metric == metric]


def estimate(value: float, half: float = 0.0) -> Estimate:
    return Estimate(value=value, low=max(0.0, value - half), high=value + half, n=100)


def single(rate: Estimate, **changes: Any) -> Measured:
    """Return a report of one load, at a rate."""
    whole = measured().report
    stage = whole.stages[2].model_copy(update={"pages_per_s": rate, "quality": None, **changes})
    return Measured(whole.model_copy(update={"stages": (stage,), "best": 0}))


def test_a_report_does_not_differ_from_itself() -> None:
    for one in (measured(), Measured(measured().report)):
        found = compare(one, one)
        assert {row.verdict for row in found.rows} == {"no difference"}
        assert found.worse == 0


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_another_run_of_the_same_is_not_worse(seed: int) -> None:
    found = compare(measured(), measured(seed))
    assert len(found.rows) > 50
    assert found.worse == 0


def test_many_rows_have_to_be_surer_than_one() -> None:
    assert _wider(1) == 1
    assert _wider(100) == pytest.approx(1.78, abs=0.01)
    one, other = single(estimate(10, 0.6)), single(estimate(9, 0.3))  # off by 1 +- 0.67, 4 rows
    (row,) = rows(compare(one, other), "good pages/s")
    assert row.high is not None
    assert row.high < 0
    assert row.verdict == "worse"
    one, other = (
        Measured(
            of.report.model_copy(update={"stages": of.report.stages + measured().report.stages})
        )
        for of in (one, other)
    )
    assert rows(compare(one, other), "good pages/s")[0].verdict == "undecided"


def test_a_fifth_slower_is_worse() -> None:
    found = compare(measured(), measured(2, 1.25))
    best = [row for row in found.rows if row.load.startswith("best")]
    assert [row.verdict for row in best if row.metric == "good pages/s"] == ["worse"]
    assert {row.verdict for row in rows(found, "E2E p50, s")} >= {"worse"}
    assert not [row for row in rows(found, "good pages/s") if row.verdict == "better"]
    back = compare(measured(2, 1.25), measured())
    assert rows(back, "good pages/s")[0].verdict == "better"


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        (estimate(10, 0.1), estimate(8, 0.1), "worse"),
        (estimate(8, 0.1), estimate(10, 0.1), "better"),
        (estimate(10, 0.1), estimate(9.9, 0.1), "no difference"),
        (estimate(10, 0.1), estimate(9.65, 0.05), "no difference"),
        (estimate(10, 0.05), estimate(9.55, 0.05), "undecided"),  # at the threshold's edge
        (estimate(10, 3), estimate(8, 3), "undecided"),
        (estimate(10, 3), estimate(10, 3), "undecided"),
        (estimate(10, 0.1), estimate(0), "worse"),
        (estimate(0), estimate(10, 0.1), "better"),
        (estimate(0), estimate(0), "no difference"),
    ],
)
def test_verdicts_of_rates(a: Estimate, b: Estimate, verdict: str) -> None:
    one, other = single(a), single(b, warmup_s=1.0)
    (row, *_) = rows(compare(one, other), "good pages/s")
    assert row.verdict == verdict
    assert (row.difference is None) == (a.value == 0)


def test_the_threshold_is_the_users() -> None:
    a, b = single(estimate(10, 0.1)), single(estimate(9, 0.1))
    assert rows(compare(a, b, 0.05), "good pages/s")[0].verdict == "worse"
    assert rows(compare(a, b, 0.2), "good pages/s")[0].verdict == "no difference"


def test_shares_differ_by_points() -> None:
    quality = measured().report.stages[6].quality
    assert quality is not None
    worse = quality.model_copy(update={"field_recall": estimate(0.95, 0.005)})
    good = quality.model_copy(update={"field_recall": estimate(0.99, 0.005)})
    a, b = (single(estimate(10, 0.1), quality=one) for one in (good, worse))
    (row,) = rows(compare(a, b), "facts found")
    assert row.verdict == "worse"
    assert row.share
    assert row.difference == pytest.approx(-4)
    (row,) = rows(compare(a, b), "CER, median")
    assert row.verdict == "no difference"


def test_times_decide_nothing_without_records() -> None:
    found = compare(Measured(measured().report), Measured(measured(2, 1.25).report))
    assert {row.verdict for row in rows(found, "E2E p95, s")} == {"undecided"}
    assert {row.low for row in rows(found, "E2E p95, s")} == {None}
    assert any("A has no records.jsonl" in note for note in found.notes)


def test_a_bootstrap_covers_the_truth() -> None:
    random = Random(1)
    hits = 0
    for _ in range(200):
        a = sorted(random.expovariate(1) for _ in range(150))
        b = sorted(random.expovariate(1) for _ in range(150))
        interval = _bootstrap(a, b, 0.5)
        assert interval is not None
        hits += interval[0] <= 0 <= interval[1]
    assert 180 <= hits <= 200
    assert _bootstrap([1.0] * 19, [1.0] * 30, 0.5) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"workload": "dense"}, "the workload differs: mixed in A, dense in B"),
        ({"seed": 2}, "the seed differs"),
        ({"documents": 9}, "the number of documents differs"),
    ],
)
def test_tests_of_other_pages_are_refused(changes: dict[str, object], words: str) -> None:
    other = Measured(measured().report.model_copy(update=changes))
    with pytest.raises(LoadTestError, match=words) as caught:
        compare(measured(), other)
    assert len(str(caught.value).splitlines()) == 2


def test_another_machine_is_told() -> None:
    report: Report = measured().report
    other = report.model_copy(update={"machine": "a laptop", "complete": False})
    notes = compare(measured(), Measured(other)).notes
    assert any(note.startswith("the machine differs") for note in notes)
    assert "B was interrupted" in notes


def test_another_slo_leaves_goodput_out() -> None:
    slo = report_samples.SLO.model_copy(update={"e2e_p95_s": 1.0})
    found = compare(measured(), Measured(measured().report.model_copy(update={"slo": slo})))
    assert rows(found, "goodput/s") == rows(found, "within the SLO") == []
    assert any(note.startswith("the SLO differs") for note in found.notes)


def test_loads_of_one_side_are_told() -> None:
    report = measured().report
    fewer = report.model_copy(update={"stages": report.stages[:3], "best": 2})
    found = compare(measured(), Measured(fewer))
    assert len(rows(found, "E2E p50, s")) == 3  # of different loads only the most pages compare
    assert "only in A: 8 clients, 16 clients, 32 clients, 64 clients" in found.notes
    assert found.rows[0].load == f"best: {report.stages[report.best or 0].name} (A), 4 clients (B)"


ESTIMATES = st.builds(estimate, st.floats(0, 1000), st.floats(0, 50))


@given(ESTIMATES, ESTIMATES, st.sampled_from([0.0, 0.05, 0.5]))
def test_swapping_turns_better_into_worse(a: Estimate, b: Estimate, threshold: float) -> None:
    one, other = single(a, attainment=b), single(b, attainment=a, warmup_s=1.0)
    there, back = compare(one, other, threshold), compare(other, one, threshold)
    for row, mirrored in zip(there.rows, back.rows, strict=True):
        assert mirrored.verdict == MIRROR.get(row.verdict, row.verdict)


def test_swapping_mirrors_resampled_times() -> None:
    there, back = compare(measured(), measured(2, 1.1)), compare(measured(2, 1.1), measured())
    verdicts = {(row.load, row.metric): row.verdict for row in back.rows}
    for row in there.rows:
        if not row.load.startswith("best"):
            mirrored = verdicts.get((row.load, row.metric), row.verdict)
            assert mirrored == MIRROR.get(row.verdict, row.verdict)


def invoke(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "invoke", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def written(folder: Path, one: Measured) -> str:
    write_atomically(folder / "report.json", one.report.model_dump_json())
    write_atomically(folder / "records.jsonl", record.lines(one.records))
    return str(folder)


def test_the_commands_exit_code_is_for_ci(tmp_path: Path) -> None:
    a, b = written(tmp_path / "a", measured()), written(tmp_path / "b", measured(2, 1.25))
    same = invoke("report.compare", a, a)
    assert same.returncode == 0, same.stderr
    assert "no difference" in same.stdout
    worse = invoke("report.compare", a, b, "--json")
    assert worse.returncode == 9
    told = json.loads(worse.stdout)
    assert told["worse"] == len([row for row in told["rows"] if row["verdict"] == "worse"]) > 0
    assert worse.stderr.startswith(f"error: {told['worse']} of {len(told['rows'])} comparisons")
    assert invoke("report.compare", a, b, "--threshold", "90").returncode in {0, 9}
    missing = invoke("report.compare", a, str(tmp_path / "c"))
    assert missing.returncode == 9
    assert len(missing.stderr.strip().splitlines()) == 2
    assert "Traceback" not in missing.stderr


def test_a_report_is_shown(tmp_path: Path) -> None:
    shown = invoke("report.show", written(tmp_path, measured()))
    assert shown.returncode == 0, shown.stderr
    assert "good pages a second" in shown.stdout.splitlines()[0]
