"""Which recurrent layers OpenVINO runs in INT8, pinned by compiling them, and what they compute."""

from __future__ import annotations

import numpy as np
import pytest
from building import Net, op
from recurrent_layers import recurrent

from calib.errors import ModelError
from calib.graph.finder import find
from calib.graph.layers import multiply_accumulates
from calib.graph.operations import MEASURED
from calib.graph.recurrent import (
    BOTH_WAYS,
    IN_FLOAT,
    LATE_RESET,
    MATRICES,
    alone,
    given_to,
    quantize_recurrent,
    range_of,
    reaches,
    rounded_matrices,
    why_in_float,
)
from calib.graph.taps import expose
from calib.graph.view import GraphView
from calib.runtime.executed import executed_nodes
from calib.runtime.session import Session, ov
from calib.values.plan import HALF_RANGE, RecurrentRange

STEPS, SIZE, HIDDEN = 12, 8, 16


def network(kind: str, direction: str = "forward", *, late: bool = False) -> ov.Model:
    net = Net()
    return net.model(recurrent(net, net.input(1, STEPS, SIZE), kind, direction, late=late, hidden=HIDDEN))


def in_int8(kind: str, direction: str = "forward", *, late: bool = False) -> ov.Model:
    one = RecurrentRange(kind, 1.0, levels=HALF_RANGE, divisor=3.0)
    return quantize_recurrent(network(kind, direction, late=late), [one])


def primitive(model: ov.Model) -> str:
    """Return what a recurrent layer runs as; empty if it is nothing that ends in a precision."""
    found = [node.primitive for node in executed_nodes(Session(model).compiled) if node.kind in ("RNNSeq", "RNNCell")]
    return found[0].lower() if found else ""


def error_db(model: ov.Model, other: ov.Model) -> float:
    x = np.random.default_rng(1).standard_normal((1, STEPS, SIZE)).astype(np.float32)
    (exact,), (y,) = Session(model)([x]), Session(other)([x])
    return float(10 * np.log10((exact**2).sum() / ((exact - y) ** 2).sum()))


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_one_range_for_data_and_state_runs_in_int8_in_one_direction(kind: str, direction: str):
    assert why_in_float(GraphView(network(kind, direction)), kind) == ""
    model = in_int8(kind, direction)
    assert primitive(model).endswith("i8")
    assert error_db(network(kind, direction), model) > 28  # 33 and 36 dB; with scales for each matrix 12 to 14


def test_a_constant_state_without_more_would_run_in_f32():
    """The reason for the form of the initial state: its levels are folded to a constant."""
    net = Net()
    model = net.model(recurrent(net, net.input(1, STEPS, SIZE), "lstm", hidden=HIDDEN))
    node = next(one for one in model.get_ordered_ops() if one.get_friendly_name() == "lstm")
    ends = [np.float32(v) for v in (-4 * 128 / 127, 4) * 2]
    for port in (0, 1):
        node.input(port).replace_source_output(op.fake_quantize(node.input_value(port), *ends, 256).output(0))
    assert not primitive(model).endswith("i8")


def test_a_state_of_zeros_made_for_the_batch_runs_in_int8_and_a_layer_alone_computes_the_same():
    """OpenVINO folds it, since the batch is fixed: exporters make the initial state so."""
    net = Net()
    model = net.model(recurrent(net, net.input(1, STEPS, SIZE), "lstm", hidden=HIDDEN))
    node = next(one for one in model.get_ordered_ops() if one.get_friendly_name() == "lstm")
    batch = op.gather(op.shape_of(model.inputs[0]), op.constant(np.array([0])), op.constant(np.int64(0)))
    shape = op.concat([batch, op.constant(np.array([1, HIDDEN]))], 0)
    node.input(1).replace_source_output(op.broadcast(op.constant(np.float32(0)), shape).output(0))
    view = GraphView(model)
    levels = RecurrentRange("lstm", 1.0, levels=HALF_RANGE, divisor=3.0)
    int8 = quantize_recurrent(model, [levels])
    assert primitive(int8).endswith("i8")
    x = np.random.default_rng(2).standard_normal((1, STEPS, SIZE)).astype(np.float32)
    assert given_to(view, "lstm") == list(view.inputs["lstm"][:2])
    for whole, one in ((model, None), (int8, levels)):
        by_itself = alone(view, "lstm", one)
        (y,), (other,) = Session(whole)([x]), Session(by_itself)([x, np.zeros((1, 1, HIDDEN), np.float32)])
        assert np.allclose(y.ravel(), other.ravel(), atol=1e-6)
    assert primitive(by_itself).endswith("i8")


