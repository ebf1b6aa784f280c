"""What every range estimator of the table promises; a newcomer is tested before its author writes a test.

covers: calib.ranges, calib.ranges.estimator
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import expected_error

from calib.errors import StatisticsError, UsageError
from calib.ranges import ESTIMATORS, get_estimator
from calib.ranges.percentile import Percentile
from calib.values.plan import Scheme, TensorId
from calib.values.summary import Histogram, TensorSummary

laws = settings(derandomize=True, deadline=None, max_examples=12)
every = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=list(ESTIMATORS))
grids = st.sampled_from(
    [(Scheme.UNSIGNED, 256), (Scheme.ASYMMETRIC, 256), (Scheme.SYMMETRIC, 256), (Scheme.SYMMETRIC, 255)]
)


def values_of(seed: int, law: str) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(8, 400)) * np.exp(rng.normal() * 3)
    if law == "relu":
        x = np.maximum(x, 0)
    elif law == "silu":
        x = x / (1 + np.exp(-np.clip(x, -80, 80)))
    elif law == "outliers":
        x[rng.random(x.shape) < 1e-3] *= 50
    elif law == "shifted":
        x = x + 4 * np.abs(x).max()
    elif law == "negative":
        x = -np.abs(x)
    return x.astype(np.float32)


tensors = st.builds(
    values_of,
    st.integers(0, 2**32 - 1),
    st.sampled_from(["normal", "relu", "silu", "outliers", "shifted", "negative"]),
)


def summary_of(samples: np.ndarray) -> TensorSummary:
    lows, highs = samples.min(axis=1), samples.max(axis=1)
    return TensorSummary(
        TensorId("t"),
        len(samples),
        float(lows.min()),
        float(highs.max()),
        float(lows.astype(np.float64).mean()),
        float(highs.astype(np.float64).mean()),
        Histogram.of(samples),
    )


@every
def test_the_table_knows_it_by_its_own_name(estimator):
    assert get_estimator(estimator.name) is estimator
    assert get_estimator(estimator) is estimator
    assert estimator.__doc__ and estimator.__doc__.strip()


@every
@laws
@given(tensors, grids)
def test_range_holds_zero_and_stays_inside_the_data(estimator, samples, grid):
    summary = summary_of(samples)
    chosen = estimator(summary, *grid)
    assert min(summary.low, 0.0) <= chosen.low <= 0.0 <= chosen.high <= max(summary.high, 0.0)
    assert chosen.low < chosen.high
    assert chosen.estimator == estimator.name and chosen.reason


@every
@laws
@given(tensors, grids, st.integers(-12, 20))
def test_range_scales_exactly_with_powers_of_two(estimator, samples, grid, power):
    plain = estimator(summary_of(samples), *grid)
    scaled = estimator(summary_of(samples * np.float32(2.0**power)), *grid)
    assert (scaled.low, scaled.high) == (plain.low * 2.0**power, plain.high * 2.0**power)


@every
@laws
@given(tensors, grids, st.floats(0.1, 10.0))
def test_range_scales_with_any_factor_within_the_width_of_a_bin(estimator, samples, grid, factor):
    factor = float(np.float32(factor))
    plain, scaled = summary_of(samples), summary_of(samples * np.float32(factor))
    one, other = estimator(plain, *grid), estimator(scaled, *grid)
    # both are at most one bin, 2^-7, from what the data itself would give
    same_ends = np.allclose([other.low, other.high], [one.low * factor, one.high * factor], rtol=2**-6, atol=0)
    # where two distant ends are equally good, the choice may jump, but must cost the same
    cost = expected_error(scaled, other, *grid) / (expected_error(plain, one, *grid) * factor**2)
    assert same_ends or 2 / 3 <= cost <= 3 / 2


@every
@laws
@given(tensors, grids, st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_range_does_not_depend_on_order_or_split(estimator, samples, grid, seed, parts):
    whole = summary_of(samples)
    order = np.random.default_rng(seed).permutation(samples.size)
    pieces = np.array_split(samples.reshape(-1)[order], parts)
    merged = Histogram.of(pieces[0])
    for piece in pieces[1:]:
        merged = Histogram.of(piece).merge(merged)
    assert estimator(replace(whole, histogram=merged), *grid) == estimator(whole, *grid)


@every
@pytest.mark.parametrize("scheme", list(Scheme))
@pytest.mark.parametrize("value", [0.0, 3.3, -3.3, 1e-30, 3e38])
def test_a_constant_tensor_gets_a_range_that_reaches_it(estimator, scheme, value):
    samples = np.full((3, 5), value, np.float32)
    chosen = estimator(summary_of(samples), scheme, 256)
    if value < 0 and scheme is Scheme.UNSIGNED:
        assert chosen.low <= 0.0 <= chosen.high
    else:
        constant = float(np.float32(value))
        # one bin of the histogram at most is lost on the way
        np.testing.assert_allclose((chosen.low, chosen.high), (min(constant, 0), max(constant, 0)), rtol=2**-7)


@every
def test_a_single_value_is_enough(estimator):
    chosen = estimator(summary_of(np.float32([[0.7]])), Scheme.ASYMMETRIC, 256)
    assert (chosen.low, chosen.high) == (0.0, pytest.approx(0.7, rel=2**-7))


@every
def test_an_empty_histogram_falls_back_to_the_extremes(estimator):
    empty = Histogram(np.zeros(0, np.uint16), np.zeros(0, np.int64))
    summary = TensorSummary(TensorId("t"), 1, -1.0, 2.0, -1.0, 2.0, empty)
    chosen = estimator(summary, Scheme.ASYMMETRIC, 256)
    assert (chosen.low, chosen.high) == (-1.0, 2.0)


@every
@pytest.mark.parametrize("scheme", list(Scheme))
def test_extremes_that_the_histogram_missed_do_no_harm(estimator, scheme):
    # a histogram of every 4th sample does not know the dataset's extremes
    samples = np.abs(values_of(5, "normal"))
    summary = replace(summary_of(samples), high=float(samples.max()) * 1.5, low=0.0)
    chosen = estimator(summary, scheme, 256)
    assert 0.0 == chosen.low < chosen.high <= summary.high


@every
def test_what_needs_a_histogram_says_so(estimator):
    summary = TensorSummary(TensorId("t"), 1, -1.0, 2.0, -1.0, 2.0)
    if estimator.needs_histogram:
        with pytest.raises(StatisticsError, match="t:0 has no histogram"):
            estimator(summary, Scheme.ASYMMETRIC, 256)
    else:
        assert estimator(summary, Scheme.ASYMMETRIC, 256).high == 2.0


@pytest.mark.parametrize("name", ["kl", "mse", "auto"])
@laws
@given(tensors, grids)
def test_guarded_estimators_never_expect_more_error_than_minmax(name, samples, grid):
    # auto counts clipping twice, and min-max clips nothing: what it prefers to min-max has less error counted once too
    summary = summary_of(samples)
    bound = expected_error(summary, ESTIMATORS["minmax"](summary, *grid), *grid)
    assert expected_error(summary, ESTIMATORS[name](summary, *grid), *grid) <= bound * (1 + 1e-9)


@laws
@given(tensors, grids, st.floats(50.1, 100.0), st.floats(50.1, 100.0))
def test_percentile_is_monotone(samples, grid, one, other):
    summary = summary_of(samples)
    narrow, wide = (Percentile(p)(summary, *grid) for p in sorted((one, other)))
    assert wide.low <= narrow.low and narrow.high <= wide.high


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(UsageError, match="no range estimator 'minmaxx'; choose one of auto, minmax, mean-minmax"):
        get_estimator("minmaxx")


def test_an_object_that_is_no_estimator_is_refused():
    with pytest.raises(UsageError, match="has a name and needs_histogram; got 3"):
        get_estimator(3)
