"""Concat, Split and what values pass through on their way to a layer.

covers: calib.ranges.assign
"""

from __future__ import annotations

import numpy as np
import pytest
from building import Net, integer, ints, max_pool, op, resize, shape_of
from proof import error, faults, prove


def inception(scale=1.0):
    net = Net()
    x = net.input(1, 8, 16, 16)
    one = op.relu(net.conv(x, 8, 1))
    two = op.multiply(op.relu(net.conv(op.relu(net.conv(x, 8, 1)), 8)), np.float32(scale))
    return net.model(net.conv(op.concat([one, two, op.relu(net.conv(max_pool(x, 3, 1), 8, 1))], 1), 8))


def densenet(nested):
    net = Net()
    x = op.relu(net.conv(net.input(1, 8, 8, 8), 8))
    parts = [x]
    for _ in range(3):
        joined = op.concat(parts, 1) if len(parts) > 1 else x
        grown = op.relu(net.conv(joined, 8))
        parts = [joined, grown] if nested else [*parts, grown]
    return net.model(net.conv(op.concat(parts, 1), 4))


def joined_inputs(count):
    net = Net()
    parts = [net.input(1, 8, 8, 8) for _ in range(count)]
    computed = [] if count == 2 else [op.relu(net.conv(parts[0], 8))]
    return net.model(net.conv(op.concat([*parts, *computed], 1), 4))


def split_behind():
    net = Net()
    x = net.input(1, 8, 8, 8)
    joined = op.concat([op.relu(net.conv(x, 8)), op.relu(net.conv(x, 8))], 1)
    return net.model(*(net.conv(half, 4) for half in op.split(joined, integer(1), 2).outputs()))


JOINS = {
    "inception": (inception, 5),
    "inception of unlike ranges": (lambda: inception(30.0), 5),
    "densenet": (lambda: densenet(False), 5),
    "nested densenet": (lambda: densenet(True), 5),
    "an input and a layer": (lambda: joined_inputs(1), 2),
    "two inputs": (lambda: joined_inputs(2), 1),
    "split behind": (split_behind, 4),
}


@pytest.mark.parametrize("name", JOINS)
def test_layers_around_a_concat_run_in_int8(name):
    network, count = JOINS[name]
    proof = prove(network())
    assert len(proof.planned) == count
    assert not proof.broken
    assert proof.computes_what_it_says()
    assert error(proof.int8_outputs, proof.float_outputs) < 0.05


@pytest.mark.parametrize("nested", [False, True])
def test_everything_a_densenet_joins_has_one_range(nested):
    proof = prove(densenet(nested))
    joined = [q for q in proof.plan.activations if q.unify]
    assert len(joined) == 4
    assert len({(q.unify, q.range.low, q.range.high, q.scheme) for q in joined}) == 1


def test_a_layer_behind_a_concat_with_a_constant_stays_in_floating_point():
    net = Net()
    x = op.relu(net.conv(net.input(1, 8, 8, 8), 8))
    proof = prove(net.model(net.conv(op.concat([x, net.weights(1, 4, 8, 8)], 1), 4)))
    assert "from a constant and others" in proof.reasons["Convolution_1"]
    assert not proof.broken


def _pad(mode, value=0.0):
    return lambda x: op.pad(x, ints(0, 0, 1, 1), ints(0, 0, 1, 1), mode, op.constant(np.float32(value)))


CARRIERS = {
    "max pool": max_pool,
    "average pool": lambda x: op.avg_pool(x, [2, 2], [0, 0], [0, 0], [2, 2], True),
    "pad": _pad("constant"),
    "pad with a number": _pad("constant", 5.0),
    "reflect": _pad("reflect"),
    "edge and pool": lambda x: max_pool(_pad("edge")(x)),
    "pad of what is positive": lambda x: max_pool(_pad("constant")(op.relu(x))),
    "nearest": lambda x: resize(x, 16),
    "linear": lambda x: resize(x, 16, "linear_onnx"),
    "split": lambda x: op.split(x, integer(1), 2).output(1),
    "variadic split": lambda x: op.variadic_split(x, integer(1), ints(2, 6)).output(1),
    "depth to space": lambda x: op.depth_to_space(x, "blocks_first", 2),
    "space to depth": lambda x: op.space_to_depth(x, "blocks_first", 2),
    "shuffle": lambda x: op.shuffle_channels(x, 1, 2),
    "slice": lambda x: op.slice(x, ints(0), ints(4), ints(1), ints(1)),
    "gather": lambda x: op.gather(x, ints(1, 3, 5), integer(1)),
    "transpose": lambda x: op.transpose(x, np.array([0, 1, 3, 2])),
    "reshape": lambda x: op.reshape(x, np.array([1, 32, 4, 4]), False),
    "tile": lambda x: op.tile(x, np.array([1, 2, 1, 1])),
    "space to batch": lambda x: op.space_to_batch(x, ints(1, 1, 2, 2), ints(0, 0, 0, 0), ints(0, 0, 0, 0)),
    "mean": lambda x: op.reduce_mean(x, np.array([2, 3]), True),
    # Behind these a FakeQuantize would be fused into the reduction and computed wrongly: it has to be in front.
    "maximum over space": lambda x: op.reduce_max(x, np.array([2, 3]), True),
    "maximum over channels": lambda x: op.reduce_max(x, np.array([1]), True),
    "minimum": lambda x: op.reduce_min(op.negative(x), np.array([2, 3]), True),
}


