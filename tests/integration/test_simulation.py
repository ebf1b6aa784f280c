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
    """Return Transpose → FakeQuantize → 1x1 convolution with INT8 weights, in half range: exact on every CPU."""
    net, random = Net(), np.random.default_rng(0)
    turned = op.transpose(net.input(1, 8, 8, 8), np.array(order))
    low, high = np.float32(-4), np.float32(3.96875)
    weights = op.convert(op.constant(random.integers(-63, 64, (8, 8, 1, 1)).astype(np.int8)), np.float32)
    scaled = op.multiply(weights, op.constant(np.full((8, 1, 1, 1), 0.02, np.float32)))
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


def shifted(height: int) -> ov.Model:
    """Return a bias for each channel → FakeQuantize → depthwise convolution."""
    net = Net()
    x = op.add(net.input(1, 3, height, 8), net.weights(1, 3, 1, 1))
    low, high = np.float32(-4), np.float32(3.96875)
    return net.model(net.depthwise(op.fake_quantize(x, low, high, low, high, 256)))


def test_a_simulation_in_dynamic_shapes_is_that_in_static_ones_for_each_feed():
    session = Session(shifted(-1), SIMULATED)
    for height in (8, 6, 8):
        feed = [np.random.default_rng(height).standard_normal((1, 3, height, 8)).astype(np.float32)]
        assert np.array_equal(session(feed)[0], Session(shifted(height), SIMULATED)(feed)[0])


def test_openvino_still_computes_levels_behind_a_bias_wrongly_in_dynamic_shapes():
    """Fails once OpenVINO computes this right: a simulation need not be compiled for each shape any more."""
    feed = [np.random.default_rng(8).standard_normal((1, 3, 8, 8)).astype(np.float32)]
    (wrong,) = core().compile_model(shifted(-1), "CPU", SIMULATED)(feed).values()
    assert np.abs(wrong - Session(shifted(8), SIMULATED)(feed)[0]).max() > 0.1
