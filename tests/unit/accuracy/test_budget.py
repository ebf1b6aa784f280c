from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.accuracy.budget import Budget, noise_note
from calib.errors import MetricError, UsageError

numbers = st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1e-6)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(numbers, numbers, st.sampled_from(["absolute", "relative"]))
def test_drop_is_positive_exactly_when_the_value_is_worse_in_either_direction(baseline, value, kind):
    higher = Budget(0.1, kind, higher_is_better=True).drop(baseline, value)
    lower = Budget(0.1, kind, higher_is_better=False).drop(baseline, value)
    assert (higher > 0) == (value < baseline)
    assert (lower > 0) == (value > baseline)


def test_relative_drop_divides_by_the_magnitude_of_a_negative_baseline():
    assert Budget(0.1, "relative").drop(-2.0, -2.5) == pytest.approx(0.25)


def test_relative_drop_refuses_a_baseline_of_zero_and_names_the_way_out():
    with pytest.raises(MetricError, match="absolute"):
        Budget(0.1, "relative").drop(0.0, 1.0)


def test_baseline_without_a_number_is_refused():
    with pytest.raises(MetricError, match="finite"):
        Budget(0.1).drop(math.nan, 1.0)


def test_model_without_a_number_loses_infinitely_much():
    assert Budget(0.1).drop(0.9, math.nan) == math.inf
    assert not Budget(0.1).fits(math.inf)


def test_budget_allows_exactly_its_drop_in_spite_of_binary_rounding():
    budget = Budget(0.01)
    assert 0.87 - 0.86 > 0.01
    assert budget.fits(budget.drop(0.87, 0.86))
    assert not budget.fits(0.010001)


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_budget_that_is_no_amount_is_refused(bad):
    with pytest.raises(UsageError, match="max_drop"):
        Budget(bad)


def test_unknown_kind_is_refused():
    with pytest.raises(UsageError, match="absolute"):
        Budget(0.1, "percent")  # type: ignore[arg-type]


def test_note_appears_only_where_the_budget_lies_below_the_noise():
    assert noise_note(Budget(0.01), 5000, 0.0055) == ""
    note = noise_note(Budget(0.01), 500, 0.0175)
    assert "500 samples" in note and "1,532" in note  # 500 · 1.75²
    assert "no sample size" in noise_note(Budget(0.0), 500, 0.0175)
