"""Functions on the numbers of grids, where they would overflow."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from calib.errors import MetricError
from calib.outputs.grid import ANCHORS, anchors_of, by_anchor, centres_and_strides, growth, sigmoid, softmax


def test_sigmoid_softmax_and_growth_do_not_overflow():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sigmoid(np.array([-1e4, 0, 1e4])).tolist() == [0, 0.5, 1]
        assert softmax(np.array([[1e4, 0, -1e4]])).tolist() == [[1, 0, 0]]
        assert growth(np.array([0, 1e4])).tolist() == [1, np.exp(30.0)]


def test_sigmoid_and_softmax_are_their_formulas():
    x = np.random.default_rng(0).normal(size=(3, 5))
    np.testing.assert_allclose(sigmoid(x), 1 / (1 + np.exp(-x)), rtol=1e-12)
    np.testing.assert_allclose(softmax(x), np.exp(x) / np.exp(x).sum(1, keepdims=True), rtol=1e-12)


def test_every_name_of_anchors_is_pairs():
    for name in ANCHORS:
        assert anchors_of(name, "").shape[1] == 2
    assert anchors_of("1,2,3,4", "").tolist() == [[1, 2], [3, 4]]


def test_cells_run_along_rows_of_the_finest_grid_first():
    grid, stride = centres_and_strides((16, 32), (8, 16))
    assert grid.tolist() == [[x, y] for y in range(2) for x in range(4)] + [[0, 0], [1, 0]]
    assert stride.ravel().tolist() == [8] * 8 + [16] * 2


@pytest.mark.parametrize("shape", [(1, 13, 2, 3), (2, 14, 2, 3), (1, 10, 2, 3), (1, 77)])
def test_channels_that_are_not_those_of_the_anchors_are_refused(shape):
    with pytest.raises(MetricError, match=r"decode mine: reads .* with 2 anchors a cell, the output is \["):
        by_anchor(np.zeros(shape), 2, (64, 96), "mine")
