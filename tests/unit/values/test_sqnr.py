"""One convention for decibels: where nothing is lost, where everything is, and where nothing can be said."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calib.values.sqnr import decibel, squared_error

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [(100, 1, 20), (1, 100, -20), (1, 0, INF), (0, 0, INF), (0, 1, -INF), (1, INF, -INF)],
)
def test_decibels_and_their_ends(signal: float, noise: float, expected: float):
    assert decibel(signal, noise) == pytest.approx(expected)


@pytest.mark.parametrize(("signal", "noise"), [(NAN, 1), (INF, 1), (INF, 0), (1, NAN), (NAN, NAN)])
def test_nothing_is_said_of_what_is_not_a_number(signal: float, noise: float):
    assert math.isnan(decibel(signal, noise))


def test_an_error_of_a_tenth_is_twenty_decibels():
    ones = np.ones(10, np.float32)
    assert decibel(*squared_error(ones, ones * 1.1)) == pytest.approx(20, abs=1e-4)
    assert squared_error(ones, ones * 0) == (10, 10)


def test_what_floating_point_itself_does_not_know_is_not_compared():
    assert squared_error(np.array([np.inf, np.nan, 2.0]), np.array([1.0, 1.0, 3.0])) == (4, 1)
    assert math.isnan(squared_error(np.array([1.0]), np.array([np.nan]))[1])


def test_an_output_of_another_shape_is_all_wrong():
    assert squared_error(np.full(3, 2.0), np.ones(4)) == (12, 12)


def test_sums_are_in_double_precision():
    y = np.full(1 << 16, 1 + 2.0**-12, np.float32)
    assert squared_error(y, y)[0] == (1 + 2.0**-12) ** 2 * (1 << 16)
