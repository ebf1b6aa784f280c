from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.accuracy.layer_error import INPUT_DB, LayerError, first_jump, jumps

RANDOM = np.random.default_rng(0)


def pair(noise: float, shape: tuple[int, ...] = (1, 8, 5, 5)) -> tuple[np.ndarray, np.ndarray]:
    signal = RANDOM.normal(size=shape)
    return signal, signal + noise * RANDOM.normal(size=shape)


def error_of(*pairs: tuple[np.ndarray, np.ndarray], axis: int | None = 1) -> LayerError:
    error = LayerError(axis)
    for a, b in pairs:
        error.add(a, b)
    return error


@pytest.mark.parametrize(
    ("shape", "axis"), [((1, 8, 5, 5), 1), ((1, 7, 16), -1), ((40,), 1), ((1, 8), 1), ((1, 8), None)]
)
def test_sqnr_and_cosine_are_those_of_their_definitions(shape, axis):
    a, b = pair(0.1, shape)
    error = error_of((a, b), axis=axis)
    assert error.sqnr_db == pytest.approx(10 * math.log10((a**2).sum() / ((a - b) ** 2).sum()))
    assert error.cosine == pytest.approx((a * b).sum() / math.sqrt((a**2).sum() * (b**2).sum()))
    assert not error.rescaled


def test_samples_add_up():
    pairs = [pair(0.1), pair(0.3)]
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    assert error_of(*pairs).sqnr_db == pytest.approx(error_of((a, b)).sqnr_db)


@given(st.floats(0.2, 5), st.integers(0, 7))
@settings(max_examples=30, derandomize=True, deadline=None)
def test_equalized_channels_are_compared_at_the_scales_of_the_reference(scale, channel):
    a, b = pair(0.01)
    scales = np.ones((1, 8, 1, 1))
    scales[0, channel] = scale
    error = error_of((a, b * scales))
    if abs(scale - 1) > 0.2:
        assert error.rescaled
    assert error.sqnr_db > 30
    assert error.cosine > 0.999


def test_noise_alone_is_never_taken_for_other_scales():
    for noise in (0.01, 0.1, 0.3, 1.0, 3.0):
        assert not error_of(pair(noise, (1, 64, 20, 20))).rescaled


def test_the_scale_of_a_models_output_is_never_undone():
    a, _ = pair(0)
    assert error_of((a, 2 * a), axis=None).sqnr_db == pytest.approx(0)


def test_clipping_is_an_error_and_not_a_scale():
    a = RANDOM.normal(size=(1, 8, 30, 30))
    assert not error_of((a, np.clip(a, -1, 1))).rescaled


def test_equal_outputs_have_no_error_and_silent_ones_are_equal():
    a, _ = pair(0)
    assert error_of((a, a)).sqnr_db == math.inf
    assert error_of((a, a)).cosine == pytest.approx(1)
    assert error_of((a * 0, a * 0)).cosine == 1


def test_a_layer_that_went_silent_lost_everything():
    a, _ = pair(0)
    assert error_of((a, a * 0)).sqnr_db == pytest.approx(0)
    assert error_of((a, a * 0)).cosine == 0


def test_a_channel_count_that_changes_between_samples_is_taken():
    assert error_of(pair(0.1), pair(0.1, (1, 4, 5, 5))).sqnr_db == pytest.approx(20, abs=2)


def test_a_jump_is_counted_from_the_worst_layer_before():
    values = {"a": 40.0, "b": 20.0, "join": 12.0, "after": 25.0}
    found = jumps(values, {"join": ["a", "b"], "after": ["join"]})
    assert found == {"a": 0.0, "b": INPUT_DB - 20, "join": 8.0, "after": 0.0}
    assert first_jump(list(values), found) == "b"


def test_no_jump_is_found_where_the_error_grows_slowly():
    values = {"a": 35.0, "b": 31.0, "c": 27.0, "d": 23.0}
    found = jumps(values, {"b": ["a"], "c": ["b"], "d": ["c"]})
    assert first_jump(list(values), found) == ""


def test_layers_behind_exact_ones_may_lose_what_a_first_layer_may():
    values = {"float": math.inf, "int8": 35.0, "silent": -math.inf}
    found = jumps(values, {"int8": ["float"], "silent": ["int8"]})
    assert found["int8"] == 0
    assert first_jump(list(values), found) == "silent"


def test_what_overflows_in_the_reference_is_left_out_and_what_overflows_in_the_output_is_lost():
    sound, broken = LayerError(None), LayerError(None)
    sound.add(np.array([[1.0, np.nan, np.inf, 2.0]]), np.array([[1.0, 5.0, np.nan, 2.0]]))
    assert (sound.sqnr_db, sound.cosine) == (math.inf, 1.0)
    broken.add(np.array([[1.0, 2.0]]), np.array([[1.0, np.inf]]))
    assert broken.sqnr_db == -math.inf and math.isnan(broken.cosine)
