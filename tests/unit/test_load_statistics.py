"""Numbers of a load test against what is known, or against another implementation."""

import math
from random import Random
from statistics import NormalDist, quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloister.loadtest import statistics


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=200))
def test_percentiles_are_those_of_the_standard_library(values: list[float]) -> None:
    found = statistics.spread(values)
    assert found is not None
    hundredths = quantiles(values, n=100, method="inclusive")
    assert found.p50 == pytest.approx(hundredths[49])
    assert found.p90 == pytest.approx(hundredths[89])
    assert found.p95 == pytest.approx(hundredths[94])
    assert found.p99 == pytest.approx(hundredths[98])
    assert found.max == max(values)


def test_no_values_have_no_percentiles() -> None:
    assert statistics.spread([]) is None


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    # Newcombe 1998, table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_s_interval_is_that_of_the_literature(
    hits: int, n: int, low: float, high: float
) -> None:
    found = statistics.wilson(hits, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.value == hits / n


def test_the_interval_of_a_rate_holds_the_true_rate_as_often_as_it_says() -> None:
    random, held = Random(1), 0
    for _ in range(400):
        times, at = list[float](), 0.0
        while (at := at + random.expovariate(5)) < 40:
            times.append(at)
        found = statistics.rate(times, 0, 40)
        held += found.low <= 5 <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_a_rate_of_nothing_and_of_no_time() -> None:
    assert statistics.rate([], 0, 10).value == 0
    assert statistics.rate([1.0], 5, 5).n == 0


def test_the_interval_of_a_median_holds_the_true_median_as_often_as_it_says() -> None:
    random, held = Random(2), 0
    for _ in range(400):
        found = statistics.middle([random.lognormvariate(0, 1) for _ in range(60)])
        held += found.low <= 1 <= found.high
    assert held / 400 >= 0.93


@pytest.mark.parametrize("seed", range(20))
def test_the_warm_up_is_found_where_it_ends(seed: int) -> None:
    random = Random(seed)
    values = [random.gauss(10 + 20 * math.exp(-number / 15), 1) for number in range(400)]
    cut = statistics.warmup(values)
    assert 20 <= cut <= 200
    assert sum(values[cut:]) / len(values[cut:]) == pytest.approx(10, abs=0.5)


def test_little_is_cut_of_a_series_that_is_steady_from_the_start() -> None:
    cuts = []
    for seed in range(50):
        random = Random(seed)
        cuts.append(statistics.warmup([random.gauss(10, 1) for _ in range(400)]))
    assert sorted(cuts)[25] <= 100


def test_nobody_can_tell_of_few_values() -> None:
    assert statistics.warmup([1.0] * 49) == 0
    assert not statistics.steady([1.0] * 19)


def test_a_trend_is_seen_and_noise_is_not_taken_for_one() -> None:
    wrong = 0
    for seed in range(200):
        random = Random(seed)
        wrong += not statistics.steady([random.gauss(10, 1) for _ in range(100)])
        assert not statistics.steady([random.gauss(10 + number / 20, 1) for number in range(100)])
    assert wrong / 200 <= 0.03


def test_a_mean_of_one_value_is_not_to_be_trusted() -> None:
    assert statistics.mean([3.0]).high == math.inf
    found = statistics.mean([1.0, 2.0, 3.0, 4.0])
    z = NormalDist().inv_cdf(0.975)
    assert found.high - found.value == pytest.approx(z * 1.2909944 / 2)
