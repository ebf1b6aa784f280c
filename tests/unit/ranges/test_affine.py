from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import quantize_dequantize

from calib.errors import UsageError
from calib.ranges.affine import (
    SCALE_FLOOR,
    channel_limits,
    fake_quantize_limits,
    level_grid,
    quantize_weights,
    range_limits,
    round_to_levels,
    weight_scale,
)
from calib.values.plan import Range, Scheme

laws = settings(derandomize=True, deadline=None, max_examples=60)
ends = st.floats(0, 2.0**60, allow_subnormal=False)
grids = st.sampled_from([(s, n) for s in Scheme for n in (256, 255, 127, 16)])


@laws
@given(ends, ends, grids)
def test_zero_lies_exactly_on_a_level_in_float32(low, high, grid):
    scheme, levels = grid
    bottom, top = fake_quantize_limits(-low, high, scheme, levels)
    steps = np.float32(levels - 1)
    scale = (top - bottom) / steps
    zero_point = -bottom / scale
    assert zero_point == np.rint(zero_point)
    assert np.float32(zero_point) * scale + bottom == 0
    assert not quantize_dequantize([0.0, -0.0], bottom, top, levels).any()


@laws
@given(ends, ends, grids)
def test_limits_cover_the_range_up_to_half_a_level(low, high, grid):
    scheme, levels = grid
    bottom, top = map(float, fake_quantize_limits(-low, high, scheme, levels))
    half = (top - bottom) / (levels - 1) / 2 if scheme is Scheme.ASYMMETRIC else 0.0
    slack = half * (1 + 2**-15)
    assert top >= high - slack
    assert scheme is Scheme.UNSIGNED or bottom <= -low + slack


@laws
@given(ends, ends, grids, st.integers(-20, 20))
def test_limits_scale_with_powers_of_two(low, high, grid, power):
    floor = SCALE_FLOOR * 256 * 2.0**21
    plain = fake_quantize_limits(-low - floor, high + floor, *grid)
    scaled = fake_quantize_limits((-low - floor) * 2.0**power, (high + floor) * 2.0**power, *grid)
    assert [float(v) * 2.0**power for v in plain] == [float(v) for v in scaled]


def test_symmetric_uses_one_level_more_below_zero_with_256_levels():
    low, high = fake_quantize_limits(-1.0, 127.0, Scheme.SYMMETRIC, 256)
    assert (low, high) == (-128.0, 127.0)
    assert fake_quantize_limits(-1.0, 127.0, Scheme.SYMMETRIC, 255) == (-127.0, 127.0)
    assert fake_quantize_limits(-128.0, 3.0, Scheme.SYMMETRIC, 256) == (-128.0, 127.0)


def test_unsigned_starts_at_zero_and_asymmetric_snaps_its_zero_point():
    assert fake_quantize_limits(0.0, 255.0, Scheme.UNSIGNED, 256) == (0.0, 255.0)
    assert fake_quantize_limits(-3.4, 251.6, Scheme.ASYMMETRIC, 256) == (-3.0, 252.0)


def test_a_range_without_width_gets_the_documented_floor():
    low, high = range_limits(Range(0.0, 0.0), Scheme.ASYMMETRIC, 256)
    assert low <= 0 <= high and high - low == np.float32(SCALE_FLOOR * 255)
    assert not quantize_dequantize(np.zeros(3), low, high, 256).any()


def test_a_range_beside_zero_is_widened_to_hold_it():
    assert fake_quantize_limits(51.0, 255.0, Scheme.ASYMMETRIC, 256) == (0.0, 255.0)
    assert fake_quantize_limits(-255.0, -51.0, Scheme.ASYMMETRIC, 256) == (-255.0, 0.0)


def test_levels_that_int8_does_not_have_are_refused():
    with pytest.raises(UsageError, match="2 to 256 levels, got 257"):
        level_grid(0.0, 1.0, Scheme.UNSIGNED, 257)


