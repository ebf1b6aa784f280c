"""A smallest SQNR is kept on the samples that it was judged on, with layers in floating point as far as it takes."""

from __future__ import annotations

import numpy as np
import pytest
from building import Net

import calib
from calib.runtime.session import F32, core, ov
from calib.values.sqnr import decibel


def network() -> ov.Model:
    net = Net(seed=5)
    x = net.input(1, 3, 12, 12)
    for _ in range(4):
        x = ov.opset13.relu(net.conv(x, 12 if _ else 8))
    return net.model(net.conv(x, 4, 1))


def samples() -> list[np.ndarray]:
    return list(np.random.default_rng(11).normal(size=(24, 1, 3, 12, 12)).astype(np.float32))


def sqnr(model: ov.Model) -> float:
    ours, theirs = (core().compile_model(one, "CPU", F32) for one in (model, network()))
    pairs = [(theirs(sample)[0], ours(sample)[0]) for sample in samples()]
    return decibel(sum(float((y**2).sum()) for y, _ in pairs), sum(float(((q - y) ** 2).sum()) for y, q in pairs))


@pytest.fixture(scope="module")
def whole() -> float:
    """SQNR with everything in INT8, which a budget far below it leaves as it is."""
    result = calib.quantize(network(), samples(), min_sqnr=5, effort="fast", speed=False)
    assert result.report.accuracy is not None and result.report.accuracy.metric == "noise"
    assert result.report.status == "within_budget" and not [x for x in result.report.layers if "reverted" in x.reason]
    figure = sqnr(result.model)
    assert 15 < figure < 60
    return figure


def test_layers_are_reverted_until_the_sqnr_is_reached(whole):
    asked = whole + 3
    result = calib.quantize(network(), samples(), min_sqnr=asked, effort="fast", speed=False)
    reverted = [layer.name for layer in result.report.layers if "reverted" in layer.reason]
    assert result.report.status in ("within_budget", "mostly_float") and 0 < len(reverted) < 5
    assert sqnr(result.model) >= asked - 0.01
    assert result.report.accuracy is not None
    assert -10 * np.log10(result.report.accuracy.quantized) == pytest.approx(sqnr(result.model), abs=0.05)


def test_an_sqnr_that_no_layer_in_int8_gives_is_said_to_be_missed():
    result = calib.quantize(network(), samples(), min_sqnr=150, effort="fast", speed=False)
    assert result.report.status == "over_budget"
