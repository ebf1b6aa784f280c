"""Recurrent layers: which can run in INT8 and why others can't, what they compute, and how levels are put into one.

::

    X ─▶ FakeQuantize[-a, a] ─▶ LSTMSequence or GRUSequence     the same range for both: with two, OpenVINO 2026.4
    H ─▶ FakeQuantize[-a, a] ─▶                                 takes one of them for both
    W, R: INT8, with a scale for each row of each gate

The state that goes on from step to step is INT8 too, so an error goes on with it. That is why these layers are not in
the table of ``layers``: whether one may be quantized is measured over whole sequences.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from calib.graph.insert import INT8_WEIGHTS, clone_model, dequantized_constant
from calib.graph.view import GraphView
from calib.ranges.affine import quantize_weights
from calib.runtime.session import ov
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

IN_FLOAT = "the CPU plug-in runs this recurrent layer in floating point, whatever its inputs are"
LATE_RESET = (
    "its reset gate comes behind the product (linear_before_reset, as PyTorch's GRU has it), and OpenVINO 2026.4 can't "
    "compile the INT8 form of that"
)
BOTH_WAYS = (
    "it runs in both directions, which OpenVINO 2026.4 makes two layers of without its name, so that what they execute "
    "can't be told"
)
INSIDE = "it is inside a body, where its error over time can't be measured"
MEASURED = "a recurrent layer: beside others, it runs in INT8 where its error over whole held-out sequences allows that"


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
        return "its weights are computed at run time"
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


def quantize_recurrent(model: ov.Model, ranges: tuple[RecurrentRange, ...], weight_levels: int) -> ov.Model:
    """Return a clone in which these layers have levels for their data, states and weights."""
    clone = clone_model(model)
    view = GraphView(clone)
    for one in ranges:
        node = view.nodes[one.name]
        high = np.float32(one.high)
        low = np.float32(-high * 128 / 127)  # 256 levels with one at zero
        for port, source in enumerate((node.input_value(0), _initial_state(view, one.name))):
            levels = opset.fake_quantize(source, low, high, low, high, 256)
            levels.set_friendly_name(f"{one.name}/{('data', 'state')[port]}/fq")
            node.input(port).replace_source_output(levels.output(0))
        for port in MATRICES[view.types[one.name]]:
            source = view.inputs[one.name][port]
            values = view.values(source).astype(np.float32)
            rounded = quantize_weights(values, (*values.shape[:2], 1), weight_levels, ())
            name = f"{one.name}/{source.node}{INT8_WEIGHTS}"
            node.input(port).replace_source_output(dequantized_constant(rounded, name))
    clone.validate_nodes_and_infer_types()
    return clone


def _initial_state(view: GraphView, name: str) -> ov.Output:
    """Return the initial state of a layer in a form that OpenVINO does not fold to a constant without levels.

    With a constant state, usually zeros, it would run in f32. ``min(max(h + x₀, h), h)`` with a value of the data is h.
    """
    data, state = (view.output(tensor) for tensor in view.inputs[name][:2])
    if not view.is_constant(view.inputs[name][1]):
        return state
    zeros, ones, axes = (opset.constant(np.array(values)) for values in ([0, 0, 0], [1, 1, 1], [0, 1, 2]))
    first = opset.slice(data, zeros, ones, ones, axes)
    return opset.minimum(opset.maximum(opset.add(state, first), state), state).output(0)


def reaches(view: GraphView, name: str) -> list[ov.Output]:
    """Return the largest magnitude of each tensor that shares a layer's range: data, initial state and outputs."""
    tensors = [*view.inputs[name][:2], TensorId(name, 0)]
    return [_largest(view.output(tensor)) for tensor in tensors]


def _largest(x: ov.Output) -> ov.Output:
    rank = x.get_partial_shape().rank.get_length()
    return opset.reduce_max(opset.abs(x), np.arange(rank, dtype=np.int64), keep_dims=False).output(0)
