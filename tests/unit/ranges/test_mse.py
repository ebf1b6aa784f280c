"""MSE against all ranges there are, and its quick formula against a loop over the bins."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.ranges import get_estimator, mse
from calib.ranges.affine import level_grid
from calib.ranges.bins import Bins, bins_of, grid_errors
from calib.values.plan import Range, Scheme, TensorId
from calib.values.summary import Histogram, TensorSummary

laws = settings(derandomize=True, deadline=None, max_examples=25)


def summary_of(values: np.ndarray) -> TensorSummary:
    values = values.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    return TensorSummary(TensorId("t"), 1, low, high, low, high, Histogram.of(values))


def plain_error(bins: Bins, low: float, high: float, scheme: Scheme, levels: int) -> float:
    """Return the formula of the class with one decision a bin: the side that its lower edge is on."""
    scale, below = (float(v) for v in level_grid(low, high, scheme, levels))
    bottom, top = -below * scale, (levels - 1 - below) * scale
    total = 0.0
    for edge, count, x, square in zip(bins.low, bins.counts, bins.first_moment, bins.second_moment, strict=True):
        if edge < bottom or edge >= top:
            end = bottom if edge < bottom else top
            total += square - 2 * end * x + end**2 * count
        elif -scale / 2 <= edge < scale / 2:
            total += square
        else:
            total += count * scale**2 / 12
    return total


@laws
@given(st.integers(0, 2**32 - 1), st.sampled_from(list(Scheme)), st.integers(3, 40))
def test_the_quick_error_is_that_of_the_formula(seed: int, scheme: Scheme, levels: int):
    rng = np.random.default_rng(seed)
    values = rng.exponential(size=60) if scheme is Scheme.UNSIGNED else rng.normal(size=60)
    bins = bins_of(summary_of(values))
    lows, highs = np.minimum(values.min(), 0) * rng.random(9), values.max() * rng.random(9)
    found = mse._quick_errors(mse._Moments(bins), lows, highs, scheme, levels)
    plain = [plain_error(bins, a, b, scheme, levels) for a, b in zip(lows, highs, strict=True)]
    assert found == pytest.approx(plain, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("levels", [8, 16, 255])
@pytest.mark.parametrize("scheme", list(Scheme))
@pytest.mark.parametrize("law", ["laplace", "skewed", "heap"])
def test_no_range_of_bin_edges_is_clearly_better(law: str, scheme: Scheme, levels: int):
    rng = np.random.default_rng(7)
    values = {
        "laplace": lambda: rng.laplace(size=1000),
        "skewed": lambda: rng.gumbel(size=1000) * 3,
        "heap": lambda: np.append(rng.normal(size=1000) * 0.2, rng.uniform(-9, 9, 20)),
    }[law]()
    values = np.round(values * 8) / 8 + 1 / 16  # few bins, so that all pairs can be tried
    summary = summary_of(np.abs(values) if scheme is Scheme.UNSIGNED else values)
    bins = bins_of(summary)
    edges = np.unique(np.concatenate([bins.low, bins.high, [0.0]]))
    lows, highs = edges[edges <= 0][::2], edges[edges > 0][::2]
    lows, highs = np.array(list(itertools.product(np.append(lows, edges[0]), np.append(highs, edges[-1])))).T
    every = np.concatenate([
        grid_errors(bins, *level_grid(lows[i : i + 500], highs[i : i + 500], scheme, levels), levels)
        for i in range(0, len(lows), 500)
    ])  # fmt: skip
    chosen = get_estimator("mse")(summary, scheme, levels)
    assert min(summary.low, 0.0) <= chosen.low <= 0.0 < chosen.high <= summary.high
    error = grid_errors(bins, *level_grid([chosen.low], [chosen.high], scheme, levels), levels)[0]
    assert error <= 1.03 * every.min()  # the finalists come from the quick formula, which takes bins as wholes


def test_a_gain_is_said_in_decibels_and_none_keeps_min_max():
    values = np.random.default_rng(1).laplace(size=5000)
    summary = summary_of(values)
    chosen, bins = get_estimator("mse")(summary, Scheme.SYMMETRIC, 16), bins_of(summary)
    ends = [summary.low, chosen.low], [summary.high, chosen.high]
    whole, best = grid_errors(bins, *level_grid(*ends, Scheme.SYMMETRIC, 16), 16)
    assert chosen.reason == f"expected squared error {10 * np.log10(whole / best):.2f} dB below min-max's"
    ends_only = np.repeat([-1.0, 0.5, 2.0], 9)  # seen too seldom to count as a grid of pixels
    kept = get_estimator("mse")(summary_of(ends_only), Scheme.ASYMMETRIC, 256)
    assert kept == Range(-1.0, 2.0, "mse", "min-max: no narrower range has a smaller expected squared error")
    zeros = get_estimator("mse")(summary_of(np.zeros(9)), Scheme.UNSIGNED, 256)
    assert zeros == Range(0.0, 0.0, "mse", "min-max: the tensor is zero everywhere it was sampled")
