from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.corrections.rounding_core import keep_better, layer_error, nearest, round_weights
from calib.ranges.affine import quantize_weights

laws = settings(derandomize=True, deadline=None, max_examples=25)
seeds = st.integers(0, 2**32 - 1)


def layer(seed: int, outputs: int = 5, inputs: int = 12, rows: int = 200, groups: int = 1):
    """Correlated inputs with a mean, as activations have, and weights with their scales."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(groups, inputs, inputs)) / np.sqrt(inputs)
    x = np.einsum("rgk,gkj->rgj", np.abs(rng.normal(size=(rows, groups, inputs))), mix) + 0.3
    weights = rng.normal(size=(groups, outputs, inputs)).astype(np.float32)
    return x, weights


def moments(x):
    """E[x xᵀ] of ``(rows, groups, inputs)``, for each group."""
    return np.einsum("rgj,rgk->gjk", x, x) / len(x)


def scales(weights, levels):
    return quantize_weights(weights, (*weights.shape[:-1], 1), levels)[1][..., 0]


@laws
@given(seeds, st.sampled_from([255, 127, 15]))
def test_layer_error_is_the_mean_squared_output_error(seed, levels):
    x, weights = layer(seed)
    scale = scales(weights, levels)
    delta = weights - nearest(weights, scale, levels) * scale[..., None]
    measured = np.mean(np.einsum("rgk,gok->rgo", x, delta.astype(np.float64)) ** 2, axis=0)
    np.testing.assert_allclose(layer_error(delta, moments(x)), measured, rtol=1e-9)


@laws
@given(seeds, st.sampled_from([255, 127, 15]), st.integers(1, 3))
def test_no_channel_is_worse_than_rounding_to_nearest(seed, levels, groups):
    x, weights = layer(seed, groups=groups)
    hessian, scale = moments(x), scales(weights, levels)
    ours, plain = round_weights(weights, scale, hessian, levels), nearest(weights, scale, levels)
    s = scale[..., None].astype(np.float64)
    assert np.all(layer_error(weights - ours * s, hessian) <= layer_error(weights - plain * s, hessian))
    assert ours.dtype == np.int8 and np.abs(ours).max() <= (levels - 1) // 2


def test_correlated_inputs_gain_a_lot():
    x, weights = layer(3, outputs=32, inputs=96, rows=4000)
    x = x @ np.random.default_rng(1).normal(size=(96, 96)) * np.geomspace(1, 0.01, 96)
    hessian, scale = moments(x), scales(weights, 15)
    s = scale[..., None]
    ours = layer_error(weights - round_weights(weights, scale, hessian, 15) * s, hessian).sum()
    plain = layer_error(weights - nearest(weights, scale, 15) * s, hessian).sum()
    assert ours < plain / 2


def obq_by_the_paper(weights, scale, hessian, levels, damping=0.01):
    """GPTQ as printed: the upper Cholesky factor of the inverse, errors spread over the inputs to come."""
    half, inputs = (levels - 1) // 2, len(hessian)
    order = np.argsort(-np.diag(hessian), kind="stable")
    h = (hessian + damping * np.diag(hessian).mean() * np.eye(inputs))[np.ix_(order, order)]
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    w, q = weights[:, order].astype(np.float64), np.zeros(weights.shape, np.int8)
    for k in range(inputs):
        level = np.clip(np.rint(w[:, k] / scale), -half, half)
        error = (w[:, k] - level * scale) / upper[k, k]
        w[:, k + 1 :] -= np.outer(error, upper[k, k + 1 :])
        q[:, order[k]] = level
    return q


@pytest.mark.parametrize("inputs", [7, 128, 300])
def test_the_numbers_are_those_of_the_paper(inputs):
    x, weights = layer(inputs, outputs=6, inputs=inputs, rows=1000)
    hessian, scale = moments(x)[0], scales(weights, 31)[0]
    theirs = obq_by_the_paper(weights[0], scale.astype(np.float64), hessian, 31)
    expected = keep_better(weights[0], scale, nearest(weights[0], scale, 31), theirs, hessian)
    np.testing.assert_array_equal(round_weights(weights[0], scale, hessian, 31), expected)


def test_independent_inputs_are_rounded_to_nearest():
    _, weights = layer(0)
    scale = scales(weights, 255)
    ours = round_weights(weights, scale, np.eye(12)[None] * np.arange(1.0, 13.0))
    np.testing.assert_array_equal(ours, nearest(weights, scale, 255))


def test_groups_are_layers_of_their_own():
    x, weights = layer(8, groups=4, outputs=1, inputs=9)
    hessian, scale = moments(x), scales(weights, 15)
    together = round_weights(weights, scale, hessian, 15)
    for group in range(4):
        alone = round_weights(weights[group], scale[group], hessian[group], 15)
        np.testing.assert_array_equal(together[group], alone)


def test_inputs_and_groups_that_were_never_seen_do_no_harm():
    x, weights = layer(4, groups=3)
    x[:, 1] = 0
    x[:, 2, 5] = 0
    hessian, scale = moments(x), scales(weights, 15)
    ours = round_weights(weights, scale, hessian, 15)
    np.testing.assert_array_equal(ours[1], nearest(weights, scale, 15)[1])
    silent = round_weights(weights, scale, np.zeros_like(hessian), 15)
    np.testing.assert_array_equal(silent, nearest(weights, scale, 15))


def test_dead_channels_stay_zero():
    x, weights = layer(5)
    weights[0, 2] = 0
    scale = scales(weights, 255)
    assert not round_weights(weights, scale, moments(x))[0, 2].any()


def test_held_out_moments_decide_what_is_kept():
    x, weights = layer(6, rows=20)
    other, _ = layer(7, rows=500)
    scale, held_out = scales(weights, 7), moments(other)
    plain = nearest(weights, scale, 7)
    ours = round_weights(weights, scale, moments(x), 7)
    kept = keep_better(weights, scale, plain, ours, held_out)
    s = scale[..., None]
    assert np.all(layer_error(weights - kept * s, held_out) <= layer_error(weights - plain * s, held_out))
    assert np.all((kept == plain).all(axis=-1) | (kept == ours).all(axis=-1))
