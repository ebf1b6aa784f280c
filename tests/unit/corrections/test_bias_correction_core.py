from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.corrections.bias_correction_core import bias_delta, left_out_errors, standard_error

laws = settings(derandomize=True, deadline=None, max_examples=40)
numbers = st.floats(-1e6, 1e6)


def test_without_noise_the_mean_is_given_back_in_full():
    np.testing.assert_array_equal(bias_delta(np.array([1.0, 2.0]), np.array([0.5, 2.5]), np.zeros(2)), [0.5, -0.5])


def test_a_shift_within_its_noise_is_left_alone_and_one_beyond_is_not():
    delta = bias_delta(np.array([0.1, 10.0, 1e-6]), np.zeros(3), np.array([0.2, 0.2, 1e-9]))
    assert delta[0] == 0.0
    assert delta[1] == 10.0 * (1 - 0.04 / 100)
    # small in absolute terms, yet well known: given back
    assert abs(delta[2] - 1e-6) < 1e-11


@laws
@given(numbers, st.floats(0, 1e6))
def test_shrinking_never_turns_or_stretches_a_shift(shift, noise):
    (delta,) = bias_delta(np.array([shift]), np.zeros(1), np.array([noise]))
    assert 0 <= delta * np.sign(shift) <= abs(shift)


def test_shrinking_lowers_the_expected_error():
    rng = np.random.default_rng(0)
    true = rng.normal(size=20_000) * 0.1
    samples = true + rng.normal(size=(8, 20_000)) * 0.5
    mean = samples.mean(axis=0)
    shrunk = bias_delta(mean, np.zeros(20_000), standard_error(samples))
    assert np.mean((shrunk - true) ** 2) < 0.7 * np.mean((mean - true) ** 2)


def test_standard_error_is_that_of_a_mean_over_samples():
    samples = np.random.default_rng(1).normal(size=(400, 3)) * [1.0, 2.0, 0.0]
    np.testing.assert_allclose(standard_error(samples), np.array([1.0, 2.0, 0.0]) / 20, rtol=0.15)


def test_one_sample_can_not_tell_a_shift_from_noise():
    one = standard_error(np.ones((1, 2)))
    assert np.isinf(one).all()
    np.testing.assert_array_equal(bias_delta(np.ones(2), np.zeros(2), one), [0.0, 0.0])


def test_a_sample_is_corrected_by_what_the_others_say_alone():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(6, 3))
    y_q = y - 2 + 0.1 * rng.normal(size=(6, 3))
    before, after = left_out_errors(y, y_q)
    np.testing.assert_array_equal(before, y - y_q)
    others = (y - y_q)[1:]
    np.testing.assert_allclose(
        after[0], before[0] - bias_delta(others.mean(axis=0), np.zeros(3), standard_error(others))
    )
    assert np.abs(after).max() < 0.5 < np.abs(before).min()


def test_no_other_sample_corrects_nothing():
    before, after = left_out_errors(np.ones((1, 2)), np.zeros((1, 2)))
    np.testing.assert_array_equal(after, before)
