"""Both networks in one graph: which shapes it may meet, and what its corrections do to the means."""

from __future__ import annotations

import numpy as np

import calib
from calib.graph.side_by_side import batchable
from calib.runtime.session import Session, ov

op = ov.opset13
RANDOM = np.random.default_rng(3)


def with_a_scalar() -> ov.Model:
    """Convolution, then a division by the largest value of the whole image: a tensor without axes."""
    image = op.parameter([1, 3, 8, 8], np.float32, name="image")
    weights = RANDOM.normal(size=(4, 3, 3, 3)).astype(np.float32)
    features = op.convolution(image, weights, [1, 1], [1, 1], [1, 1], [1, 1])
    largest = op.reduce_max(op.absolute(features), np.array([0, 1, 2, 3]), keep_dims=False)
    return ov.Model([op.divide(features, largest)], [image], "scalar")


def test_a_tensor_without_axes_counts_as_one_element():
    assert batchable(with_a_scalar(), range(16)) == 16


def test_a_network_with_a_tensor_without_axes_is_quantized():
    result = calib.quantize(with_a_scalar(), list(RANDOM.normal(size=(8, 3, 8, 8)).astype(np.float32)))
    assert [layer.executed for layer in result.report.layers] == ["i8"]


def test_corrections_bring_the_mean_of_each_channel_closer_to_that_of_fp32():
    image = op.parameter([1, 3, 8, 8], np.float32, name="image")
    first = op.relu(
        op.convolution(image, RANDOM.normal(size=(6, 3, 3, 3)).astype(np.float32), [1, 1], [0, 0], [0, 0], [1, 1])
    )
    second = op.convolution(first, RANDOM.normal(size=(5, 6, 3, 3)).astype(np.float32), [1, 1], [0, 0], [0, 0], [1, 1])
    model = ov.Model([second], [image], "two")
    samples = list(RANDOM.normal(size=(48, 3, 8, 8)).astype(np.float32))

    def shift(quantized: ov.Model) -> float:
        one, other = Session(model), Session(quantized)
        apart = np.mean([one([s[None]])[0] - other([s[None]])[0] for s in samples], axis=(0, 1, 3, 4))
        return float(np.abs(apart).sum())

    plain = calib.quantize(model, samples, effort="fast", estimator="minmax")
    balanced = calib.quantize(model, samples, estimator="minmax")
    assert shift(balanced.model) < shift(plain.model)