def test_quantize_dequantize_rounds_halves_to_even_and_clips():
    x = [-9.0, -0.5, 0.5, 1.5, 2.5, 2.51, 254.5, 300.0]
    assert quantize_dequantize(x, 0.0, 255.0, 256).tolist() == [0, 0, 0, 2, 2, 3, 254, 255]


@laws
@given(st.integers(0, 2**32 - 1), st.sampled_from([255, 127]))
def test_a_weight_is_at_most_half_a_scale_off(seed, levels):
    weights = np.random.default_rng(seed).normal(size=(4, 3, 2, 2)).astype(np.float32)
    quantized, scale = quantize_weights(weights, (4, 1, 1, 1), levels)
    assert quantized.dtype == np.int8 and scale.dtype == np.float32 and scale.shape == (4, 1, 1, 1)
    assert np.abs(quantized).max() == (levels - 1) // 2
    # half a scale, and what float32 rounds away of up to 127 scales
    assert np.all(np.abs(quantized * scale - weights) <= scale * (0.5 + 127 * 2**-22))


def test_scales_are_shared_over_the_axes_of_size_one():
    weights = np.array([[1.0, -2.0], [0.5, 0.25]])
    assert weight_scale(weights, (1, 2)).tolist() == np.float32([[1 / 127, 2 / 127]]).tolist()
    assert weight_scale(weights, (1, 1)).tolist() == np.float32([[2 / 127]]).tolist()
    grouped = np.ones((2, 3, 4, 1, 1))
    assert weight_scale(grouped, (2, 3, 1, 1, 1)).shape == (2, 3, 1, 1, 1)


def test_a_dead_channel_gets_the_floor_and_stays_zero():
    quantized, scale = quantize_weights(np.array([[0.0, 0.0], [1.0, -1.0]]), (2, 1))
    assert quantized.tolist() == [[0, 0], [127, -127]]
    assert scale[0, 0] == SCALE_FLOOR


def test_clip_keeps_a_share_of_each_largest_magnitude():
    weights = np.array([[1.0, -2.0], [4.0, 2.0]])
    quantized, scale = quantize_weights(weights, (2, 1), clip=(0.5, 1.0))
    np.testing.assert_array_equal(scale.reshape(-1), np.float32([1 / 127, 4 / 127]))
    assert quantized.tolist() == [[127, -127], [127, 64]]


def test_a_scale_shape_or_clip_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match=r"\(3, 1\) for \(2, 2\)"):
        weight_scale(np.ones((2, 2)), (3, 1))
    with pytest.raises(UsageError, match="clip has 3 values for 2 scales"):
        weight_scale(np.ones((2, 2)), (2, 1), clip=(1, 1, 1))


def test_no_level_lies_beyond_the_last():
    assert round_to_levels(np.array([10.0, -10.0]), np.ones(2, np.float32), 15).tolist() == [7, -7]


@pytest.mark.parametrize(("levels", "last"), [(255, 127), (127, 63)])
def test_clipped_weights_stay_within_the_levels_that_were_asked_for(levels, last):
    weights = np.linspace(-1, 1, 32, dtype=np.float32).reshape(2, 16)
    integers, scale = quantize_weights(weights, (2, 1), levels, clip=(0.5, 0.25))
    assert np.abs(integers).max(axis=1).tolist() == [last, last]
    assert (scale.ravel() * last).tolist() == pytest.approx([0.5, 0.25])


def test_weights_of_nothing_have_scales_at_the_floor():
    assert weight_scale(np.zeros((2, 0), np.float32), (2, 1)).tolist() == [[SCALE_FLOOR]] * 2


@pytest.mark.parametrize("scheme", list(Scheme))
def test_limits_of_channels_are_those_of_each_range(scheme: Scheme):
    ranges = [(-1.0, 3.0), (-0.5, 0.25), (0.0, 7.0), (0.0, 0.0)]
    pairs = [fake_quantize_limits(low, high, scheme, 255) for low, high in ranges]
    lows, highs = channel_limits(ranges, scheme, 255)
    assert list(zip(lows, highs, strict=True)) == pairs
