from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.errors import MetricError
from calib.metrics.label_free import Agreement, Noise, RelativeL2, is_class_scores

F32 = np.dtype(np.float32)


def row(*values):
    return [np.array([values], np.float32)]


def relative_l2(outputs, reference):
    """Return the metric over samples of several outputs each."""
    metric = RelativeL2()
    return metric.aggregate([metric.measure(y_q, None, y) for y_q, y in zip(outputs, reference, strict=True)])


def test_agreement_compares_the_highest_class_alone():
    assert Agreement().measure(row(1, 9, 2), None, row(0, 1, 0)) == 1
    assert Agreement().measure(row(9, 1, 2), None, row(0, 1, 0)) == 0
    assert Agreement().measure(row(np.nan, 9, 2), None, row(0, 1, 0)) == 0


def test_agreement_of_tokens_is_a_share():
    got, want = np.eye(3, dtype=np.float32)[None, [0, 1]], np.eye(3, dtype=np.float32)[None, [0, 2]]
    assert Agreement().measure([got], None, [want]) == 0.5


def test_relative_error_is_taken_for_each_output_by_itself():
    large, small = np.full((1, 4), 1000.0), np.full((1, 4), 0.001)
    value = relative_l2([[large, small * 1.1]], [[large, small]])
    assert value == pytest.approx(1 - 0.1 / 2)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.floats(1e-3, 1e3), st.integers(0, 5))
def test_relative_error_does_not_depend_on_the_scale(scale, seed):
    rng = np.random.default_rng(seed)
    want, got = rng.normal(size=(2, 1, 9))
    assert relative_l2([[got * scale]], [[want * scale]]) == pytest.approx(relative_l2([[got]], [[want]]))


def test_the_error_of_a_nearly_empty_sample_is_relative_to_the_usual_one():
    full, empty = np.full((1, 4), 2.0), np.full((1, 4), 1e-6)
    reference = [[full]] * 4 + [[empty]] * 4
    outputs = [[y + 0.02] for (y,) in reference]
    mean = (2.0 + 1e-6) / 2
    assert relative_l2(outputs, reference) == pytest.approx(1 - (0.02 / 2 + 0.02 / mean) / 2, rel=1e-9)


def test_a_sample_a_tenth_as_large_as_usual_is_relative_to_itself():
    reference = [[np.full((1, 4), value)] for value in (1.0, 1.0, 1.0, 0.2)]
    outputs = [[y * 1.1] for (y,) in reference]
    assert relative_l2(outputs, reference) == pytest.approx(0.9)


def test_an_output_that_is_zero_in_every_sample_counts_once_where_it_is_not_zero_any_more():
    reference = [[np.ones((1, 4)), np.zeros((1, 4))]] * 2
    assert relative_l2(reference, reference) == 1
    assert relative_l2([[np.ones((1, 4)), np.full((1, 4), 1e-9)]] * 2, reference) == 0.5


def test_integer_outputs_are_skipped_and_other_shapes_are_an_error_of_one():
    want = [np.ones((1, 4)), np.ones((1, 3), np.int64)]
    assert relative_l2([[np.ones((1, 4)), np.zeros((1, 3), np.int64)]], [want]) == 1
    assert relative_l2([[np.ones((1, 5)), want[1]]], [want]) == 0
    with pytest.raises(MetricError, match="no floating-point output"):
        RelativeL2().measure(want[1:], None, want[1:])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_the_worst_error_is_finite(bad):
    value = relative_l2([[np.full((1, 4), bad)]], [[np.ones((1, 4))]])
    assert math.isfinite(value) and value < -100


def test_without_fp32_outputs_there_is_no_value():
    for metric in (Agreement(), RelativeL2()):
        with pytest.raises(MetricError, match="FP32 outputs"):
            metric.measure(row(1, 2), None, None)


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((1, 10), F32, True),
        ((None, 10), F32, True),
        ((1, 1000, 1, 1), F32, True),
        ((1, 1), F32, False),
        ((1, None), F32, False),
        ((1, 10), np.dtype(np.int64), False),
        ((1, 20, 10), F32, False),
        ((10,), F32, False),
        ((), F32, False),
        ((8, 10), F32, False),
    ],
)
def test_class_scores_are_recognized_by_their_shape(shape, dtype, expected):
    assert is_class_scores(shape, dtype) == expected


def noise(outputs, reference):
    """Return the noise over samples of several outputs each."""
    metric = Noise()
    return metric.aggregate([metric.measure(y_q, None, y) for y_q, y in zip(outputs, reference, strict=True)])


def test_noise_is_the_ratio_of_the_sums_in_the_worst_output():
    reference = [[np.full((1, 4), 2.0), np.full((1, 2), 10.0)], [np.full((1, 4), 1.0), np.full((1, 2), 10.0)]]
    outputs = [[reference[0][0] + 0.1, reference[0][1] + 1], [reference[1][0], reference[1][1]]]
    assert noise(outputs, reference) == pytest.approx(2 * 1.0 / (4 * 100))
    assert noise([[y, z] for (y, _), (_, z) in zip(outputs, reference, strict=True)], reference) == pytest.approx(
        4 * 0.01 / (4 * 4 + 4 * 1)
    )


def test_the_noise_of_an_output_that_is_zero_in_fp32_does_not_count():
    reference = [[np.zeros((1, 4)), np.ones((1, 4))]]
    assert noise([[np.ones((1, 4)), np.ones((1, 4))]], reference) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_noise_without_end_has_an_end(bad):
    assert noise([[np.full((1, 4), bad)], [np.ones((1, 4))]], [[np.ones((1, 4))]] * 2) == 1e6 / 2


def test_the_noise_of_samples_has_their_mean():
    rng = np.random.default_rng(3)
    reference = list(rng.normal(size=(6, 1, 1, 8)))
    outputs = [y + 0.1 * rng.normal(size=y.shape) for y in reference]
    metric = Noise()
    parts = [metric.measure(y_q, None, y) for y_q, y in zip(outputs, reference, strict=True)]
    assert metric.per_sample(parts).mean() == pytest.approx(metric.aggregate(parts))
    signal, error = np.square(reference).sum(), np.square(np.subtract(outputs, reference)).sum()
    assert metric.aggregate(parts) == pytest.approx(error / signal)
