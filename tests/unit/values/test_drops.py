"""A drop is written in one unit everywhere, and a small one is not called nothing."""

from __future__ import annotations

import math

import pytest

from calib.values.drops import drop_text, value_text


@pytest.mark.parametrize(
    ("kind", "unit", "drop", "text"),
    [
        ("absolute", "fraction", 0.005, "0.50 points"),
        ("absolute", "fraction", 0.0, "0.00 points"),
        ("absolute", "fraction", 0.00004, "0.004 points"),
        ("absolute", "fraction", -0.0123, "−1.23 points"),
        ("relative", "mIoU", 0.01, "1.00 % of the baseline"),
        ("absolute", "dB", 0.2, "0.2 dB"),
        ("absolute", "1 − relative error", 0.05, "0.05 relative error"),
        ("absolute", "of the signal", 0.001, "0.001 of the signal (30.0 dB)"),
        ("absolute", "of the signal", 2.0, "2 of the signal (−3.0 dB)"),
        ("absolute", "of the signal", 0.0, "0 of the signal"),
        ("absolute", "", 0.01234, "0.0123"),
        ("absolute", "fraction", math.inf, "∞ points"),
        ("absolute", "fraction", -2.8e-206, "0.00 points"),
        ("absolute", "1 − relative error", 1e-17, "0 relative error"),
    ],
)
def test_a_drop_is_written_in_the_unit_of_its_metric(kind: str, unit: str, drop: float, text: str):
    assert drop_text(kind, unit, drop) == text


def test_a_value_is_told_apart_from_a_unit_that_starts_with_a_number():
    assert value_text("1 − relative error", 1.0) == "1 (1 − relative error)"
    assert (value_text("mIoU", 0.81), value_text("fraction", 0.81)) == ("0.81 mIoU", "81.00 %")
