"""A histogram over float32 bins: exact counts, mergeable in any order."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calib.values.plan import TensorId
from calib.values.summary import Histogram, TensorSummary

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
values = hnp.arrays(np.float32, st.integers(0, 40), elements=finite)
law = settings(derandomize=True, deadline=None, max_examples=60)


def same(one: Histogram, other: Histogram) -> bool:
    return one.codes.tolist() == other.codes.tolist() and one.counts.tolist() == other.counts.tolist()


@law
@given(values, values)
def test_merging_is_counting_together_in_either_order(a, b):
    both = Histogram.of(np.concatenate([a, b]))
    assert same(Histogram.of(a).merge(Histogram.of(b)), both) and same(Histogram.of(b).merge(Histogram.of(a)), both)
    assert both.total == len(a) + len(b)


@law
@given(values.filter(len))
def test_every_value_is_within_a_bin_s_width_of_its_centre(data):
    centres, counts = Histogram.of(data).distribution()
    assert (np.diff(centres) >= 0).all() and counts.sum() == len(data)
    spread = np.repeat(centres, counts)
    # bins are 2^-7 wide relative to their lower end; those of zero hold what is below the smallest normal number
    np.testing.assert_allclose(
        np.sort(data.astype(np.float64)), spread, rtol=2**-7, atol=float(np.finfo(np.float32).tiny)
    )


def test_both_zeros_are_centred_at_zero():
    centres, counts = Histogram.of(np.array([0.0, -0.0, 1e-42, 2.0], np.float32)).distribution()
    assert centres.tolist()[:2] == [0, 0] and sorted(counts.tolist()) == [1, 1, 2]


def test_a_divided_tensor_has_the_extremes_of_its_divided_channels():
    low, high = np.array([-8.0, -1.0, 0.0], np.float32), np.array([4.0, 2.0, 16.0], np.float32)
    given = TensorSummary(TensorId("x"), 5, -8.0, 16.0, -7.0, 15.0, None, low, high)
    found = given.divided(TensorId("y"), np.array([8.0, 0.5, 32.0]))
    assert (found.tensor, found.samples, found.low, found.high) == (TensorId("y"), 5, -2.0, 4.0)
    assert found.channel_low is not None and found.channel_low.tolist() == [-1.0, -2.0, 0.0]
    assert found.channel_high is not None and found.channel_high.tolist() == [0.5, 4.0, 0.5]


def test_a_divided_tensor_that_is_never_negative_starts_at_zero():
    given = TensorSummary(TensorId("x"), 5, 0.0, 6.0, 0.0, 6.0, None, None, np.array([6.0, 3.0], np.float32))
    found = given.divided(TensorId("y"), np.array([2.0, 4.0]))
    assert (found.low, found.high) == (0.0, 3.0)
