"""Recurrent layers: which can run in INT8 and why others can't, what they compute, and how levels are put into one.

::

    X ─▶ FakeQuantize[-a·d, a·d → -a, a] ─▶ LSTMSequence or GRUSequence     the same range for both: with two,
    H ─▶ FakeQuantize[-a, a] ──────────────▶                                OpenVINO 2026.4 takes one for both
    W·d, R: INT8, with the same scales for both matrices

OpenVINO 2026.4 takes the scales of W for R too, and those of an LSTM's gates in another order than their weights, so
there the gates have the same scales. Data of another size than the states are divided, and their weights multiplied:
the outputs are states, and have their levels. On AVX2, with 7-bit weights of random values, an LSTM of 16 over 12 steps
of normal values went from 14 to 33 dB, a GRU from 12 to 37 dB.

The state that goes on from step to step is INT8 too, so an error goes on with it. That is why these layers are not in
the table of ``layers``: whether one may be quantized is measured over whole sequences, before it joins the plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.graph.insert import INT8_WEIGHTS, clone_model, dequantized_constant
from calib.graph.operations import ANY_LAYER, SHAPE_ONLY
from calib.graph.view import GraphView
from calib.ranges.affine import quantize_weights
from calib.runtime.session import make_model, ov
from calib.values.plan import RecurrentRange, TensorId

opset = ov.opset13

# Ports of the two matrices of weights: those of the data, then those of the state.
MATRICES: Mapping[str, tuple[int, int]] = {
    "LSTMSequence": (4, 5),
    "GRUSequence": (3, 4),
    "RNNSequence": (3, 4),
    "LSTMCell": (3, 4),
    "GRUCell": (2, 3),
    "RNNCell": (2, 3),
}
CAN = frozenset({"LSTMSequence", "GRUSequence"})
ONE_FOR_ALL_GATES = frozenset({"LSTMSequence"})  # layers whose gates OpenVINO reorders without their scales

IN_FLOAT = "the CPU plug-in runs this recurrent layer in floating point, whatever its inputs are"
LATE_RESET = (
    "its reset gate comes behind the product (linear_before_reset, as PyTorch's GRU has it), and OpenVINO 2026.4 can't "
    "compile the INT8 form of that"
)
BOTH_WAYS = (
    "it runs in both directions and was not split, since it is in a body or the model was not normalized here: OpenVINO"
    " 2026.4 makes two layers of it without its name, so what they execute in can't be told"
)
INSIDE = "it is inside a body, where its error over time can't be measured"

# Power of the ratio of data to states that data are divided by: the larger, the fewer levels are left to the weights of
# the state. Of 0, 0.5, 0.75 and 1 it was the best or within 1.5 dB of it on four LSTMs and four GRUs of 16 to 64
# values, with random weights of 7 bits and ratios of 1.1 to 8.5. A search by error over time starts from it.
DIVIDED = 0.75


def why_in_float(view: GraphView, name: str) -> str:
    """Return why a recurrent layer can't run in INT8; empty if its error decides."""
    kind, attributes = view.types[name], view.attributes(name)
    if kind not in CAN:
        return IN_FLOAT
    if attributes.get("linear_before_reset"):
        return LATE_RESET
    if str(attributes["direction"]).lower() == "bidirectional":
        return BOTH_WAYS
    if not all(view.is_constant(view.inputs[name][port]) for port in MATRICES[kind]):
        return str(ANY_LAYER["computed"])
    if view.output(view.inputs[name][0]).get_element_type() != ov.Type.f32:
        return "it does not compute in f32"
    return INSIDE if name in view.inside else ""


def multiply_accumulates(view: GraphView, name: str) -> int:
    """Return the multiply-accumulates per inference of a recurrent layer; 0 if a shape is dynamic or it is another.

    Each step of each sample multiplies its data and its state with all weights once.
    """
    ports = MATRICES.get(view.types.get(name, ""))
    if ports is None:
        return 0
    shapes = [view.shape(view.inputs[name][port]) for port in (0, *ports)]
    if any(shape is None or None in shape for shape in shapes):
        return 0
    data, of_data, of_state = ([size or 0 for size in shape or ()] for shape in shapes)
    return view.runs(name) * prod(data[:-1]) * (prod(of_data) + prod(of_state))


