"""Where quantizers are put: on which tensors, for which ports, with which levels; nothing is compiled.

covers: calib.graph.finder
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from building import Net, max_pool, op

from calib.graph.finder import Found, find
from calib.graph.placement import place
from calib.graph.view import GraphView
from calib.runtime.session import ov
from calib.values.plan import ActivationQuantizer, Port, QuantizableNode, QuantizationPlan, Scheme, TensorId


def named(node: Any, name: str) -> Any:
    node.set_friendly_name(name)
    return node


def pooled_by(x: Any) -> Any:
    """Return the values of a MaxPool, whose second output is indices."""
    output = max_pool(x)
    named(output.get_node(), "pool")
    return output


def planned(net: Net, *outputs: Any, levels: int = 255) -> QuantizationPlan:
    for number, parameter in enumerate(net.inputs):
        parameter.set_friendly_name(f"input{number}")
    view = GraphView(net.model(*outputs))
    return place(view, find(view), weight_levels=levels)


def on(plan: QuantizationPlan) -> dict[str, ActivationQuantizer]:
    return {str(quantizer.tensor): quantizer for quantizer in plan.activations}


def conv(net: Net, x: Any, name: str, out: int = 8, **kinds: int) -> Any:
    return named(net.conv(x, out, **kinds), name)


def test_layers_that_read_one_tensor_share_its_quantizer_and_others_read_it_bare():
    net = Net()
    x = net.input(1, 3, 8, 8)
    plan = planned(net, conv(net, x, "a"), conv(net, x, "b"), op.relu(x))
    (quantizer,) = plan.activations
    assert quantizer.tensor == TensorId("input0")
    assert quantizer.consumers == {Port("a", 0), Port("b", 0)} and quantizer.layers == {"a", "b"}
    assert (quantizer.scheme, quantizer.unify, quantizer.signed_only) == (Scheme.ASYMMETRIC, "", False)
    assert quantizer.levels == 256


def test_a_quantizer_moves_up_through_what_only_selects_values():
    net = Net()
    x = named(op.sigmoid(net.input(1, 3, 8, 8)), "sigmoid")
    pooled = pooled_by(x)
    turned = named(op.transpose(pooled, np.array([0, 1, 3, 2])), "turn")
    (quantizer,) = planned(net, conv(net, turned, "a")).activations
    assert quantizer.tensor == TensorId("sigmoid")
    (route,) = quantizer.routes
    assert (route.entry, route.layer) == (Port("pool", 0), Port("a", 0))
    assert quantizer.unify == ""


@pytest.mark.parametrize(
    ("mode", "number", "kind", "above"),
    [
        ("edge", 0.0, op.tanh, True),
        ("reflect", 0.0, op.tanh, True),
        ("constant", 0.0, op.sigmoid, True),
        ("constant", 0.0, op.tanh, False),  # OpenVINO runs such a Pad in f32, and the MaxPool behind it
        ("constant", 5.0, op.sigmoid, False),
    ],
)
def test_a_quantizer_moves_up_through_a_pad_that_runs_in_int8(mode: str, number: float, kind: Any, above: bool):
    net, ends = Net(), np.array([0, 0, 1, 1])
    x = named(kind(net.input(1, 3, 8, 8)), "x")
    padded = named(op.pad(x, ends, ends, mode, op.constant(np.float32(number))), "padded")
    (quantizer,) = planned(net, conv(net, pooled_by(padded), "a")).activations
    assert quantizer.tensor == TensorId("x" if above else "padded")


def test_a_quantizer_that_stays_below_does_not_hold_back_those_of_other_branches():
    net = Net()
    x = net.input(1, 8, 8, 8)
    early = named(op.transpose(named(op.tanh(x), "early"), np.array([0, 1, 3, 2])), "moved")
    shared = named(op.transpose(op.sigmoid(x), np.array([0, 1, 3, 2])), "shared")  # a Relu reads it, too
    late = named(op.concat([x, named(op.elu(x, 1.0), "elu")], 1), "late")
    model = planned(net, conv(net, early, "a"), conv(net, shared, "b"), op.relu(shared), conv(net, late, "c"))
    assert set(on(model)) == {"early:0", "shared:0", "late:0"}


def test_a_dense_layer_has_signed_levels_only_for_data_that_is_signed():
    net = Net()
    layer = named(op.matmul(net.input(1, 6, 16), net.weights(16, 4), False, False), "dense")
    assert not planned(net, layer).activations[0].signed_only


def test_a_quantizer_stays_below_an_operation_that_somebody_else_reads():
    net = Net()
    pooled = pooled_by(op.sigmoid(net.input(1, 3, 8, 8)))
    (quantizer,) = planned(net, conv(net, pooled, "a"), op.relu(pooled)).activations
    assert quantizer.tensor == TensorId("pool") and quantizer.consumers == {Port("a", 0)}


def test_only_the_values_of_a_selecting_operation_are_quantized_not_its_indices():
    net = Net()
    words = named(op.gather(op.sigmoid(net.input(1, 6, 16)), np.array([0, 2]), np.int64(1)), "rows")
    plan = planned(net, named(op.matmul(words, net.weights(16, 4), False, False), "a"))
    assert [q.consumers for q in plan.activations] == [{Port("rows", 0)}]


def joined(net: Net, x: Any, *parts: str, name: str = "join") -> Any:
    kinds = {"sigmoid": op.sigmoid, "tanh": op.tanh, "relu": op.relu}
    return named(op.concat([named(kinds[part](x), part) for part in parts], 1), name)


def test_the_inputs_of_a_concat_are_quantized_together():
    net = Net()
    join = joined(net, net.input(1, 3, 8, 8), "sigmoid", "tanh")
    found = on(planned(net, conv(net, join, "a")))
    assert set(found) == {"sigmoid:0", "tanh:0"}
    assert {quantizer.unify for quantizer in found.values()} == {"join"}
    assert found["tanh:0"].consumers == {Port("join", 1)}


def test_concats_that_share_an_input_are_one_group():
    net = Net()
    x = net.input(1, 3, 8, 8)
    shared = named(op.elu(x, 1.0), "shared")
    one = named(op.concat([named(op.sigmoid(x), "left"), shared], 1), "one")
    two = named(op.concat([shared, named(op.tanh(x), "right")], 1), "two")
    found = on(planned(net, conv(net, one, "a"), conv(net, two, "b")))
    assert set(found) == {"left:0", "shared:0", "right:0"}
    assert len({quantizer.unify for quantizer in found.values()}) == 1
    assert found["shared:0"].layers == {"a", "b"}


def test_a_concat_of_concats_is_one_group():
    net = Net()
    x = net.input(1, 3, 8, 8)
    inner = joined(net, x, "sigmoid", "tanh", name="inner")
    outer = named(op.concat([inner, named(op.relu(x), "relu")], 1), "outer")
    found = on(planned(net, conv(net, outer, "a")))
    assert set(found) == {"sigmoid:0", "tanh:0", "relu:0"}
    assert {quantizer.unify for quantizer in found.values()} == {"outer"}


@pytest.mark.parametrize("kind", ["input", "state", "twice", "constant"])
def test_a_concat_that_gains_nothing_from_int8_inputs_is_quantized_behind(kind: str):
    net = Net()
    x = net.input(1, 3, 8, 8)
    part = named(op.sigmoid(x), "part")
    state = op.read_value(net.weights(1, 3, 8, 8), "state", ov.Type.f32, ov.PartialShape([1, 3, 8, 8]))
    other = {"input": x, "state": state, "twice": part, "constant": net.weights(1, 3, 8, 8)}[kind]
    join = named(op.concat([part, other], 1), "join")
    sinks = [op.assign(op.relu(x), "state")] if kind == "state" else []
    view = GraphView(net.model(conv(net, join, "a"), sinks=sinks))
    layer = QuantizableNode("a", "Convolution", (0,), (1,))  # the finder leaves the one with a constant out
    (quantizer,) = place(view, Found((layer,), ())).activations
    assert (quantizer.tensor, quantizer.unify) == (TensorId("join"), "")


def test_both_inputs_of_a_product_have_signed_levels_and_the_second_whatever_its_data():
    net = Net()
    a, b = net.input(1, 6, 16), net.input(1, 6, 16)
    found = on(planned(net, named(op.matmul(a, b, False, True), "product")))
    assert {name: (q.scheme, q.signed_only) for name, q in found.items()} == {
        "input0:0": (Scheme.SYMMETRIC, False),
        "input1:0": (Scheme.SYMMETRIC, True),
    }


def test_a_tensor_has_the_strictest_levels_that_any_of_its_readers_wants():
    net = Net()
    a, b = net.input(1, 6, 16), net.input(1, 6, 16)
    product = named(op.matmul(a, b, False, True), "product")
    dense = named(op.matmul(b, net.weights(16, 4), False, False), "dense")
    found = on(planned(net, product, dense))
    assert (found["input1:0"].scheme, found["input1:0"].signed_only) == (Scheme.SYMMETRIC, True)
    assert found["input1:0"].layers == {"product", "dense"}


def test_weights_on_the_left_take_signed_levels_on_the_right():
    net = Net()
    x = net.input(1, 8, 16)
    plan = planned(net, named(op.matmul(net.weights(8, 8), x, False, False), "left"))
    (quantizer,), (weight,) = plan.activations, plan.weights
    assert (quantizer.scheme, quantizer.signed_only) == (Scheme.SYMMETRIC, True)
    assert quantizer.consumers == {Port("left", 1)} and weight.port == Port("left", 0)


def depthwise(net: Net, x: Any, name: str) -> Any:
    return named(net.depthwise(x), name)


def test_only_depthwise_layers_may_have_a_range_for_each_channel():
    net = Net()
    x = net.input(1, 8, 8, 8)
    assert planned(net, depthwise(net, x, "d")).activations[0].per_channel
    assert not planned(net, depthwise(net, x, "d"), conv(net, x, "a")).activations[0].per_channel
    moved = pooled_by(x)
    assert not planned(net, depthwise(net, moved, "d")).activations[0].per_channel


@pytest.mark.parametrize(("groups", "per_channel"), [(1, True), (4, False), (8, True)])
@pytest.mark.parametrize("between", [lambda y: y, op.swish, lambda y: op.add(op.swish(y), y)])
def test_signed_ranges_behind_groups_that_are_no_channels_are_one_range(groups: int, per_channel: bool, between: Any):
    net = Net()
    behind = between(net.conv(net.input(1, 8, 8, 8), 8, groups=groups))
    assert planned(net, depthwise(net, behind, "d")).activations[-1].per_channel is per_channel
    net = Net()
    positive = op.relu(net.conv(net.input(1, 8, 8, 8), 8, groups=groups))
    assert planned(net, depthwise(net, positive, "d")).activations[-1].per_channel


def test_a_long_way_of_sums_is_walked_once():
    net = Net()
    y = net.input(1, 8, 8, 8)
    for _ in range(2000):
        y = op.add(y, op.sigmoid(y))
    assert planned(net, depthwise(net, y, "d")).activations[-1].per_channel


def test_signed_ranges_for_each_channel_need_a_shape_that_is_known():
    net = Net()
    x = net.input(1, 8, 8, 8)
    for tensor, expected in ((x, False), (op.relu(x), True)):
        model = net.model(depthwise(net, tensor, "d"))
        model.reshape({0: [1, 8, -1, 8]})
        view = GraphView(model)
        assert place(view, find(view)).activations[0].per_channel is expected


def test_a_concat_has_no_range_for_each_channel():
    net = Net()
    join = joined(net, net.input(1, 4, 8, 8), "sigmoid", "tanh")
    assert [q.per_channel for q in planned(net, depthwise(net, join, "d")).activations] == [False, False]


def scales(net: Net, layer: Any) -> tuple[int, ...]:
    (weight,) = planned(net, layer).weights
    return weight.scale_shape


def test_weights_have_a_scale_for_each_output_channel():
    net, other = Net(), Net()
    x, rows = net.input(1, 8, 8, 8), other.input(2, 8, 16)
    net.inputs[:], other.inputs[:] = [x], [rows]
    assert scales(net, net.conv(x, 4)) == (4, 1, 1, 1)
    assert scales(net, net.conv(x, 16, groups=2)) == (2, 8, 1, 1, 1)
    assert scales(net, net.depthwise(x)) == (8, 1, 1, 1, 1)
    assert scales(net, net.deconv(op.relu(x), 5)) == (1, 5, 1, 1)
    assert scales(other, op.matmul(rows, other.weights(16, 4), False, False)) == (1, 4)
    assert scales(other, op.matmul(rows, other.weights(4, 16), False, True)) == (4, 1)
    assert scales(other, op.matmul(rows, other.weights(2, 16, 4), False, False)) == (2, 1, 4)
    assert scales(other, op.matmul(rows, other.weights(2, 4, 16), False, True)) == (2, 4, 1)
    assert scales(other, op.matmul(other.weights(4, 8), rows, False, False)) == (4, 1)
    assert scales(other, op.matmul(other.weights(8, 4), rows, True, False)) == (1, 4)


def test_weights_have_as_many_levels_as_asked_for():
    net = Net()
    x = net.input(1, 3, 8, 8)
    assert planned(net, net.conv(x, 4)).weights[0].levels == 255
    assert planned(net, net.conv(x, 4), levels=127).weights[0].levels == 127


def test_quantizers_come_in_the_order_of_the_network():
    net = Net()
    x = net.input(1, 3, 8, 8)
    last = conv(net, named(op.relu(conv(net, named(op.relu(conv(net, x, "z")), "y"), "m")), "b"), "a")
    assert [str(q.tensor) for q in planned(net, last).activations] == ["input0:0", "y:0", "b:0"]


def test_what_was_skipped_stays_in_the_plan_with_its_reason():
    net = Net()
    x = net.input(1, 4, 8, 8)
    plan = planned(net, named(net.deconv(x, 4, groups=4), "up"), conv(net, x, "a"))
    assert [layer.name for layer in plan.layers] == ["a"]
    assert [(skipped.name, bool(skipped.reason)) for skipped in plan.skipped] == [("up", True)]


def residual(kernel: int = 1, rectified: bool = True, read_bare: bool = False) -> QuantizationPlan:
    """Plan two blocks' worth of a residual network: stem, MaxPool, branch, Add, two layers behind it."""
    net = Net()
    stem = named(op.relu(conv(net, net.input(1, 3, 8, 8), "stem")), "skip")
    x = pooled_by(stem)
    branch = conv(net, op.relu(conv(net, x, "first")), "branch", kernel=kernel)
    total = named(op.add(branch, x), "add")
    total = named(op.relu(total), "sum") if rectified else total
    outputs = [conv(net, total, "next"), conv(net, total, "other")]
    return planned(net, *outputs, *([op.exp(total)] if read_bare else []))


