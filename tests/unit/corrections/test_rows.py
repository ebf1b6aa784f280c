from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from calib.corrections.rows import Pick, Taken, pick_positions, second_moments, values_at

laws = settings(derandomize=True, deadline=None, max_examples=20)


def convolution_rows(x, kernel, strides, begin, end, dilations, groups=1, limit=None):
    pick = pick_positions(x.shape, kernel, strides, begin, end, dilations, limit)
    values = values_at(x, pick.positions)
    return Taken(values.reshape(len(values), groups, -1), pick).rows()


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


@laws
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 4]), st.sampled_from([None, 5]))
def test_sums_are_those_of_the_rows_which_all_positions_make_up_too(seed, groups, limit):
    x = np.random.default_rng(seed).integers(-128, 128, size=(2, 4, 7, 6)).astype(np.float32)
    pick = pick_positions(x.shape, (3, 2), (2, 1), (1, 0), (1, 1), (1, 2), limit)
    values = values_at(x, pick.positions)
    taken = Taken(values.reshape(len(values), groups, -1), pick)
    assert taken.count == len(taken.rows()) == (limit or taken.count)
    np.testing.assert_array_equal(taken.sums(), taken.rows().sum(axis=0))
    every = values_at(x, np.arange(84)).reshape(84, groups, -1)
    np.testing.assert_array_equal(Taken(every, pick.among_all(84)).rows(), taken.rows())


def test_a_pointwise_kernel_takes_each_position_once():
    pick = pick_positions((1, 3, 5, 5), (1, 1), (2, 2), (0, 0), (0, 0), (1, 1))
    assert isinstance(pick, Pick)
    assert pick.positions.tolist() == [0, 2, 4, 10, 12, 14, 20, 22, 24]
    assert pick.index[:, 0].tolist() == list(range(9))


@pytest.mark.parametrize("largest", [3, 255])
def test_second_moments_are_exact_however_large_the_sums(largest):
    rows = np.random.default_rng(3).integers(-largest, largest + 1, size=(900, 2, 5)).astype(np.int16)
    rows[:, 1, 3] = largest
    wide = rows.astype(np.int64).transpose(1, 0, 2)
    assert (largest**2 * 900 > 2**24) == (largest == 255)
    parts = [Taken(rows[:10]), Taken(rows[10:210]), Taken(rows[210:])]
    np.testing.assert_array_equal(second_moments(parts), wide.transpose(0, 2, 1) @ wide)
    dense = rows.reshape(900, 1, 10).astype(np.int64)
    np.testing.assert_array_equal(second_moments([Taken(rows.reshape(900, 1, 10))])[0], dense[:, 0].T @ dense[:, 0])


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_rows_by_group_are_the_rows(groups):
    pick = pick_positions((1, 6, 5, 4), (3, 3), (1, 1), (1, 1), (1, 1), (1, 1), 11)
    values = np.random.default_rng(4).integers(-9, 9, size=(len(pick.positions), groups, 6 // groups))
    taken = Taken(values.astype(np.int16), pick)
    np.testing.assert_array_equal(taken.by_group(), taken.rows().transpose(1, 0, 2))
