from __future__ import annotations

import numpy as np
import pytest

from calib.errors import UsageError
from calib.ranges.percentile import Percentile
from calib.values.plan import Scheme, TensorId
from calib.values.summary import Histogram, TensorSummary

VALUES = np.random.default_rng(0).normal(size=200_000).astype(np.float32)


def summary_of(values) -> TensorSummary:
    low, high = float(values.min()), float(values.max())
    return TensorSummary(TensorId("t"), 1, low, high, low, high, Histogram.of(values))


@pytest.mark.parametrize("percent", [90.0, 99.0, 99.9])
def test_it_is_the_quantile_of_the_dataset(percent):
    tail = (100 - percent) / 200
    summary = summary_of(VALUES)
    both = Percentile(percent)(summary, Scheme.ASYMMETRIC, 256)
    np.testing.assert_allclose((both.low, both.high), np.quantile(VALUES, [tail, 1 - tail]), rtol=2**-8)
    even = Percentile(percent)(summary, Scheme.SYMMETRIC, 256)
    assert even.high == -even.low == pytest.approx(np.quantile(np.abs(VALUES), percent / 100), rel=2**-8)
    positive = Percentile(percent)(summary_of(np.abs(VALUES)), Scheme.UNSIGNED, 256)
    assert positive.low == 0.0 and positive.high == pytest.approx(even.high, rel=2**-8)


def test_a_hundred_percent_is_minmax():
    chosen = Percentile(100)(summary_of(VALUES), Scheme.ASYMMETRIC, 256)
    assert (chosen.low, chosen.high) == (VALUES.min(), VALUES.max())


def test_its_name_tells_its_percent():
    assert Percentile().name == "percentile"
    assert Percentile(99.9).name == "percentile-99.9"


@pytest.mark.parametrize("percent", [50.0, 100.1, float("nan")])
def test_a_percent_that_makes_no_sense_is_refused(percent):
    with pytest.raises(UsageError, match="above 50 and at most 100"):
        Percentile(percent)