@pytest.mark.parametrize("name", CARRIERS)
def test_a_layer_behind_an_operation_that_carries_values_runs_in_int8(name):
    net = Net()
    x = net.bias(net.conv(net.input(1, 8, 8, 8), 8))
    proof = prove(net.model(net.conv(CARRIERS[name](x), 4)))
    assert len(proof.planned) == 2
    assert not proof.broken
    assert proof.computes_what_it_says()


BEHIND_EXTREMES = {
    "activation": lambda x: op.gelu(x, "erf"),
    "swish": lambda x: op.multiply(x, op.sigmoid(x)),
    "clamp": lambda x: op.clamp(x, -1.0, 1.0),
    "moved": lambda x: op.transpose(op.tanh(x), np.array([0, 1, 3, 2])),
}


def behind_extreme(name):
    net = Net()
    largest = op.reduce_max(net.input(1, 8, 8, 8), np.array([1]), True)
    return net.model(net.conv(BEHIND_EXTREMES[name](largest), 8))


@pytest.mark.parametrize("name", BEHIND_EXTREMES)
def test_a_layer_whose_levels_would_be_fused_into_a_maximum_stays_in_float(name):
    proof = prove(behind_extreme(name))
    assert not proof.planned
    assert "fused into ReduceMax_0" in " ".join(proof.reasons.values())


def test_openvino_still_computes_levels_wrongly_that_it_fuses_into_a_maximum(monkeypatch):
    """Fails once OpenVINO computes this right: then EXTREMES can go from the operations."""
    monkeypatch.setattr("calib.graph.finder.EXTREMES", frozenset())
    assert not prove(behind_extreme("activation")).computes_what_it_says()


def test_a_maximum_that_an_operation_compares_with_is_no_reason_to_leave_a_layer_out():
    net = Net()
    x = net.input(1, 8, 8, 8)
    proof = prove(net.model(net.conv(op.subtract(x, op.reduce_max(x, np.array([1]), True)), 8)))
    assert len(proof.planned) == 1 and not proof.broken and proof.computes_what_it_says()


RISING = np.logspace(-1, 0, 32, dtype=np.float32)  # sizes of channels


def weighted(net, *shape):
    """Return tokens times weights whose outputs differ in size, without a bias."""
    return op.matmul(net.input(*shape), op.constant(RISING * net.weights(32, 32).get_data()), False, False)


SCALED_TOKENS = {
    "product": lambda net: weighted(net, 1, 10, 32),
    "activation": lambda net: op.relu(weighted(net, 1, 10, 32)),
    "batch": lambda net: weighted(net, 3, 10, 32),
    "grid": lambda net: weighted(net, 1, 4, 5, 32),
    "scale": lambda net: op.multiply(net.input(1, 10, 32), RISING),
}
REDUCED = {
    "mean": lambda x, axes: op.reduce_mean(x, axes, False),
    "sum": lambda x, axes: op.reduce_sum(x, axes, False),
    "scaled": lambda x, axes: op.multiply(op.reduce_mean(x, axes, False), RISING),
    "rectified": lambda x, axes: op.relu(op.reduce_mean(x, axes, False)),
}


def tokens(source, reduction):
    net = Net()
    x = SCALED_TOKENS[source](net)
    axes = np.arange(1, len(shape_of(x)) - 1)
    return net.model(net.dense(REDUCED[reduction](x, axes), 4))


@pytest.mark.parametrize(
    ("source", "reduction"),
    [*((source, "mean") for source in SCALED_TOKENS), *(("product", reduction) for reduction in REDUCED)],
)
def test_a_layer_behind_a_reduction_that_drops_axes_computes_what_it_says(source, reduction):
    proof = prove(tokens(source, reduction))
    assert len(proof.planned) == (1 if source == "scale" else 2) and not faults(proof)


@pytest.mark.parametrize("source", SCALED_TOKENS)
def test_openvino_still_takes_other_axes_for_the_channels_where_levels_are_fused_into_a_reduction(source, monkeypatch):
    """Fails once OpenVINO computes this right: then ``keep_axes`` can go."""
    monkeypatch.setattr("calib.graph.insert.REDUCING", frozenset())
    assert not prove(tokens(source, "mean")).computes_what_it_says()


def bottleneck(net, x, project):
    """Return a residual block whose branch ends in a kernel of one point."""
    skip = net.bias(net.conv(x, 16, 1)) if project else x
    branch = op.relu(net.bias(net.conv(x, 8, 1)))
    branch = op.relu(net.bias(net.conv(branch, 8, 3)))
    return op.relu(op.add(net.bias(net.conv(branch, 16, 1)), skip))


def test_residual_adds_and_the_mean_behind_them_run_inside_int8_layers():
    net = Net()
    x = max_pool(op.relu(net.bias(net.conv(net.input(1, 3, 16, 16), 8, 3))))
    x = bottleneck(net, bottleneck(net, x, project=True), project=False)
    proof = prove(net.model(net.dense(op.reduce_mean(x, np.array([2, 3]), False), 4)))
    assert not faults(proof)
    in_float = [node for node in proof.nodes if node.kind in ("Subgraph", "Pooling", "Reduce", "Eltwise")]
    assert [node.name for node in in_float if not node.int8] == ["Parameter_0:0/fq"]


def test_residual_adds_that_are_half_in_int8_compute_what_they_say():
    net = Net()
    x = op.relu(net.bias(net.conv(net.input(1, 3, 16, 16), 16, 3)))
    proof = prove(net.model(net.conv(bottleneck(net, x, project=False), 4)), None, ["Convolution_2"])
    assert not faults(proof)
