"""The simulation of an INT8 model computes what the quantizers say, also where OpenVINO's own way to it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from building import Net, op

from calib.runtime.session import F32, Session, core, ov

ORDERS = [(0, 1, 3, 2), (0, 2, 1, 3), (0, 2, 3, 1), (0, 3, 1, 2)]
SIMULATED = {**F32, "LP_TRANSFORMS_MODE": "NO"}


def pointwise(order: tuple[int, ...]) -> ov.Model:
    """Return Transpose → FakeQuantize → 1x1 convolution with INT8 weights."""
    net, random = Net(), np.random.default_rng(0)
    turned = op.transpose(net.input(1, 8, 8, 8), np.array(order))
    low, high = np.float32(-4), np.float32(3.96875)
    weights = op.convert(op.constant(random.integers(-127, 128, (8, 8, 1, 1)).astype(np.int8)), np.float32)
    scaled = op.multiply(weights, op.constant(np.full((8, 1, 1, 1), 0.01, np.float32)))
    quantized = op.fake_quantize(turned, low, high, low, high, 256)
    return net.model(op.relu(op.convolution(quantized, scaled, [1, 1], [0, 0], [0, 0], [1, 1])))


def image() -> list[np.ndarray[Any, Any]]:
    return [np.random.default_rng(1).standard_normal((1, 8, 8, 8)).astype(np.float32)]


@pytest.mark.parametrize("order", ORDERS)
def test_int8_behind_any_transpose_agrees_with_its_simulation(order: tuple[int, ...]):
    model = pointwise(order)
    executed, simulated = Session(model)(image())[0], Session(model, SIMULATED)(image())[0]
    assert np.abs(executed - simulated).max() <= 1e-5 * np.abs(simulated).max()


def test_openvino_still_takes_every_transpose_for_that_of_a_matmul():
    """Fails once OpenVINO computes this right: calib need not fold the weights of a simulation any more."""
    model = pointwise((0, 1, 3, 2))
    (wrong,) = core().compile_model(model, "CPU", SIMULATED)(image()).values()
    assert np.abs(wrong - Session(model)(image())[0]).max() > 1


def test_simulating_a_model_leaves_it_as_it_was():
    model = pointwise((0, 2, 3, 1))
    before = [node.get_friendly_name() for node in model.get_ordered_ops()]
    Session(model, SIMULATED)
    assert [node.get_friendly_name() for node in model.get_ordered_ops()] == before
