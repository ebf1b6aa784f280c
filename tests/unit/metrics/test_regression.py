"""Errors of numbers, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from calib.errors import MetricError
from calib.metrics import regression


def test_errors_of_numbers_are_means_over_elements_then_samples():
    output, target = [np.array([[1.0, 2.0]], np.float32)], [2.0, 4.0]
    assert regression.mae().measure(output, target) == 1.5
    assert regression.mse().measure(output, target) == 2.5
    assert regression.mae().aggregate([1.0, 3.0]) == 2.0


def test_psnr_takes_its_peak_from_the_targets_dtype():
    psnr = regression.psnr()
    assert psnr.measure([np.full((1, 4), 10.0)], np.zeros(4, np.uint8)) == pytest.approx(20 * np.log10(25.5))
    assert psnr.measure([np.full((1, 4), 0.1)], np.zeros(4)) == pytest.approx(20)
    assert psnr.measure([np.zeros((1, 4))], np.zeros(4)) == regression.HIGHEST_PSNR
    with pytest.raises(MetricError, match=r"0\.\.1"):
        psnr.measure([np.zeros((1, 4))], np.full(4, 200.0))


def test_cosine_of_silence_is_one_only_with_silence():
    cosine = regression.cosine()
    assert cosine.measure([np.array([[1.0, 0.0]])], [1.0, 1.0]) == pytest.approx(np.sqrt(0.5))
    assert cosine.measure([np.zeros((1, 2))], [0.0, 0.0]) == 1
    assert cosine.measure([np.zeros((1, 2))], [1.0, 0.0]) == 0


def test_numbers_of_another_shape_or_not_finite_are_refused():
    with pytest.raises(MetricError, match=r"shape \[1, 2\], the target \[3\]"):
        regression.mae().measure([np.zeros((1, 2))], np.zeros(3))
    with pytest.raises(MetricError, match="output holds values that are not finite"):
        regression.mae().measure([np.array([[np.nan]])], [0.0])
    with pytest.raises(MetricError, match="target holds"):
        regression.mae().measure([np.array([[0.0]])], [np.inf])
