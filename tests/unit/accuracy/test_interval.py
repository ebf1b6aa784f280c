from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from calib.accuracy.budget import (
    RESAMPLES,
    Z,
    bootstrap_interval,
    mean_interval,
    paired_interval,
    score_interval,
    value_interval,
)
from calib.errors import MetricError


def test_interval_without_discordant_samples_is_about_three_in_n():
    for samples in (1, 50, 1000):
        low, high = score_interval(0, 0, samples)
        assert high == pytest.approx(Z**2 / (samples + Z**2), rel=1e-6)
        assert low == pytest.approx(-high, rel=1e-6)


@pytest.mark.parametrize(("lost", "gained", "samples"), [(1, 0, 44), (9, 3, 200), (2, 14, 60), (40, 40, 1000)])
def test_both_limits_solve_the_equation_of_the_score_test(lost, gained, samples):
    # The nuisance parameter is found by maximizing the restricted likelihood numerically: no closed form shared.
    for limit, sign in zip(score_interval(lost, gained, samples), (1, -1), strict=True):

        def unlikelihood(p: float, delta: float = limit) -> float:
            cells = ((lost, p + delta), (gained, p), (samples - lost - gained, 1 - 2 * p - delta))
            return -sum(count * math.log(max(share, 1e-300)) for count, share in cells if count)

        p = minimize_scalar(
            unlikelihood, bounds=(max(0.0, -limit), (1 - limit) / 2), method="bounded", options={"xatol": 1e-12}
        ).x
        statistic = (lost - gained - samples * limit) / math.sqrt(samples * (2 * p + limit * (1 - limit)))
        assert statistic == pytest.approx(sign * Z, rel=1e-3)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 500))
def test_score_interval_holds_the_estimate_stays_in_bounds_and_mirrors(lost, gained, same):
    samples = max(1, lost + gained + same)
    low, high = score_interval(lost, gained, samples)
    assert -1 <= low <= (lost - gained) / samples <= high <= 1
    assert high - low > 0
    assert score_interval(gained, lost, samples) == pytest.approx((-high, -low), abs=1e-6)


def test_score_interval_covers_the_truth_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    lost, gained, samples = 0.03, 0.01, 300
    draws = random.multinomial(samples, [lost, gained, 1 - lost - gained], size=800)
    found = [score_interval(b, c, samples) for b, c, _ in draws]
    coverage = np.mean([low <= lost - gained <= high for low, high in found])
    assert coverage == pytest.approx(0.95, abs=0.025)  # three standard errors of 800 draws


def test_verdicts_get_the_score_interval_in_the_metrics_direction():
    baseline, scores = np.ones(100), np.ones(100)
    scores[:7] = 0
    interval = paired_interval(baseline, scores, higher_is_better=True)
    assert interval is not None and "Tango" in interval.method
    assert interval.low < 0.07 < interval.high and interval.low > 0
    mirrored = paired_interval(baseline, scores, higher_is_better=False)
    assert mirrored is not None and mirrored.high < 0


def test_continuous_scores_get_students_interval():
    random = np.random.default_rng(0)
    baseline = random.normal(20, 5, 200)
    losses = random.normal(0.3, 0.1, 200)
    interval = paired_interval(baseline, baseline - losses, higher_is_better=True)
    assert interval is not None and "Student" in interval.method
    assert interval.low < 0.3 < interval.high
    # Pairing takes the spread of the samples out: far below 5/sqrt(200).
    assert interval.half_width < 0.05


def test_interval_is_none_where_the_samples_allow_none():
    assert paired_interval(np.array([5.0]), np.array([4.0]), True) is None
    assert paired_interval(np.array([]), np.array([]), True) is None
    assert paired_interval(np.array([5.0, math.nan]), np.array([4.0, 4.0]), True) is None
    assert mean_interval(np.array([1.0])) is None


def _drop_of_medians(before, after):
    before, after = np.array(before), np.array(after)
    return lambda chosen: float(np.median(before[chosen]) - np.median(after[chosen]))


def test_bootstrap_is_deterministic_bounded_and_holds_the_drop():
    random = np.random.default_rng(0)
    baseline = random.normal(1, 0.2, 150).tolist()
    parts = [x - 0.1 for x in baseline]
    calls = []

    def drop(chosen):
        calls.append(len(chosen))
        return _drop_of_medians(baseline, parts)(chosen)

    first = bootstrap_interval(drop, 150)
    assert first == bootstrap_interval(_drop_of_medians(baseline, parts), 150)
    assert calls == [150] * RESAMPLES
    assert first is not None and first.low == pytest.approx(0.1) and first.high == pytest.approx(0.1)


def test_bootstrap_leaves_out_resamples_without_a_value_and_gives_up_when_most_are():
    random = np.random.default_rng(0)

    def often_undefined(chosen):
        if random.random() < 0.8:
            raise MetricError("one class only")
        return 0.0

    assert bootstrap_interval(often_undefined, 10) is None


def test_one_part_has_no_interval_since_it_resamples_only_to_itself():
    assert bootstrap_interval(_drop_of_medians([0.0], [0.1]), 1) is None
    assert bootstrap_interval(_drop_of_medians([0.0, 0.2], [0.1, 0.1]), 2) is not None


@pytest.mark.parametrize(("right", "samples"), [(0, 20), (1, 20), (10, 20), (20, 20), (873, 1000)])
def test_the_share_of_right_samples_has_the_interval_whose_ends_solve_wilsons_equation(right, samples):
    found = value_interval(np.array([1.0] * right + [0.0] * (samples - right)), share=True)
    assert found is not None and "Wilson" in found.method and 0 <= found.low <= right / samples <= found.high <= 1
    for end in {found.low, found.high} - {0.0, 1.0}:
        assert (right / samples - end) ** 2 == pytest.approx(Z * Z * end * (1 - end) / samples)
    assert found.low < found.high  # also where all are right


def test_the_interval_of_a_fraction_ends_at_one_and_that_of_another_unit_does_not():
    scores = np.array([1.0] * 30 + [0.9])
    fraction, other = value_interval(scores, share=True), value_interval(scores, share=False)
    assert fraction is not None and other is not None and fraction.high == 1.0 < other.high
    assert fraction.low == other.low
    assert value_interval(np.array([0.5]), share=True) is None
    assert value_interval(np.array([0.5, math.inf]), share=False) is None