def quantize_recurrent(model: ov.Model, ranges: Sequence[RecurrentRange]) -> ov.Model:
    """Return a clone in which these layers have levels for their data, states and weights."""
    clone = clone_model(model)
    put_levels(GraphView(clone), ranges)
    clone.validate_nodes_and_infer_types()
    return clone


def put_levels(view: GraphView, ranges: Sequence[RecurrentRange]) -> None:
    """Give these layers levels for their data, states and weights, in place."""
    for one in ranges:
        for port, levels in _with_levels(view, one).items():
            view.nodes[one.name].input(port).replace_source_output(levels)


def twin(view: GraphView, one: RecurrentRange) -> ov.Node:
    """Return a layer with levels that reads what a layer of the model reads; nothing reads it yet."""
    node, levels = view.nodes[one.name], _with_levels(view, one)
    inputs = [levels.get(port, source) for port, source in enumerate(node.input_values())]
    return sequence(view.types[one.name], inputs, view.attributes(one.name))


def sequence(kind: str, inputs: Sequence[ov.Output], attributes: Mapping[str, Any]) -> ov.Node:
    """Return an LSTMSequence, GRUSequence or RNNSequence with these inputs in order and these attributes."""
    names = ("hidden_size", "direction", "activations", "activations_alpha", "activations_beta", "clip")
    given = [attributes[name] for name in names]
    if kind == "LSTMSequence":
        return opset.lstm_sequence(*inputs, *given)
    if kind == "RNNSequence":
        return opset.rnn_sequence(*inputs, *given)
    return opset.gru_sequence(*inputs, *given, attributes["linear_before_reset"])


def _with_levels(view: GraphView, one: RecurrentRange) -> dict[int, ov.Output]:
    """Return port → data, state and weights with levels."""
    kind, node = view.types[one.name], view.nodes[one.name]
    high = np.float32(one.high)
    low = np.float32(-high * 128 / 127)  # 256 levels with one at zero
    found: dict[int, ov.Output] = {}
    sources = (node.input_value(0), _initial_state(view, one.name))
    for port, (source, divisor) in enumerate(zip(sources, (np.float32(one.divisor), np.float32(1)), strict=True)):
        levels = opset.fake_quantize(source, low * divisor, high * divisor, low, high, 256)
        levels.set_friendly_name(f"{one.name}/{('data', 'state')[port]}/fq")
        found[port] = levels.output(0)
    constants = [view.inputs[one.name][port] for port in MATRICES[kind]]
    of_data, of_state = (view.values(tensor).astype(np.float32) for tensor in constants)
    rounded = rounded_matrices(kind, of_data * np.float32(one.divisor), of_state, one.levels)
    for port, tensor, values in zip(MATRICES[kind], constants, rounded, strict=True):
        found[port] = dequantized_constant(values, f"{one.name}/{tensor.node}{INT8_WEIGHTS}")
    return found


