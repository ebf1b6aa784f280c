from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import quantize_dequantize

from calib.corrections.equalization_core import (
    LIMIT,
    Readers,
    choose_strength,
    least_error,
    migration_error,
    smooth_factors,
)
from calib.ranges.affine import fake_quantize_limits, quantize_weights
from calib.values.plan import Scheme

laws = settings(derandomize=True, deadline=None, max_examples=30)
seeds = st.integers(0, 2**32 - 1)
strengths = st.floats(0.0, 1.0)


def relu(x):
    return np.maximum(x, 0)


def scale_channels(array, factors, axis):
    """Multiply each channel by its factor, in the array's dtype."""
    shape = [1] * array.ndim
    shape[axis] = -1
    return (array * np.asarray(factors, np.float64).reshape(shape)).astype(array.dtype)


def chain(seed: int, channels: int = 8, spread: float = 3.0):
    """A writer, a bias and a reader with channels of very different size."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.normal(size=channels) * spread)
    first = (rng.normal(size=(channels, 6)) * sizes[:, None]).astype(np.float32)
    bias = (rng.normal(size=channels) * sizes).astype(np.float32)
    second = (rng.normal(size=(5, channels)) / sizes).astype(np.float32)
    return rng.normal(size=(300, 6)).astype(np.float32), first, bias, second


@laws
@given(seeds, strengths)
def test_powers_of_two_keep_the_bits_of_the_function(seed, alpha):
    x, first, bias, second = chain(seed)
    inner = relu(x @ first.T + bias)
    factors = smooth_factors(inner.max(axis=0), np.abs(second).max(axis=0), alpha)
    assert np.array_equal(np.frexp(factors)[0], np.full(8, 0.5))
    divided = scale_channels(first, 1 / factors, 0), scale_channels(bias, 1 / factors, 0)
    moved = relu(x @ divided[0].T + divided[1])
    np.testing.assert_array_equal(moved, scale_channels(inner, 1 / factors, 1))
    # summed in one order, term by term the same
    terms = moved[:, None, :] * scale_channels(second, factors, 1)
    np.testing.assert_array_equal(terms, inner[:, None, :] * second)


@laws
@given(seeds, strengths)
def test_any_factors_keep_the_function_through_a_depthwise_layer(seed, alpha):
    x, first, bias, second = (v.astype(np.float64) for v in chain(seed))
    rng = np.random.default_rng(seed)
    depthwise, slope = rng.normal(size=8), rng.random(8)

    def run(w1, b1, dw, w2):
        inner = x @ w1.T + b1
        inner = np.where(inner > 0, inner, slope * inner)  # PReLU
        return relu(inner * dw) @ w2.T

    s = smooth_factors(np.abs(x @ first.T).max(axis=0), np.ones(8), alpha, per_octave=None)
    t = smooth_factors(np.abs(depthwise), np.abs(second).max(axis=0), alpha, per_octave=None)
    moved = run(
        scale_channels(first, 1 / s, 0), bias / s, scale_channels(depthwise, s / t, 0), scale_channels(second, t, 1)
    )
    np.testing.assert_allclose(moved, run(first, bias, depthwise, second), rtol=1e-9, atol=1e-9)


@laws
@given(seeds, strengths, st.sampled_from([1, 8, None]))
def test_dead_channels_and_extremes_stay_in_bounds(seed, alpha, per_octave):
    rng = np.random.default_rng(seed)
    activation, weight = np.exp(rng.normal(size=(2, 9)) * 20)
    activation[0] = weight[1] = 0
    factors = smooth_factors(activation, weight, alpha, per_octave)
    assert factors[0] == factors[1] == 1.0
    assert np.all((factors >= 1 / LIMIT) & (factors <= LIMIT))


def test_nothing_alive_is_left_alone():
    np.testing.assert_array_equal(smooth_factors(np.zeros(3), np.ones(3)), np.ones(3))


def test_full_strength_evens_out_the_activations_and_none_the_weights():
    activation, weight = np.array([1.0, 4.0, 16.0]), np.array([8.0, 2.0, 1.0])
    even = activation / smooth_factors(activation, weight, 1.0, per_octave=None)
    np.testing.assert_allclose(even, even[0])
    even = weight * smooth_factors(activation, weight, 0.0, per_octave=None)
    np.testing.assert_allclose(even, even[0])


def test_half_strength_gives_a_tensor_and_the_weights_that_read_it_the_same_range():
    first, second = np.array([1.0, 100.0, 7.0]), np.array([3.0, 0.2, 9.0])
    s = smooth_factors(first, second, per_octave=None)
    ratio = (first / s) / (second * s)
    np.testing.assert_allclose(ratio, ratio[0])


def test_imbalanced_channels_gain_a_lot_from_the_chosen_strength():
    x, first, bias, second = chain(1)
    inner = relu(x @ first.T + bias)
    power = (inner.astype(np.float64) ** 2).mean(axis=0)
    factors, strength = choose_strength(
        inner.min(axis=0), inner.max(axis=0), power, Readers.of([second[None, :, :, None]])
    )
    assert strength is not None
    assert quantized_error(inner, second, factors) < quantized_error(inner, second, np.ones(8)) / 10


def quantized_error(inner, second, factors):
    moved, weights = scale_channels(inner, 1 / factors, 1), scale_channels(second, factors, 1)
    low, high = fake_quantize_limits(0.0, float(moved.max()), Scheme.UNSIGNED, 256)
    q, scale = quantize_weights(weights, (5, 1))
    output = quantize_dequantize(moved, low, high, 256).astype(np.float64) @ (q * scale).T
    return float(np.mean((output - inner.astype(np.float64) @ second.T) ** 2) * 5)


@laws
@given(seeds)
def test_migration_error_predicts_the_measured_one(seed):
    x, first, bias, second = chain(seed, channels=24, spread=0.3)
    inner = relu(x @ first.T + bias)
    power = (inner.astype(np.float64) ** 2).mean(axis=0)
    predicted = migration_error(
        np.ones(24), inner.min(axis=0), inner.max(axis=0), power, Readers.of([second[None, :, :, None]])
    )
    # errors of 24 weights an output are few to average over
    assert predicted / 2.5 < quantized_error(inner, second, np.ones(24)) < predicted * 2.5


@laws
@given(seeds)
def test_the_chosen_factors_never_expect_more_error_than_none(seed):
    x, first, bias, second = chain(seed, spread=0.5)
    inner = relu(x @ first.T + bias)
    stats = inner.min(axis=0), inner.max(axis=0), (inner**2).mean(axis=0)
    factors, _ = choose_strength(*stats, Readers.of([second[None, :, :, None]]))
    assert migration_error(factors, *stats, Readers.of([second[None, :, :, None]])) <= migration_error(
        np.ones(8), *stats, Readers.of([second[None, :, :, None]])
    )


def test_groups_count_as_the_whole_matrix_with_zeros_between_them():
    rng = np.random.default_rng(3)
    grouped = rng.normal(size=(3, 2, 4, 5))
    whole = np.zeros((1, 6, 12, 5))
    for group in range(3):
        whole[0, 2 * group : 2 * group + 2, 4 * group : 4 * group + 4] = grouped[group]
    one, other = Readers.of([grouped]), Readers.of([whole])
    np.testing.assert_allclose(one.squares, other.squares)
    np.testing.assert_array_equal(one.peaks, other.peaks)
    stats = -np.ones(12), np.ones(12), np.full(12, 0.3)
    alone = [Readers.of([grouped[group : group + 1]]) for group in range(3)]
    parts = [migration_error(np.ones(4), *(part[:4] for part in stats), readers) for readers in alone]
    assert migration_error(np.ones(12), *stats, one) == pytest.approx(sum(parts))


def test_fewer_levels_of_weights_leave_more_magnitude_in_the_activations():
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(1, 16, 8, 1))
    stats = -np.ones(8), np.ones(8), np.full(8, 0.3)
    errors = [migration_error(np.ones(8), *stats, Readers.of([weights], levels)) for levels in (255, 127)]
    from_inputs = migration_error(np.ones(8), *stats, Readers.of([weights], 1 << 24))
    assert (errors[1] - from_inputs) / (errors[0] - from_inputs) == pytest.approx((254 / 126) ** 2, rel=1e-6)


@laws
@given(seeds, st.floats(0.0, 6.0))
def test_no_factors_have_a_smaller_error_than_the_bound(seed, spread):
    rng = np.random.default_rng(seed)
    high, low = rng.exponential(size=8) + 0.1, -rng.exponential(size=8) * rng.integers(0, 2)
    power = np.maximum(high, -low) ** 2 * rng.uniform(0.01, 1, 8)
    readers = Readers.of([rng.normal(size=(1, 5, 8, 3)) * np.exp(spread * rng.normal(size=(1, 1, 8, 1)))])
    bound = least_error(low, high, power, readers)
    tried = [np.exp2(spread * rng.normal(size=8)) for _ in range(50)]
    assert 0 < bound <= min(migration_error(factors, low, high, power, readers) for factors in tried) * (1 + 1e-9)


def test_the_bound_is_the_error_of_even_channels():
    high, power = np.full(4, 2.0), np.ones(4)
    readers = Readers.of([np.ones((1, 3, 4, 1))])
    bound = least_error(-high, high, power, readers)
    assert bound == pytest.approx(migration_error(np.ones(4), -high, high, power, readers))
