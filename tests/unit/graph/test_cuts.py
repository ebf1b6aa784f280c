"""Thinning a tensor: never more than asked for, spread evenly, channels last to go."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from calib.graph.cuts import grid, take
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.runtime.session import Session, ov

op = ov.opset13

shapes = st.lists(st.integers(1, 40), min_size=0, max_size=5).map(tuple)


@given(shapes, st.integers(-1, 1), st.integers(1, 5000))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_a_grid_leaves_at_most_what_was_asked_for_by_odd_strides(shape, axis, values):
    axis = 0 if len(shape) < 2 else axis
    strides = grid(shape, axis, values)
    left = [-(-size // stride) for size, stride in zip(shape, strides, strict=True)]
    assert prod(left) <= max(values, 1) and all(stride % 2 == 1 for stride in strides)
    assert prod(shape) > values or set(strides) <= {1}
    channel = axis % len(shape) if shape else 0
    others = prod(count for position, count in enumerate(left) if position != channel)
    assert not shape or strides[channel] == 1 or others == 1


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [((1, 20, 9, 11), 1), ((1, 3, 16, 16), 1), ((2, 7, 30), -1)])
def test_what_is_taken_are_values_of_the_tensor_and_as_many_as_it_says(shape, axis, dynamic):
    data = np.arange(prod(shape), dtype=np.float32).reshape(shape)
    declared = [-1 if dynamic and position >= 2 else size for position, size in enumerate(shape)]
    x = op.parameter(declared, np.float32)
    for values in (50, prod(shape)):
        flat, count = take(op.relu(x).output(0), values, axis)
        (taken,) = Session(ov.Model([op.result(flat)], [x]))([data])
        assert count in (-1, len(taken)) and (count == -1) == dynamic
        assert len(set(taken.tolist())) == len(taken) and set(taken) <= set(data.ravel())
        if values == prod(shape):
            assert len(taken) == prod(shape)
        else:
            assert 10 <= len(taken) <= values * (2 if dynamic else 1)
