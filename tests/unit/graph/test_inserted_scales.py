"""Scales in front of layers: where they can be inserted, that the function stays, and what reverted layers read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from building import Net, max_pool, op

from calib.corrections.equalization import rescale
from calib.errors import StatisticsError
from calib.graph.finder import find
from calib.graph.insert import insert
from calib.graph.inserted_scales import find_insertable
from calib.graph.placement import place
from calib.graph.view import GraphView
from calib.runtime.session import Session, ov
from calib.values.plan import ActivationQuantizer, Port, QuantizationPlan, Range, Scaling

CHANNELS = 8


def dense(net: Net, x: Any, out: int = 16, *, transposed: bool = False) -> Any:
    weights = net.weights(CHANNELS, out, fan_in=CHANNELS)
    return op.matmul(x, weights, transposed, False)


def behind(*operations: Any) -> Callable[[Net, Any], Any]:
    """Return a network whose operations between the tensor and a MatMul move channels as a whole."""

    def build(net: Net, x: Any) -> Any:
        for operation in operations:
            x = operation(x)
        return dense(net, x)

    return build


SHAPES = {"rows": (1, 6, CHANNELS), "image": (1, CHANNELS, 6, 6)}
READERS: dict[str, tuple[str, Callable[[Net, Any], Any]]] = {
    "matmul": ("rows", dense),
    "matmul transposed": ("image", lambda net, x: dense(net, op.reshape(x, [1, CHANNELS, 36], False), transposed=True)),
    "convolution": ("image", lambda net, x: net.conv(x, 16)),
    "groups": ("image", lambda net, x: net.conv(x, 16, groups=2)),
    "deconvolution": ("image", lambda net, x: net.deconv(x, 16)),
    "reshape": ("rows", behind(lambda x: op.reshape(x, [-1, CHANNELS], False))),
    "transpose": ("image", behind(lambda x: op.transpose(x, [0, 2, 3, 1]))),
    "one of the rows": ("rows", behind(lambda x: op.gather(x, np.int64(2), np.int64(1)))),
    "pooled": ("image", lambda net, x: net.conv(max_pool(x), 16)),
}


def network(name: str) -> tuple[ov.Model, GraphView, QuantizationPlan]:
    """Return a model that reads GELU's output in one way, and as it is too."""
    kind, build = READERS[name]
    net = Net(4)
    x = op.gelu(net.input(*SHAPES[kind]), "erf")
    x.set_friendly_name("gelu")
    model = net.model(build(net, x), op.sigmoid(x))
    view = GraphView(model)
    return model, view, place(view, find(view, everywhere=False))


def quantizer(plan: QuantizationPlan) -> ActivationQuantizer:
    (found,) = [one for one in plan.activations if one.tensor.node == "gelu"]
    return found


def factors() -> tuple[float, ...]:
    return tuple(2.0 ** np.arange(-3, CHANNELS - 3))


def sample(model: ov.Model) -> list[np.ndarray[Any, Any]]:
    shape = tuple(model.inputs[0].get_shape())
    return [np.random.default_rng(5).standard_normal(shape).astype(np.float32)]


def scaled(name: str) -> tuple[ov.Model, ov.Model, QuantizationPlan]:
    """Return the model, the rescaled one, and a plan for that."""
    model, view, plan = network(name)
    found = find_insertable(view, quantizer(plan))
    assert found is not None and found.channels == CHANNELS
    scalings = (found.scaling(np.array(factors())),)
    other = rescale(model, view, scalings)
    return model, other, plan.rescaled(scalings)


