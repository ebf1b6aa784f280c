from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from calib.corrections.linear import convolution_rows

laws = settings(derandomize=True, deadline=None, max_examples=20)


@laws
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 4]),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_rows_times_weights_are_the_convolution(seed, groups, kernel, strides, dilations, pads):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, 4, 9, 8))
    weights = rng.normal(size=(groups, 3, 4 // groups, *kernel))
    rows = convolution_rows(x, kernel, strides, pads, (1, 0), dilations, groups)
    ours = np.einsum("rgk,gok->rgo", rows, weights.reshape(groups, 3, -1)).reshape(len(rows), -1)

    padded = np.pad(x, [(0, 0), (0, 0), (pads[0], 1), (pads[1], 0)])
    dilated = np.zeros((*weights.shape[:3], *[(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]))
    dilated[..., :: dilations[0], :: dilations[1]] = weights
    inputs = padded.reshape(2, groups, 4 // groups, *padded.shape[2:])
    expected = np.array(
        [
            [correlate(inputs[b, g], dilated[g, o], mode="valid")[0] for g in range(groups) for o in range(3)]
            for b in range(2)
        ]
    )[..., :: strides[0], :: strides[1]]
    np.testing.assert_allclose(ours, np.moveaxis(expected, 1, -1).reshape(len(rows), -1), atol=1e-12)


def test_one_spatial_axis_works_too():
    x = np.arange(6.0)[None, None]
    rows = convolution_rows(x, (3,), (1,), (1,), (0,), (1,))
    np.testing.assert_array_equal(rows[:, 0], [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]])


@pytest.mark.parametrize("limit", [1, 7, 72])
def test_a_limit_takes_rows_evenly_and_no_more(limit):
    x = np.random.default_rng(0).normal(size=(1, 2, 9, 8))
    rows = convolution_rows(x, (1, 1), (1, 1), (0, 0), (0, 0), (1, 1), limit=limit)
    assert rows.shape == (limit, 1, 2)
    whole = convolution_rows(x, (1, 1), (1, 1), (0, 0), (0, 0), (1, 1))
    assert all((whole == row).all(axis=(1, 2)).any() for row in rows)
