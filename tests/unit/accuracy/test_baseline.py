from __future__ import annotations

import math

import pytest

from calib.accuracy.baseline import check_baseline
from calib.errors import BaselineError


def test_plausible_baselines_pass():
    check_baseline(0.76, "top1", "fraction", samples=500, chance=0.001, reference=0.7613)
    check_baseline(31.0, "psnr", "dB", samples=10, reference=31.5)
    check_baseline(0.2, "mae", "error", samples=10, higher_is_better=False)


def test_baseline_at_chance_names_the_likely_causes():
    with pytest.raises(BaselineError, match="no better than guessing") as caught:
        check_baseline(0.105, "top1", "fraction", samples=1000, chance=0.1)
    assert all(word in str(caught.value) for word in ("mean/scale", "channel order", "off by one"))


def test_baseline_far_from_the_reference_is_refused_in_both_directions():
    for value in (0.60, 0.95):
        with pytest.raises(BaselineError, match="reference"):
            check_baseline(value, "top1", "fraction", samples=5000, reference=0.7613)


def test_few_samples_widen_the_tolerance():
    check_baseline(0.62, "top1", "fraction", samples=50, reference=0.7613)
    with pytest.raises(BaselineError):
        check_baseline(0.62, "top1", "fraction", samples=5000, reference=0.7613)


def test_tolerance_given_is_the_one_used():
    check_baseline(0.62, "top1", "fraction", samples=5000, reference=0.7613, tolerance=0.2)
    with pytest.raises(BaselineError):
        check_baseline(0.75, "top1", "fraction", samples=5000, reference=0.7613, tolerance=0.01)


def test_reference_in_percent_is_recognized():
    with pytest.raises(BaselineError, match=r"pass 0\.7613"):
        check_baseline(0.76, "top1", "fraction", samples=100, reference=76.13)


@pytest.mark.parametrize("shift", [-1, 1])
def test_labels_off_by_one_are_found_and_the_direction_named(shift):
    with pytest.raises(BaselineError, match=f"off by one. Move them by \\{shift:+d}"):
        check_baseline(
            0.02, "top1", "fraction", samples=100, with_labels_shifted=lambda by: 0.76 if by == shift else 0.01
        )


def test_right_labels_are_not_suspected():
    check_baseline(0.76, "top1", "fraction", samples=100, with_labels_shifted=lambda by: 0.01)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_baseline_without_a_number_is_refused(value):
    with pytest.raises(BaselineError, match="finite"):
        check_baseline(value, "top1", samples=100)


def test_no_sample_right_is_implausible():
    with pytest.raises(BaselineError, match="no sample is right"):
        check_baseline(0.0, "f1", "fraction", samples=100)