@pytest.mark.parametrize("name", READERS)
def test_the_function_stays_to_the_last_bits_and_layers_read_the_scaled_tensor(name: str):
    model, other, plan = scaled(name)
    for ours, theirs in zip(Session(other)(sample(model)), Session(model)(sample(model)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    view = GraphView(other)
    assert all(view.tensor(port) == quantizer_of(plan).tensor for port in quantizer_of(plan).consumers)
    values = (Session(_with_output(other, tensor))(sample(model))[0] for tensor in ("gelu", "gelu:0/scaled"))
    bare, divided = values
    axis = list(bare.shape).index(CHANNELS)
    np.testing.assert_array_equal(np.moveaxis(bare, axis, -1) / np.float32(factors()), np.moveaxis(divided, axis, -1))


def quantizer_of(plan: QuantizationPlan) -> ActivationQuantizer:
    (found,) = [one for one in plan.activations if one.tensor.node == "gelu:0/scaled"]
    return found


def _with_output(model: ov.Model, node: str) -> ov.Model:
    return ov.Model([GraphView(model).nodes[node].output(0)], model.get_parameters(), "one")


@pytest.mark.parametrize("name", READERS)
def test_a_layer_back_in_floating_point_reads_the_tensor_itself_by_its_own_weights(name: str):
    model, other, plan = scaled(name)
    ranged = tuple(replace(one, range=Range(-4.0, 4.0)) for one in plan.activations)
    left = replace(plan, activations=ranged).without([layer.name for layer in plan.layers])
    assert left.scalings == plan.scalings
    reverted = insert(other, left)
    for ours, theirs in zip(Session(reverted)(sample(model)), Session(model)(sample(model)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert "gelu:0/scaled" not in GraphView(reverted).nodes


def test_of_two_layers_one_can_be_reverted_alone():
    net = Net(4)
    x = op.gelu(net.input(1, 6, CHANNELS), "erf")
    x.set_friendly_name("gelu")
    first, second = dense(net, x), dense(net, x)
    first.set_friendly_name("first")
    second.set_friendly_name("second")
    model = net.model(first, second)
    view = GraphView(model)
    plan = place(view, find(view))
    found = find_insertable(view, quantizer(plan))
    assert found is not None
    scalings = (found.scaling(np.array(factors())),)
    plan = plan.rescaled(scalings)
    ranged = tuple(replace(one, range=Range(-4.0, 4.0)) for one in plan.activations)
    model_one = insert(rescale(model, view, scalings), replace(plan, activations=ranged).without(["second"]))
    inside = GraphView(model_one)
    assert inside.tensor(Port("second", 0)).node == "gelu"
    assert inside.tensor(Port("first", 0)).node == "gelu:0/scaled:0/fq"
    _, second_out = Session(model_one)(sample(model))
    np.testing.assert_array_equal(second_out, Session(model)(sample(model))[1])


def test_a_plan_goes_back_to_the_tensors_of_the_model():
    _, _, plan = network("matmul")
    scalings = (Scaling(quantizer(plan).tensor, factors(), tuple(sorted(quantizer(plan).consumers))),)
    moved = plan.rescaled(scalings)
    assert moved != plan and moved.rescaled(()) == plan and moved.rescaled(scalings) == moved


def test_layers_that_have_a_scale_for_each_channel_need_none_in_front():
    net = Net(4)
    x = op.gelu(net.input(*SHAPES["image"]), "erf")
    x.set_friendly_name("gelu")
    view = GraphView(net.model(net.depthwise(x)))
    found = find_insertable(view, quantizer(place(view, find(view))))
    assert found is None or found.depthwise


def test_two_layers_that_read_different_axes_take_no_common_scale():
    net = Net(4)
    x = op.gelu(net.input(1, CHANNELS, CHANNELS), "erf")
    x.set_friendly_name("gelu")
    view = GraphView(net.model(dense(net, x), dense(net, x, transposed=True)))
    assert find_insertable(view, quantizer(place(view, find(view)))) is None


@pytest.mark.parametrize("ports", [(Port("elsewhere", 0),), (Port("gelu", 0),)])
def test_a_scaling_in_front_of_what_is_not_there_is_refused(ports: tuple[Port, ...]):
    model, view, plan = network("matmul")
    with pytest.raises(StatisticsError, match="made for another model"):
        rescale(model, view, [Scaling(quantizer(plan).tensor, factors(), ports)])
