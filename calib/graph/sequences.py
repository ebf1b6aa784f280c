"""Write recurrent layers in the form that can run in INT8: as sequences of one direction, outside of bodies.

The CPU plug-in does the same when it compiles a model, but gives the parts names of its own, so that what they execute
in could not be told::

    LSTMSequence (both ways)               ──▶  LSTMSequence (forward), LSTMSequence (reverse) ──▶ Concat
    TensorIterator, Loop: LSTMCell, GRUCell ──▶  LSTMSequence, GRUSequence

Source: BidirectionalLSTMSequenceDecomposition and ConvertTensorIteratorToLSTMSequence in OpenVINO's transformations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.graph.attention import Named
from calib.graph.operations import Refusal
from calib.graph.recurrent import MATRICES, sequence
from calib.graph.view import bodies, body_labels, trips
from calib.runtime.session import attributes_of, ov, values_of

op = ov.opset13

STAYS = Refusal("it is not of both directions, or its weights are computed at run time")
NO_CELL = Refusal("it is more than one LSTM or GRU cell over the steps of a sequence")
RESHAPING = frozenset({"Squeeze", "Unsqueeze", "Reshape"})
DIRECTIONS = ("forward", "reverse")
# Axis of the two directions at each input, and at each output 1; other inputs serve both.
_ONE_STATE = {1: 1, 3: 0, 4: 0, 5: 0}
SPLIT = {"LSTMSequence": {1: 1, 2: 1, 4: 0, 5: 0, 6: 0}, "GRUSequence": _ONE_STATE, "RNNSequence": _ONE_STATE}
STATES = {"LSTMCell": 2, "GRUCell": 1}  # states that go on from step to step: inputs and outputs of a cell


def refusal_to_split(node: ov.Node) -> Refusal | None:
    """Return why a sequence stays one operation; None if it runs in both directions and can be split."""
    fixed = all(_fixed(node.input_value(port)) is not None for port in MATRICES[node.get_type_name()])
    both = str(attributes_of(node)["direction"]).lower() == "bidirectional"
    return None if both and fixed else STAYS


def split_directions(node: ov.Node, named: Named) -> list[ov.Output]:
    """Return what a sequence of both directions gives, computed by one of each; the model is not edited."""
    kind, attributes = node.get_type_name(), attributes_of(node)
    halves = [_halves(node, port, SPLIT[kind].get(port), named) for port in range(node.get_input_size())]
    ways = [
        sequence(kind, [half[way] for half in halves], {**attributes, "direction": direction})
        for way, direction in enumerate(DIRECTIONS)
    ]
    for way, direction in zip(ways, DIRECTIONS, strict=True):
        named(way, direction)
    return [op.concat([way.output(i) for way in ways], 1).output(0) for i in range(node.get_output_size())]


def _halves(node: ov.Node, port: int, axis: int | None, named: Named) -> list[ov.Output]:
    """Return what the sequence of each direction reads at a port."""
    source = node.input_value(port)
    if axis is None:
        return [source, source]
    values = _fixed(source)
    if values is None:
        return list(op.split(source, op.constant(np.int64(axis)), 2).outputs())
    parts = zip(DIRECTIONS, np.split(values, 2, axis), strict=True)
    return [_constant(part, f"{direction}/input_{port}", named) for direction, part in parts]


def _constant(values: np.ndarray[Any, Any], name: str, named: Named) -> ov.Output:
    """Return a constant in f32; numbers in half precision are named, so that their file keeps them so."""
    if values.dtype == np.float32:
        return op.constant(values).output(0)
    return op.convert(named(op.constant(values), name), "f32").output(0)


def _fixed(source: ov.Output) -> np.ndarray[Any, Any] | None:
    """Return the numbers of a constant in f32, as they are stored: in f16 or f32; None of anything else."""
    node, kind = source.get_node(), source.get_element_type()
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant" or kind != ov.Type.f32:
        return None
    values = np.asarray(values_of(node))
    return values if values.dtype in (np.float16, np.float32) else None


@dataclass(frozen=True)
class _Cell:
    """A cell in the body of a TensorIterator or Loop that runs over the steps of a sequence.

    Attributes:
        node: The cell, in the body.
        data: Tensor of the steps, outside.
        axis: Axis of the steps, 0 or 1 of three.
        reverse: Whether the last step comes first.
        states: Initial states, outside: that of an LSTM's outputs, then that of its memory.
        outputs: For each output of the owner in order: -1 for the outputs over time, else the state that it is the
            last value of.
    """

    node: ov.Node
    data: ov.Output
    axis: int
    reverse: bool
    states: tuple[ov.Output, ...]
    outputs: tuple[int, ...]


def refusal_to_unroll(node: ov.Node) -> Refusal | None:
    """Return why a TensorIterator or Loop stays as it is; None if it is one cell over the steps of a sequence."""
    return None if _cell(node) else NO_CELL


def cell_to_sequence(node: ov.Node, named: Named) -> list[ov.Output]:
    """Return the outputs of a TensorIterator or Loop, computed by the sequence of its cell."""
    cell = _cell(node)
    assert cell is not None
    kind = cell.node.get_type_name().replace("Cell", "Sequence")
    turn = op.constant(np.array([1, 0, 2]))
    data = cell.data if cell.axis else named(op.transpose(cell.data, turn), "batch_first")
    shape = op.shape_of(data)
    steps, batch = (op.gather(shape, op.constant(np.array([axis])), op.constant(np.int64(0))) for axis in (1, 0))
    static = data.get_partial_shape()
    if static.is_static:
        lengths = op.constant(np.full(static[0].get_length(), static[1].get_length(), np.int64))
    else:
        lengths = op.broadcast(steps, batch)
    within = f"{body_labels(node)[0]}/{cell.node.get_friendly_name()}"
    ports = range(1 + len(cell.states), cell.node.get_input_size())
    matrices = {port: _fixed(cell.node.input_value(port)) for port in ports}
    weights = [_constant(one[None], f"input_{port}", named) for port, one in matrices.items() if one is not None]
    states = [_one_way(state) for state in cell.states]
    attributes = {**attributes_of(cell.node), "direction": DIRECTIONS[cell.reverse]}
    made = sequence(kind, [data, *states, lengths.output(0), *weights], attributes)
    named(made, within)
    one = op.constant(np.array([1]))
    over_time = op.squeeze(made.output(0), one)
    if not cell.axis:
        over_time = op.transpose(over_time, turn)
    found = {-1: over_time.output(0)}
    return [found[i] if i in found else op.squeeze(made.output(1 + i), one).output(0) for i in cell.outputs]


def _one_way(state: ov.Output) -> ov.Output:
    """Return an initial state ``(batch, size)`` as a sequence takes it, ``(batch, 1, size)``."""
    values = _fixed(state)
    if values is not None:
        return op.constant(values[:, None].astype(np.float32)).output(0)
    return op.unsqueeze(state, op.constant(np.array([1]))).output(0)


def _cell(owner: ov.Node) -> _Cell | None:
    """Return the only cell of a TensorIterator or Loop, if its body holds nothing but it and what moves axes."""
    (body,), looped = bodies(owner), _methods(owner)
    nodes = body.get_ordered_ops()
    cells = [node for node in nodes if node.get_type_name() in STATES]
    kinds = {node.get_type_name() for node in nodes}
    if len(cells) != 1 or kinds - {*STATES, *RESHAPING, "Parameter", "Result", "Constant", "Convert"}:
        return None
    cell = cells[0]
    count = STATES[cell.get_type_name()]
    if attributes_of(cell).get("linear_before_reset"):
        return None  # PyTorch's GRU, which can't run in INT8
    if any(_fixed(cell.input_value(i)) is None for i in range(1 + count, cell.get_input_size())):
        return None
    wired, data = _states(owner, cell, count), None
    for one in looped.get_input_descriptions():
        if type(one).__name__ == "SliceInputDescription":
            data = one if data is None else False
    if wired is None or not data or abs(data.stride) != 1 or data.part_size != 1 or data.axis not in (0, 1):
        return None
    whole = (data.start, data.end) == ((0, -1) if data.stride == 1 else (-1, 0))
    step, source = body.get_parameters()[data.body_parameter_index], owner.input_value(data.input_index)
    if not whole or not _moves_only(step, cell.input_value(0)) or len(source.get_partial_shape()) != 3:
        return None
    if owner.get_type_name() == "Loop" and not _runs_over_all(owner, source, data.axis, nodes):
        return None
    outputs = _outputs(owner, cell, data)
    return _Cell(cell, source, data.axis, data.stride < 0, wired, outputs) if outputs else None


def _states(owner: ov.Node, cell: ov.Node, count: int) -> tuple[ov.Output, ...] | None:
    """Return the initial states, if each state goes on from step to step as it is."""
    (body,) = bodies(owner)
    parameters, results = body.get_parameters(), body.get_results()
    found: dict[int, ov.Output] = {}
    merged = [one for one in _methods(owner).get_input_descriptions() if type(one).__name__ == "MergedInputDescription"]
    for one in merged:
        parameter, value = parameters[one.body_parameter_index], results[one.body_value_index].input_value(0)
        for state in range(count):
            same = cell.input_value(1 + state).get_node() == parameter and value == cell.output(state)
            if same and owner.input_value(one.input_index).get_partial_shape().rank == ov.Dimension(2):
                found[state] = owner.input_value(one.input_index)
    return tuple(found[state] for state in range(count)) if len(found) == count == len(merged) else None


def _outputs(owner: ov.Node, cell: ov.Node, data: Any) -> tuple[int, ...]:
    """Return what each output of the owner is, as in ``_Cell``; empty if one is anything else."""
    (body,), found = bodies(owner), dict[int, int]()
    results = body.get_results()
    for one in _methods(owner).get_output_descriptions():
        value = results[one.body_value_index].input_value(0)
        if type(one).__name__ == "ConcatOutputDescription":
            alike = (one.axis, one.stride, one.start, one.end) == (data.axis, data.stride, data.start, data.end)
            shape = value.get_partial_shape()
            fits = len(shape) == 3 and shape[data.axis] == ov.Dimension(1) and one.part_size == 1
            if alike and fits and _moves_only(cell, value):
                found[one.output_index] = -1
        elif one.iteration == -1:
            last = [state for state in range(STATES[cell.get_type_name()]) if value == cell.output(state)]
            found |= dict.fromkeys([one.output_index] if last else [], last[0] if last else 0)
    return tuple(found[i] for i in range(owner.get_output_size())) if len(found) == owner.get_output_size() else ()


def _moves_only(source: ov.Node, tensor: ov.Output) -> bool:
    """Return whether a tensor is the first output of an operation but for axes of one that come or go."""
    node, index = tensor.get_node(), tensor.get_index()
    while node != source and node.get_type_name() in RESHAPING:
        node, index = node.input_value(0).get_node(), node.input_value(0).get_index()
    ports = (tensor, source.output(0))
    sizes = [[size for size in port.get_partial_shape() if size != ov.Dimension(1)] for port in ports]
    return node == source and index == 0 and sizes[0] == sizes[1]


def _runs_over_all(owner: ov.Node, source: ov.Output, axis: int, nodes: Sequence[ov.Node]) -> bool:
    """Return whether a Loop runs once for each step of a tensor, and never stops before."""
    size = source.get_partial_shape()[axis]
    conditions = [
        node.input_value(0).get_node()
        for node in nodes
        if node.get_type_name() == "Result" and node.get_output_element_type(0) == ov.Type.boolean
    ]
    on = all(node.get_type_name() == "Constant" and bool(values_of(node).all()) for node in conditions)
    return on and size.is_static and trips(owner) == size.get_length()


def _methods(owner: ov.Node) -> Any:
    """Return an owner with the methods of its type, which OpenVINO's stubs do not know of a Node."""
    return owner
