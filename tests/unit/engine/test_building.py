"""What is listed of a model as it came, floating-point, quantized or with compressed weights."""

from __future__ import annotations

import numpy as np
import pytest
from building import Net, op

from calib.engine.building import aliases, listed
from calib.errors import UsageError
from calib.graph.view import GraphView
from calib.loading.load import Loaded, load_model


def loaded(*, quantized: bool = False, compressed: bool = False) -> Loaded:
    """Return a model of a convolution "first" and a MatMul "last"; levels are in front of the first alone."""
    net = Net()
    x = net.input(1, 3, 8, 8)
    if quantized:
        x = op.fake_quantize(x, *[np.float32(v) for v in (0, 1, 0, 1)], 256)
    y = net.conv(x, 8)
    y.set_friendly_name("first")
    weights = net.weights(8, 5)
    if compressed:
        stored = op.convert(op.constant(np.arange(40, dtype=np.int8).reshape(8, 5)), np.float32)
        weights = op.multiply(stored, np.float32(0.1))
    z = op.matmul(op.reduce_mean(op.relu(y), np.array([2, 3])), weights, False, False)
    z.set_friendly_name("last")
    return load_model(net.model(z))


@pytest.mark.parametrize(
    ("model", "layers", "skipped"),
    [
        (loaded(), ["first", "last"], []),
        (loaded(quantized=True), ["first"], ["last"]),
        (loaded(compressed=True), [], ["first", "last"]),
    ],
    ids=["floating point", "quantized", "compressed"],
)
def test_a_layer_is_listed_as_quantized_where_it_is_or_would_be(model: Loaded, layers: list[str], skipped: list[str]):
    view = GraphView(model.model)
    plan = listed(model, view)
    assert [layer.name for layer in plan.layers] == layers and [layer.name for layer in plan.skipped] == skipped
    assert not plan.activations and not plan.weights
    assert set(aliases(view, plan)) == {"first", "last"}


def test_what_is_ignored_is_listed_as_left_out_of_a_model_in_floating_point():
    model = loaded()
    plan = listed(model, GraphView(model.model), ["first"])
    assert [layer.name for layer in plan.layers] == ["last"] and plan.skipped[0].reason == "ignored by 'first'"
    with pytest.raises(UsageError, match="'other' matches none"):
        listed(model, GraphView(model.model), ["other"])