def test_the_gru_of_pytorch_does_not_compile_with_levels_and_is_left_out_with_that_reason():
    view = GraphView(network("gru", late=True))
    assert why_in_float(view, "gru") == LATE_RESET
    with pytest.raises(ModelError):
        Session(in_int8("gru", late=True))


def test_of_both_directions_at_once_nothing_that_executes_has_the_name():
    assert why_in_float(GraphView(network("lstm", "bidirectional")), "lstm") == BOTH_WAYS
    ran = [node for node in executed_nodes(Session(in_int8("lstm", "bidirectional")).compiled) if node.kind == "RNNSeq"]
    assert len(ran) == 2 and not any("lstm" in node.originals for node in ran)


def test_plain_recurrence_runs_in_floating_point():
    assert why_in_float(GraphView(network("rnn")), "rnn") == IN_FLOAT
    assert not primitive(in_int8("rnn")).endswith("i8")


@pytest.mark.parametrize(("kind", "gates"), [("lstm", 4), ("gru", 3), ("rnn", 1)])
def test_each_step_multiplies_data_and_state_with_all_weights_once(kind: str, gates: int):
    view = GraphView(network(kind))
    assert multiply_accumulates(view, kind) == STEPS * gates * HIDDEN * (SIZE + HIDDEN)
    both = GraphView(network(kind, "bidirectional"))
    assert multiply_accumulates(both, kind) == 2 * multiply_accumulates(view, kind)


def test_recurrent_layers_are_listed_with_their_reason():
    reasons = {one.name: one.reason for kind in ("lstm", "rnn") for one in find(GraphView(network(kind))).skipped}
    assert reasons == {"lstm": MEASURED, "rnn": IN_FLOAT}


@pytest.mark.parametrize(("kind", "gates"), [("LSTMSequence", 4), ("GRUSequence", 3)])
def test_both_matrices_have_the_same_scales_and_those_of_an_lstm_are_the_same_for_all_gates(kind: str, gates: int):
    rng = np.random.default_rng(0)
    of_data = rng.standard_normal((1, gates * HIDDEN, SIZE)).astype(np.float32)
    of_state = 10 * rng.standard_normal((1, gates * HIDDEN, HIDDEN)).astype(np.float32)
    (data, scale), (state, same) = rounded_matrices(kind, of_data, of_state, HALF_RANGE)
    assert np.array_equal(scale, same) and max(np.abs(data).max(), np.abs(state).max()) == 63
    rows = scale.reshape(gates, HIDDEN)
    assert (np.ptp(rows, axis=0) == 0).all() if kind == "LSTMSequence" else (np.ptp(rows, axis=0) > 0).all()
    assert np.abs(data * scale - of_data).max() <= scale.max() / 2 + 1e-6
    assert np.abs(state * scale - of_state).max() <= scale.max() / 2 + 1e-6


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_openvino_takes_the_scales_of_the_datas_weights_for_those_of_the_state(kind: str):
    """The reason for the same scales in both: with a quarter of the numbers, the state counts a quarter."""
    model = network(kind)
    view = GraphView(model)
    port = MATRICES[view.types[kind]][1]
    int8 = in_int8(kind)
    node = next(one for one in int8.get_ordered_ops() if one.get_friendly_name() == kind)
    multiply = node.input_value(port).get_node()
    q, scale = multiply.input_value(0).get_node().input_value(0).get_node(), multiply.input_value(1).get_node()
    quarter = op.convert(op.constant(np.rint(q.data / 4).astype(np.int8)), np.float32)
    node.input(port).replace_source_output(op.multiply(quarter, op.constant(4 * scale.data)).output(0))
    int8.validate_nodes_and_infer_types()
    assert error_db(model, int8) < 20 < error_db(model, in_int8(kind))


def test_data_of_another_size_than_the_state_are_divided():
    one = range_of("lstm", (16.0, 0.0, 1.0), HALF_RANGE)
    assert (one.divisor, one.high, one.levels) == (8.0, 2.0, HALF_RANGE)
    assert range_of("lstm", (0.0, 0.0, 0.0), HALF_RANGE) == RecurrentRange("lstm", 1.0, levels=HALF_RANGE)


def test_a_range_reaches_as_far_as_data_states_and_outputs():
    model = network("lstm")
    x = np.full((1, STEPS, SIZE), -3, np.float32)
    data, state, outputs = Session(expose(model, lambda view: reaches(view, "lstm"), own=False))([x])
    assert (data, state) == (3, 0) and outputs == pytest.approx(np.abs(Session(model)([x])[0]).max())
