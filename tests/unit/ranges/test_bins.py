from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import expected_error, quantize_dequantize

from calib.errors import StatisticsError
from calib.ranges.affine import range_limits
from calib.ranges.bins import clipped_share, expected_parts
from calib.values.plan import Range, Scheme, TensorId
from calib.values.summary import Histogram, TensorSummary

laws = settings(derandomize=True, deadline=None, max_examples=25)


def summary_of(values) -> TensorSummary:
    values = np.asarray(values, np.float32)
    low, high = float(values.min()), float(values.max())
    return TensorSummary(TensorId("t"), 1, low, high, low, high, Histogram.of(values))


def true_error(values, chosen, scheme, levels=256):
    low, high = range_limits(chosen, scheme, levels)
    values = np.asarray(values, np.float32)
    return float(np.mean((quantize_dequantize(values, low, high, levels).astype(np.float64) - values) ** 2))


@laws
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["normal", "laplace", "uniform", "exponential"]),
    st.floats(0.02, 1.0),
    st.floats(0.02, 1.0),
    st.sampled_from([Scheme.ASYMMETRIC, Scheme.SYMMETRIC]),
)
def test_expected_error_is_the_true_one(seed, law, low, high, scheme):
    values = getattr(np.random.default_rng(seed), law)(size=40_000).astype(np.float32)
    summary = summary_of(values)
    chosen = Range(min(summary.low * low, 0.0), summary.high * high)
    expected = expected_error(summary, chosen, scheme, 256)
    # 40,000 values tell their own mean square to about 1/sqrt(40,000) of a few times itself
    assert expected == pytest.approx(true_error(values, chosen, scheme), rel=0.05)


def test_values_on_levels_cost_nothing_but_the_width_of_their_bins():
    summary = summary_of(np.repeat([0.0, 6.0], 100))
    assert expected_error(summary, Range(0.0, 6.0), Scheme.UNSIGNED, 256) <= (6.0 * 2**-15) ** 2


def test_values_that_round_to_zero_cost_their_square():
    values = np.append(np.full(999, 0.3), 255.0)
    summary = summary_of(values)
    assert expected_error(summary, Range(0.0, 255.0), Scheme.UNSIGNED, 256) == pytest.approx(0.999 * 0.09, rel=2**-7)


def test_rounding_and_clipping_add_up_to_the_whole():
    values = np.random.default_rng(1).normal(size=20_000)
    summary, chosen = summary_of(values), Range(-1.0, 2.0)
    parts = expected_parts(summary, chosen, Scheme.ASYMMETRIC, 256)
    assert parts.total == pytest.approx(expected_error(summary, chosen, Scheme.ASYMMETRIC, 256))
    low, high = range_limits(chosen, Scheme.ASYMMETRIC, 256)
    clipped = np.maximum(values - high, 0) + np.maximum(low - values, 0)
    half = (high - low) / 255 / 2
    assert parts.clipping == pytest.approx(np.mean(np.where(clipped > half, clipped, 0) ** 2), rel=0.02)
    assert parts.power == pytest.approx(np.mean(values**2), rel=1e-3)
    assert parts.sqnr == pytest.approx(10 * np.log10(parts.power / parts.total))


def test_the_whole_range_clips_nothing():
    summary = summary_of(np.random.default_rng(2).normal(size=5000))
    whole = Range(summary.low, summary.high)
    assert clipped_share(summary, whole) == 0.0
    for scheme in (Scheme.ASYMMETRIC, Scheme.SYMMETRIC):
        assert expected_parts(summary, whole, scheme, 256).clipping == 0.0


@laws
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1.0))
def test_clipped_share_is_the_share_of_values_outside(seed, part):
    values = np.random.default_rng(seed).normal(size=20_000)
    summary = summary_of(values)
    chosen = Range(summary.low * part, summary.high * part)
    share = np.mean((values < chosen.low) | (values > chosen.high))
    assert clipped_share(summary, chosen) == pytest.approx(share, abs=0.003)


@pytest.mark.parametrize("unit", [1.0, 2.0**-6, 2.0**10])
def test_a_bin_that_a_range_cuts_counts_for_the_part_outside(unit):
    values = unit * np.linspace(1.0, 1.0 + 2.0**-7, 1000, endpoint=False)  # one bin of the histogram
    cut = Range(0.0, unit * (1.0 + 2.0**-9))
    assert clipped_share(summary_of(values), cut) == pytest.approx(0.75, abs=0.01)
    assert clipped_share(summary_of(values), Range(0.0, unit)) == pytest.approx(1.0, abs=0.01)


def test_a_constant_tensor_is_inside_its_own_range():
    assert clipped_share(summary_of([3.3] * 10), Range(0.0, float(np.float32(3.3)))) == 0.0


def test_a_missing_histogram_is_named_with_the_way_out():
    summary = TensorSummary(TensorId("conv", 1), 1, 0.0, 1.0, 0.0, 1.0)
    with pytest.raises(StatisticsError, match=r"conv:1 has no histogram.*'minmax'"):
        expected_error(summary, Range(0.0, 1.0), Scheme.UNSIGNED, 256)