def test_a_residual_add_reads_what_the_layers_around_it_read():
    plan = residual()
    skip, branch = on(plan)["skip:0"], on(plan)["branch:0"]
    assert skip.layers == {"first"} and skip.consumers == {Port("pool", 0)}  # through the MaxPool, with everybody
    assert not branch.layers and branch.consumers == {Port("add", 0)}
    assert branch.scheme == Scheme.SYMMETRIC
    for quantizer in (skip, branch):
        (fused,) = quantizer.fused
        assert fused.layers == ("branch", "first", "next", "other") and "8 bit" in fused.reason


def test_the_branch_of_a_residual_add_is_rounded_only_behind_a_kernel_of_one_point():
    assert "branch:0" not in on(residual(kernel=3))
    assert on(residual(kernel=3))["skip:0"].fused


@pytest.mark.parametrize("kinds", [{"rectified": False}, {"read_bare": True}])
def test_a_sum_that_is_signed_or_read_in_floating_point_is_not_fused(kinds: dict[str, bool]):
    assert not any(quantizer.fused for quantizer in residual(**kinds).activations)


@pytest.mark.parametrize("layer", ["branch", "first", "next"])
def test_a_layer_that_goes_back_to_floating_point_takes_the_add_with_it(layer: str):
    left = residual().without([layer])
    assert not any(quantizer.fused for quantizer in left.activations)
    assert "branch:0" not in on(left)


