"""Structural similarity against its formula, window by window."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest

from calib.errors import MetricError, UsageError
from calib.metrics.image import Ssim


def slow(x: np.ndarray, y: np.ndarray, peak: float) -> float:
    """Return the mean over windows of 11 by 11 with Gaussian weights, of planes (H, W)."""
    weights = np.array([[exp(-(i**2 + j**2) / (2 * 1.5**2)) for j in range(-5, 6)] for i in range(-5, 6)])
    weights /= weights.sum()
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    values = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
            ma, mb = (weights * a).sum(), (weights * b).sum()
            va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
            both = (weights * (a - ma) * (b - mb)).sum()
            values.append((2 * ma * mb + c1) * (2 * both + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize("peak", [1, 255])
def test_it_is_the_formula_window_by_window(peak):
    random = np.random.default_rng(0)
    want = random.uniform(0, peak, (3, 14, 13))
    got = want + random.normal(0, 0.1 * peak, want.shape)
    want = want.round().astype(np.uint8) if peak == 255 else want
    expected = np.mean([slow(g, w.astype(float), peak) for g, w in zip(got, want, strict=True)])
    assert Ssim().measure([got[None]], want) == pytest.approx(expected, rel=1e-9)
    assert Ssim().measure([got[None]], np.moveaxis(want, 0, 2)) == pytest.approx(expected, rel=1e-9)  # channels last


def test_one_window_over_the_whole_image_by_hand():
    got, want = np.array([[[0.0, 1.0]]]), np.array([[1.0, 0.0]])
    c1, c2 = 0.01**2, 0.03**2  # means .5, variances .25, covariance −.25
    expected = (0.5 + c1) * (-0.5 + c2) / ((0.5 + c1) * (0.5 + c2))
    assert Ssim(window="0").measure([got], want) == pytest.approx(expected)


def test_one_window_takes_the_channels_together():
    random = np.random.default_rng(1)
    got, want = random.random((1, 3, 4, 5)), random.random((3, 4, 5))
    flat = Ssim(window="0").measure([got.reshape(1, 1, 12, 5)], want.reshape(12, 5))
    assert Ssim(window="0").measure([got], want) == pytest.approx(flat, rel=1e-12)


@pytest.mark.parametrize("window", ["2", "-1", "x"])
def test_windows_are_odd(window):
    with pytest.raises(UsageError, match="odd number"):
        Ssim(window=window)


def test_images_that_do_not_fit_are_refused():
    metric, image = Ssim(), np.zeros((1, 3, 12, 12))
    for output, target, message in (
        (image, np.zeros((3, 12, 13)), "12x12 with 3 channels, the target one of 12x13"),
        (np.zeros((1, 3, 8, 8)), np.zeros((3, 8, 8)), "smaller than the window: give .window=, at most 8"),
        (image + np.nan, image[0], "the output holds values that are not finite"),
        (image, image[0] + 2, r"the target is in 0\.\.1, got 2\.\.2"),
        (np.zeros((1, 7)), image[0], None),
        (image, "picture", "a target is an image"),
    ):
        with pytest.raises(MetricError, match=message):
            metric.measure([output], target)
