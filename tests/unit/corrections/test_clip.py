from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.corrections.rounding_core import choose_clip, layer_error
from calib.ranges.affine import quantize_weights

laws = settings(derandomize=True, deadline=None, max_examples=25)


def error(weights, clip, hessian, levels):
    quantized, scale = quantize_weights(weights, (len(weights), 1), levels, clip)
    return layer_error(weights - quantized * scale.astype(np.float64), hessian)


@laws
@given(st.integers(0, 2**32 - 1), st.sampled_from([255, 127, 15]), st.booleans())
def test_no_channel_gets_worse(seed, levels, diagonal):
    rng = np.random.default_rng(seed)
    weights = rng.standard_t(3, size=(6, 20))
    x = rng.normal(size=(100, 20)) @ rng.normal(size=(20, 20))
    hessian = (x**2).mean(axis=0) if diagonal else x.T @ x / 100
    clip = choose_clip(weights, hessian, levels)
    plain = error(weights, (), hessian, levels)
    # the chosen scale is rounded to float32 afterwards: 2^-24 of up to half the levels, and of the error twice that
    assert np.all(error(weights, clip, hessian, levels) <= plain * (1 + 2**-12))
    assert np.all((clip > 0) & (clip <= 1))


def test_an_outlier_on_an_input_without_power_is_clipped():
    weights = np.random.default_rng(0).uniform(-1, 1, size=(3, 50))
    weights[1, 0] = 2.0
    power = np.ones(50)
    power[0] = 1e-9
    clip = choose_clip(weights, power, 15)
    assert clip[1] == 0.5
    assert clip[0] > 0.7 and clip[2] > 0.7


def test_weights_on_the_levels_and_dead_channels_are_left_alone():
    weights = np.array([[127.0, -3.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(choose_clip(weights, np.eye(3)), [1.0, 1.0])


def test_groups_are_layers_of_their_own():
    rng = np.random.default_rng(1)
    weights, power = rng.standard_t(2, size=(4, 2, 9)), rng.random((4, 9))
    together = choose_clip(weights, power, 31)
    assert together.shape == (4, 2)
    for group in range(4):
        np.testing.assert_array_equal(together[group], choose_clip(weights[group], power[group], 31))
