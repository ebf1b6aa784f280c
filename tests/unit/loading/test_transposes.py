"""Element-wise operations on channels-last data move in front of Transposes, which then undo each other."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from building import Net
from trust_fixtures.tiny import images

import calib
from calib.loading.normalize import normalize
from calib.loading.transposes import sink_transposes
from calib.runtime.session import Session, compile_model, ov
from calib.values.sqnr import relative_difference

op = ov.opset13
LAST, FIRST = np.array([0, 2, 3, 1]), np.array([0, 3, 1, 2])


def types(model: ov.Model) -> Counter[str]:
    return Counter(node.get_type_name() for node in model.get_ordered_ops())


def channels_last(blocks: int = 2, *, factor: int = 8) -> ov.Model:
    """Return residual blocks on channels-last data, with a BatchNormalization that is written out behind Transposes."""
    net, rng = Net(), np.random.default_rng(0)

    def layer(x: ov.Node, channels: int) -> ov.Node:
        found = op.transpose(net.conv(op.transpose(x, FIRST), channels), LAST)
        factors, terms = (rng.uniform(0.5, 2, factor).astype(np.float32) for _ in range(2))
        return op.add(op.multiply(found, factors), terms)

    x = op.relu(layer(op.transpose(net.input(1, 3, 8, 8), LAST), 8))
    for _ in range(blocks):
        x = op.relu(op.add(layer(x, 8), x))
    scores = op.reduce_mean(x, np.array([1, 2]))
    scores.output(0).set_names({"scores"})
    return net.model(scores)


def test_the_same_numbers_come_from_operations_that_are_fused_into_layers():
    model = channels_last()
    done = normalize(model)
    before, after = types(model), types(done.model)
    assert (before["Transpose"], before["Multiply"]) == (7, 3)
    assert after["Transpose"] <= 1 and after["Multiply"] == 0  # the mean reads channels-last data
    assert any("moved in front of a Transpose" in sentence for sentence in done.sentences)
    assert done.model.outputs[0].get_names() == {"scores"}
    for image in images(3):
        expected, found = (Session(one)([image[None]])[0] for one in (model, done.model))
        assert relative_difference(found, expected) < 1e-5


def test_a_residual_network_on_channels_last_data_runs_no_quantizer_alone():
    result = calib.quantize(channels_last(), list(images(16)), effort="fast", target="cpu")
    assert len(result.plan.layers) == 3
    executed = compile_model(result.model).get_runtime_model().get_ops()
    alone = [node for node in executed if node.get_rt_info()["layerType"].astype(str) == "FakeQuantize"]
    assert len(alone) <= 1  # that of the input


@pytest.mark.parametrize("case", ["another order", "kept", "no fewer", "another input"])
def test_what_would_not_remove_transposes_is_left_as_it_is(case: str):
    net = Net()
    order = np.array([0, 3, 1, 2]) if case == "another order" else LAST
    back = op.transpose(net.conv(net.input(1, 3, 8, 8), 8), order)
    back.set_friendly_name("back")
    moved: ov.Node = op.relu(back)
    if case == "another input":
        moved = op.add(back, op.sigmoid(op.convert(op.convert(back, "i32"), "f32")))
    undone = moved if case == "no fewer" else op.transpose(moved, np.argsort(order))
    model = net.model(op.relu(undone))
    before = types(model)
    assert sink_transposes(model, {"back"} if case == "kept" else ()) == 0
    assert types(model) == before


def test_an_operation_in_between_is_moved_and_both_transposes_are_gone():
    net = Net()
    x = op.transpose(net.conv(net.input(1, 3, 8, 8), 8), LAST)
    factors = np.arange(1, 9, dtype=np.float32)
    model = net.model(op.relu(op.transpose(op.multiply(op.sigmoid(x), factors), FIRST)))
    image = images(1)[0][None]
    expected = Session(model)([image])[0]
    assert sink_transposes(model) == 2
    assert types(model)["Transpose"] == 0
    assert relative_difference(Session(model)([image])[0], expected) < 1e-6
