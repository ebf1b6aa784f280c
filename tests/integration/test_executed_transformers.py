"""MatMul in all its forms, attention and states: what the plan promises is what OpenVINO runs."""

from __future__ import annotations

import numpy as np
import pytest
from building import Net, integer, ints, op
from cpu_features import EXACT_INT8, TARGET
from proof import error, faults, prove

from calib import inspect, plan, quantize
from calib.graph.operations import CONVOLUTIONS
from calib.runtime.session import Session, ov
from calib.values.plan import Scheme


def block(tokens=16, size=32, heads=4, batch=1, fused=False):
    """Return a pre-norm transformer block; attention is written as MatMuls, or as one operation if ``fused``."""
    net = Net()
    x = net.input(batch, tokens, size)
    normed = net.layer_norm(x)

    def split(y):
        return op.transpose(op.reshape(y, np.array([0, 0, heads, size // heads]), True), np.array([0, 2, 1, 3]))

    q, k, v = (split(net.dense(normed, size)) for _ in range(3))
    if fused:
        mixed = op.scaled_dot_product_attention(q, k, v)
    else:
        scores = op.softmax(op.multiply(op.matmul(q, k, False, True), np.float32((size // heads) ** -0.5)), -1)
        mixed = op.matmul(scores, v, False, False)
    mixed = op.transpose(mixed, np.array([0, 2, 1, 3]))
    x = op.add(x, net.dense(op.reshape(mixed, np.array([0, 0, size]), True), size))
    hidden = op.gelu(net.dense(net.layer_norm(x), 4 * size), "erf")
    return net.model(op.add(x, net.dense(hidden, size)))


def test_the_dense_layers_of_a_transformer_block_run_in_int8_and_fused_attention_says_why_not():
    proof = prove(block(), None)
    assert len(proof.planned) == 6
    assert not proof.broken
    assert proof.computes_what_it_says()
    assert proof.keeps_the_interface()
    assert list(proof.reasons) == ["ScaledDotProductAttention_0"]
    assert "fewer than 64 keys" in proof.reasons["ScaledDotProductAttention_0"]
    q_k_v = [q for q in proof.plan.activations if len(q.routes) == 3]
    assert len(q_k_v) == 1  # one quantizer in front of three layers


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("target", ["cpu", "cpu-no-vnni"])
@pytest.mark.parametrize("shape", [(64, 1), (-1, -1)])
def test_attention_over_many_keys_is_not_fused_and_runs_in_int8_where_its_sums_are_exact(shape, target, fused):
    proof = prove(block(tokens=shape[0], batch=shape[1], fused=fused), None, target=target)
    assert len(proof.planned) == (8 if target == "cpu" else 6)
    assert len(proof.reasons) == (0 if target == "cpu" else 2)
    assert all("saturate on CPUs without VNNI" in reason for reason in proof.reasons.values())
    assert not proof.broken
    assert proof.keeps_the_interface()
    if EXACT_INT8 or target == "cpu-no-vnni":
        assert proof.computes_what_it_says()


def one(make, *shapes, target=TARGET):
    net = Net()
    return prove(net.model(make(net, *(net.input(*shape) for shape in shapes))), target=target)


FORMS = {
    "B": (lambda net, x: op.matmul(x, net.weights(16, 12), False, False), [(2, 8, 16)]),
    "B transposed": (lambda net, x: op.matmul(x, net.weights(12, 16), False, True), [(2, 8, 16)]),
    "A transposed": (lambda net, x: op.matmul(x, net.weights(8, 12), True, False), [(2, 8, 16)]),
    "B batched": (lambda net, x: op.matmul(x, net.weights(4, 16, 12), False, False), [(4, 8, 16)]),
    "B batched and transposed": (lambda net, x: op.matmul(x, net.weights(4, 12, 16), False, True), [(4, 8, 16)]),
}
BY_AN_ACTIVATION = {
    "constant A": (lambda net, x: op.matmul(net.weights(4, 16), x, False, False), [(1, 16, 8)]),
    "constant A transposed": (lambda net, x: op.matmul(net.weights(16, 4), x, True, False), [(1, 16, 8)]),
    "two activations": (lambda net, x, y: op.matmul(x, y, False, False), [(1, 4, 8, 16), (1, 4, 16, 8)]),
    "two activations, transposed": (lambda net, x, y: op.matmul(x, y, False, True), [(1, 4, 8, 16), (1, 4, 8, 16)]),
    "softmax and an activation": (
        lambda net, x, y: op.matmul(op.softmax(x, -1), y, False, False),
        [(1, 4, 8, 16), (1, 4, 16, 8)],
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_each_form_of_matmul_by_weights_runs_in_int8(name):
    make, shapes = FORMS[name]
    proof = one(make, *shapes)
    assert len(proof.planned) == 1
    assert not proof.broken
    assert proof.computes_what_it_says()
    assert error(proof.int8_outputs, proof.float_outputs) < 0.03


@pytest.mark.parametrize("name", BY_AN_ACTIVATION)
def test_each_form_of_matmul_by_an_activation_runs_in_int8(name):
    make, shapes = BY_AN_ACTIVATION[name]
    proof = one(make, *shapes, target="cpu")
    assert len(proof.planned) == 1
    assert not proof.broken
    if EXACT_INT8:
        assert proof.computes_what_it_says()
        assert error(proof.int8_outputs, proof.float_outputs) < 0.03


@pytest.mark.parametrize("name", BY_AN_ACTIVATION)
def test_a_matmul_by_an_activation_stays_in_floating_point_for_cpus_without_vnni(name):
    make, shapes = BY_AN_ACTIVATION[name]
    proof = one(make, *shapes, target="cpu-no-vnni")
    assert not proof.planned
    assert "its second factor is an activation" in " ".join(proof.reasons.values())


@pytest.mark.parametrize(("target", "planned"), [("cpu", "int8"), ("cpu-no-vnni", "float")])
def test_plan_and_inspection_follow_the_target(target, planned):
    net = Net()
    model = net.model(net.dense(op.matmul(net.input(1, 4, 16), net.input(1, 16, 8), False, False), 4))
    layers = inspect(model, target=target).layers
    assert [layer.planned for layer in layers] == [planned, "int8"]
    assert {layer.name for layer in plan(model, target=target).layers} == {
        layer.name for layer in layers if layer.planned == "int8"
    }


def full(*shape):
    """Return samples that are as large as the second factor gets wherever it can be, of one sign a sample."""
    return [np.full(shape, sign, np.float32) for sign in (1, -1)]


@pytest.mark.parametrize("target", ["cpu", "cpu-no-vnni"])
def test_sums_of_the_largest_products_are_exact_for_the_target_and_saturate_without_vnni(target):
    """All factors at their limits: on AVX2 pairs of products take twice the 16 bits that they are added in."""
    net = Net()
    x, y = net.input(1, 4, 8, 16), net.input(1, 4, 16, 8)
    weights = op.constant(np.ones((8, 12), np.float32))
    model = net.model(op.matmul(op.matmul(x, y, False, False), weights, False, False))
    feeds = [list(pair) for pair in zip(full(1, 4, 8, 16), full(1, 4, 16, 8), strict=True)]
    proof = prove(model, feeds, target=target)
    assert not proof.broken
    assert proof.planned == ({"MatMul_0", "MatMul_1"} if target == "cpu" else {"MatMul_1"})
    saturated = error(proof.int8_outputs, proof.float_outputs) > 0.25
    assert saturated == (target == "cpu" and not EXACT_INT8)


def test_the_second_of_two_activations_has_signed_levels_and_the_first_may_be_unsigned():
    def product(net, x, y):
        return op.matmul(op.softmax(x, -1), op.relu(y), False, False)

    proof = one(product, (1, 4, 8, 16), (1, 4, 16, 8), target="cpu")
    assert [q.scheme for q in proof.plan.activations] == [Scheme.UNSIGNED, Scheme.SYMMETRIC]
    assert not proof.broken


REFUSED = {
    "a vector of weights": (lambda net, x: op.matmul(x, net.weights(16), False, False), [(2, 8, 16)], "2.9 times as"),
    "a vector of data": (lambda net, x: op.matmul(x, net.weights(16, 8), False, False), [(16,)], "1.5 times as long"),
    "itself": (lambda net, x: op.matmul(x, x, False, True), [(2, 8, 16)], "with itself"),
    "constant A in front of a layer": (
        lambda net, x: net.dense(op.relu(op.matmul(net.weights(4, 16), x, False, False)), 4),
        [(1, 16, 8)],
        "weights are on the left" if EXACT_INT8 else "its second factor is an activation",
    ),
    "Unsqueeze behind": (
        lambda net, x: op.unsqueeze(op.matmul(x, net.weights(16, 12), False, False), op.constant(np.int64(3))),
        [(2, 8, 16)],
        "fails to move the scales",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_form_that_openvino_cannot_run_stays_in_floating_point_with_the_reason(name):
    make, shapes, words = REFUSED[name]
    proof = one(make, *shapes)
    assert any(words in reason for reason in proof.reasons.values())
    assert not proof.broken
    assert proof.computes_what_it_says()


def test_a_stateful_model_keeps_its_state_and_its_layers_run_in_int8():
    net = Net()
    x = net.input(1, 8)
    state = op.read_value(op.constant(np.zeros((1, 16), np.float32)), "state", ov.Type.f32, ov.PartialShape([1, 16]))
    new = op.tanh(op.add(net.dense(x, 16), net.dense(state, 16)))
    proof = prove(net.model(net.dense(new, 4), sinks=[op.assign(new, "state")]))
    assert len(proof.planned) == 3
    assert not proof.broken
    assert len(proof.model.get_sinks()) == 1
    assert proof.computes_what_it_says()


def _lstm(net, x):
    zeros = op.constant(np.zeros((1, 1, 16), np.float32))
    length, weights = op.constant(np.array([5])), [net.weights(1, 64, 8), net.weights(1, 64, 16), net.weights(1, 64)]
    return op.lstm_sequence(x, zeros, zeros, length, *weights, 16, "forward").output(0)


def _gru(net, x):
    zeros = op.constant(np.zeros((1, 1, 16), np.float32))
    length, weights = op.constant(np.array([5])), [net.weights(1, 48, 8), net.weights(1, 48, 16), net.weights(1, 64)]
    return op.gru_sequence(x, zeros, length, *weights, 16, "forward", linear_before_reset=True).output(0)


@pytest.mark.parametrize("cell", [_lstm, _gru])
def test_a_recurrent_sequence_is_left_alone_and_the_layers_around_it_are_not(cell):
    net = Net()
    proof = prove(net.model(net.dense(cell(net, net.dense(net.input(1, 5, 8), 8)), 4)))
    assert len(proof.planned) == 2
    assert not proof.broken
    assert any("recurrent layer" in reason or "reset gate" in reason for reason in proof.reasons.values())


def test_inputs_without_names_are_fed_by_position():
    net = Net()
    x, y = net.input(1, 8), net.input(1, 8)
    model = net.model(net.dense(op.concat([net.dense(x, 8), net.dense(y, 8)], 1), 8))
    for port in model.inputs:
        port.get_tensor().set_names(set())
    feeds = [[np.full((1, 8), i, np.float32), np.full((1, 8), -i, np.float32)] for i in range(1, 5)]
    proof = prove(model, feeds)
    assert len(proof.planned) == 3
    assert not proof.broken
    assert proof.computes_what_it_says()
    result = quantize(model, [tuple(feed) for feed in feeds], effort="fast", target=TARGET)
    assert error(list(Session(result.model).each(feeds)), proof.float_outputs) < 0.05


def _detector():
    """Return a YOLO-like head: boxes from the expectation over a Softmax and a MatMul with four columns, NMS, TopK."""
    net = Net()
    trunk = op.relu(net.conv(op.relu(net.conv(net.input(1, 3, 16, 16), 16, stride=2)), 16, stride=2))
    bins = op.softmax(op.reshape(op.transpose(op.reshape(net.conv(trunk, 64, 1), ints(1, 4, 16, 16), False),
                                              ints(0, 2, 1, 3)), ints(1, 16, 4, 16), False), 1)  # fmt: skip
    steps = op.constant(np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1))
    sides = op.reshape(op.convolution(bins, steps, [1, 1], [0, 0], [0, 0], [1, 1]), ints(1, 4, 16), False)
    corners = op.constant(np.array([[-1, 0, 1, 0], [0, -1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]], np.float32))
    boxes = op.matmul(op.transpose(sides, ints(0, 2, 1)), corners, False, False)
    scores = op.reshape(op.sigmoid(net.conv(trunk, 4, 1)), ints(1, 4, 16), False)
    kept = op.non_max_suppression(boxes, scores, np.int64(3), np.float32(0.5), np.float32(0.0))
    best = op.topk(op.reduce_max(scores, ints(1)), integer(3), 1, "max", "value")
    return net.model(boxes, scores, kept.output(0), *best.outputs())


def test_a_detection_head_keeps_its_boxes_in_floating_point_and_its_trunk_runs_in_int8():
    proof = prove(_detector())
    assert len(proof.planned) == 4
    assert not proof.broken
    words = sorted(reason.split(":")[0] for reason in proof.reasons.values())
    assert words == [
        "it sums 4 products an output, as box decoding does, and no INT8 layer reads it",
        CONVOLUTIONS["expectation"].reason.split(":")[0],
    ]
    assert proof.keeps_the_interface()
    real = [[outputs[:2] for outputs in side] for side in (proof.int8_outputs, proof.float_outputs)]
    assert error(*real) < 0.05


@pytest.mark.parametrize(("depth", "quantized"), [(4, False), (7, False), (8, True)])
def test_a_sum_of_few_products_stays_in_floating_point_beside_other_layers(depth, quantized):
    net = Net()
    few = op.matmul(net.input(1, 64, depth), net.weights(depth, 16), False, False)
    proof = prove(net.model(few, net.dense(net.input(1, 64, 32), 16)))
    assert len(proof.planned) == 1 + quantized
    assert all(f"it sums {depth} products an output" in reason for reason in proof.reasons.values())
    alone = Net()
    proof = prove(alone.model(op.matmul(alone.input(1, 64, depth), alone.weights(depth, 16), False, False)))
    assert proof.planned and not faults(proof)