def rounded_matrices(
    kind: str, of_data: NDArray[np.float32], of_state: NDArray[np.float32], levels: int
) -> list[tuple[NDArray[np.int8], NDArray[np.float32]]]:
    """Return both matrices in INT8, each with its scales, which are the same for both.

    Args:
        kind: Type of the layer.
        of_data: Weights of the data, ``(directions, gates · hidden, size)``.
        of_state: Weights of the state, ``(directions, gates · hidden, hidden)``.
        levels: Number of levels.
    """
    (ways, rows, size), states = of_data.shape, of_state.shape[2]
    joined = np.concatenate([of_data, of_state], 2).reshape(ways, rows // states, states, -1)
    shape = (ways, 1 if kind in ONE_FOR_ALL_GATES else rows // states, states, 1)
    values, scale = quantize_weights(joined, shape, levels)
    scales = np.broadcast_to(scale, (*joined.shape[:3], 1)).reshape(ways, rows, 1)
    parts = np.split(values.reshape(ways, rows, -1), [size], 2)
    return [(part, scales) for part in parts]


def _initial_state(view: GraphView, name: str) -> ov.Output:
    """Return the initial state of a layer in a form that OpenVINO does not fold to a constant without levels.

    With a constant state, usually zeros, it would run in f32. ``min(max(h + x₀, h), h)`` with a value of the data is h.
    """
    data, state = (view.output(tensor) for tensor in view.inputs[name][:2])
    if not _folds(view, view.inputs[name][1]):
        return state
    zeros, ones, axes = (opset.constant(np.array(values)) for values in ([0, 0, 0], [1, 1, 1], [0, 1, 2]))
    first = opset.slice(data, zeros, ones, ones, axes)
    return opset.minimum(opset.maximum(opset.add(state, first), state), state).output(0)


def _folds(view: GraphView, tensor: TensorId) -> bool:
    """Say whether a tensor follows from constants and shapes alone, as zeros that are made for the batch do."""
    waiting, seen = [tensor.node], {tensor.node}
    while waiting:
        name = waiting.pop()
        if view.types[name] in SHAPE_ONLY or view.types[name] == "Constant":
            continue
        if not view.inputs[name]:  # a Parameter, a variable that a state is read from
            return False
        new = {source.node for source in view.inputs[name]} - seen
        seen |= new
        waiting += new
    return True


def given_to(view: GraphView, name: str) -> list[TensorId]:
    """Return what a layer reads that is no constant, in the order of its ports."""
    return [tensor for tensor in view.inputs[name] if not view.is_constant(tensor)]


def alone(view: GraphView, name: str, levels: RecurrentRange | None = None) -> ov.Model:
    """Return a layer by itself with its outputs over time; what :func:`given_to` names are its inputs.

    Args:
        view: View of the floating-point model.
        name: Name of the layer.
        levels: Levels to give it; None for none.
    """
    sources = [view.output(tensor) for tensor in given_to(view, name)]
    read = [opset.parameter(one.get_partial_shape(), one.get_element_type()) for one in sources]
    rest = iter(read)
    inputs = [
        (opset.constant(view.values(tensor)) if view.is_constant(tensor) else next(rest)).output(0)
        for tensor in view.inputs[name]
    ]
    node = sequence(view.types[name], inputs, view.attributes(name))
    node.set_friendly_name(name)
    model = make_model([opset.result(node.output(0))], read, name=name)
    if levels is not None:
        put_levels(GraphView(model), [levels])
        model.validate_nodes_and_infer_types()
    return model


def range_of(
    name: str, reached: Sequence[float], levels: int, *, power: float = DIVIDED, share: float = 1.0
) -> RecurrentRange:
    """Return the levels of a layer.

    Args:
        name: Name of the layer.
        reached: Largest magnitude of the data, of the initial state and of the outputs.
        levels: Number of levels of its weights.
        power: Power of the ratio of data to states that data are divided by.
        share: Share of the data's reach that has levels; what is beyond is clipped.
    """
    data, state = share * float(reached[0]), float(max(reached[1:]))
    divisor = (data / state) ** power if data > 0 and state > 0 else 1.0
    return RecurrentRange(name, max(data / divisor, state) or 1.0, levels=levels, divisor=divisor)


def reaches(view: GraphView, name: str) -> list[ov.Output]:
    """Return the largest magnitude of each tensor that shares a layer's range: data, initial state and outputs."""
    tensors = [*view.inputs[name][:2], TensorId(name, 0)]
    return [_largest(view.output(tensor)) for tensor in tensors]


def _largest(x: ov.Output) -> ov.Output:
    rank = x.get_partial_shape().rank.get_length()
    return opset.reduce_max(opset.abs(x), np.arange(rank, dtype=np.int64), keep_dims=False).output(0)