def test_what_a_mean_over_space_reads_is_quantized_if_the_mean_is():
    net = Net()
    x = named(op.relu(conv(net, net.input(1, 3, 8, 8), "a")), "relu")
    mean = named(op.reduce_mean(x, np.array([2, 3]), False), "mean")
    plan = planned(net, named(net.dense(mean, 4), "dense"))
    assert {"relu:0", "mean:0"} <= set(on(plan))
    (fused,) = on(plan)["relu:0"].fused
    assert fused.port == Port("mean", 0) and "a" in fused.layers
    assert on(plan.without(["a"])).keys() == {"mean:0"}


@pytest.mark.parametrize("axes", [[1], [2]])
def test_what_another_mean_reads_is_not_quantized(axes: list[int]):
    net = Net()
    x = named(op.relu(conv(net, net.input(1, 3, 8, 8), "a")), "relu")
    plan = planned(net, net.dense(op.reduce_mean(x, np.array(axes), False), 4))
    assert "relu:0" not in on(plan)


def test_a_zero_point_costs_where_a_convolution_pads_and_no_level_behind_it_is_of_a_channel():
    net = Net()
    x = net.input(1, 3, 8, 8)
    padded = conv(net, x, "padded")
    assert on(planned(net, padded))["input0:0"].padded
    assert not on(planned(net, named(net.depthwise(op.relu(padded)), "depthwise")))["input0:0"].padded
    bare = Net()
    assert not on(planned(bare, conv(bare, bare.input(1, 3, 8, 8), "one", kernel=1)))["input0:0"].padded


def bottlenecks(*widths: int) -> QuantizationPlan:
    """Return the plan of MatMuls over 1,024 rows from each width to the next, with a ReLU behind each."""
    net = Net()
    y = net.input(1, 1024, widths[0])
    for number, (columns, rows) in enumerate(pairwise(widths)):
        y = op.relu(named(op.matmul(y, net.weights(rows, columns), False, True), f"layer{number}"))
    return planned(net, y)


@pytest.mark.parametrize(
    ("widths", "left"),
    [
        ((7, 512, 7, 512), ["layer2"]),  # no INT8 layer reads its output, which would be rounded in a pass of its own
        ((7, 512), []),  # nothing else is left
        ((7, 7, 7), []),
        ((7, 7, 512, 16), []),
        ((512, 7, 512), ["layer1"]),
        ((8, 512), []),
    ],
)
def test_a_matmul_of_few_products_is_in_int8_where_an_int8_layer_reads_its_output(widths, left):
    plan = bottlenecks(*widths)
    assert [one.name for one in plan.skipped] == left
    assert all("no INT8 layer reads it" in one.reason for one in plan.skipped)
