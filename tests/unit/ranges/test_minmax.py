"""Extremes with and without outlier samples."""

from __future__ import annotations

from calib.ranges.minmax import MinMax, TrimmedMinMax
from calib.values.plan import Scheme, TensorId
from calib.values.summary import TensorSummary

GRID = (Scheme.ASYMMETRIC, 256)


def test_extremes_of_outlier_samples_are_trimmed_on_each_side_alone():
    summary = TensorSummary(TensorId("t"), 100, -150.0, 200.0, -4.0, 5.0, trimmed_high=4.0)
    chosen = TrimmedMinMax()(summary, *GRID)
    assert (chosen.low, chosen.high) == (-150.0, 4.0)
    assert "without those that are outliers" in chosen.reason


def test_without_outlier_samples_it_is_min_max():
    summary = TensorSummary(TensorId("t"), 100, 0.5, 2.0, 0.7, 1.0)
    chosen, plain = TrimmedMinMax()(summary, *GRID), MinMax()(summary, *GRID)
    assert (chosen.low, chosen.high, chosen.reason) == (plain.low, plain.high, plain.reason) == (0.0, 2.0, plain.reason)
