"""Move Transposes to channels-last behind element-wise operations, so that these are fused into convolutions.

A network that was written for channels-last data reaches OpenVINO with two Transposes around each convolution. What
stands between them is fused with nothing: factors of a BatchNormalization stay operations, and a residual Add writes
and reads f32 though both neighbours are INT8 (a ResNet-50 of this kind ran 14 FakeQuantize and 48 Adds alone)::

    Convolution ─▶ Transpose ─▶ Multiply(c) ─▶ Add ─▶ Relu ─▶ Transpose⁻¹ ─▶ Convolution
                                               ▲
                         skip ─▶ Transpose ────┘
    becomes
    Convolution ─▶ Multiply(c') ─▶ Add ─▶ Relu ─▶ Convolution,      c' = c with its axes as they were before
                                   ▲
                         skip ─────┘

An operation is moved if every input that is no constant comes from such a Transpose, all of the same order. It computes
the same numbers, in another order. Where the channels-last form is read too, a Transpose behind the operation gives it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from calib.graph.operations import ELEMENTWISE
from calib.graph.view import replace_readers
from calib.runtime.session import ov, values_of

op = ov.opset13

# Of these a constant is no factor or term that is broadcast, or numbers change their type.
_NOT_MOVED = frozenset({"PRelu", "Convert"})


def sink_transposes(model: ov.Model, kept: Collection[str] = ()) -> int:
    """Move Transposes behind element-wise operations, in place, if fewer of them are left then.

    Args:
        model: Model; its bodies are left as they are.
        kept: Friendly names of operations that stay as they are.

    Returns:
        The number of operations that were moved in front of a Transpose; 0 if nothing was changed.
    """
    every = [node for node in model.get_ordered_ops() if _channels_last(node, kept)]
    if not any(_is_moved(reader, kept) for node in every for reader in _readers(node)):
        return 0
    trial = model.clone()
    _sink(trial, kept)
    return _sink(model, kept) if _count(trial) < _count(model) else 0


def _count(model: ov.Model) -> int:
    return sum(node.get_type_name() == "Transpose" for node in model.get_ordered_ops())


def _sink(model: ov.Model, kept: Collection[str]) -> int:
    moved = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Transpose":
            _cancel(node, kept)
        elif _is_moved(node, kept):
            moved += _move(node, kept)
    return moved


def _readers(node: ov.Node) -> list[ov.Node]:
    return [port.get_node() for port in node.output(0).get_target_inputs()]


def _is_moved(node: ov.Node, kept: Collection[str]) -> bool:
    """Return whether an operation can be moved by its kind."""
    return node.get_type_name() in ELEMENTWISE - _NOT_MOVED and node.get_friendly_name() not in kept


def _order(node: ov.Node) -> tuple[int, ...]:
    """Return the order of a Transpose; () for another operation, and where it is not constant."""
    order = node.input_value(1).get_node() if node.get_type_name() == "Transpose" else node
    return tuple(int(axis) for axis in values_of(order).reshape(-1)) if order.get_type_name() == "Constant" else ()


def _channels_last(node: ov.Node, kept: Collection[str]) -> tuple[int, ...]:
    """Return the order of a Transpose that puts the channels of an image last; () for anything else."""
    if node.get_type_name() != "Transpose" or node.get_friendly_name() in kept:
        return ()
    order = _order(node)
    rank = len(order)
    return order if rank >= 4 and order == (0, *range(2, rank), 1) else ()


def _cancel(node: ov.Node, kept: Collection[str]) -> None:
    """Let the readers of a Transpose that undoes the one in front of it read what that one reads."""
    source, order = node.input_value(0).get_node(), _order(node)
    before = _channels_last(source, kept)
    if not before or node.get_friendly_name() in kept or [before[axis] for axis in order] != sorted(before):
        return
    readers = list(node.output(0).get_target_inputs())
    if not any(port.get_node().get_type_name() == "Result" for port in readers):  # its name is the output's
        for port in readers:
            port.replace_source_output(source.input_value(0))


def _move(node: ov.Node, kept: Collection[str]) -> bool:
    """Move an operation in front of the Transposes that it reads, in place, if it can be."""
    values = node.input_values()
    constants = [value for value in values if value.get_node().get_type_name() == "Constant"]
    data = [value.get_node() for value in values if value.get_node().get_type_name() != "Constant"]
    orders = {_channels_last(one, kept) for one in data}
    order = orders.pop() if len(orders) == 1 else ()
    alone = all(reader.get_type_name() in ELEMENTWISE | {"Transpose"} for one in data for reader in _readers(one))
    if not order or not alone or any(len(value.get_shape()) > len(order) for value in constants):
        return False
    name = data[0].get_friendly_name()
    for port in node.inputs():
        source = port.get_source_output().get_node()
        is_constant = source.get_type_name() == "Constant"
        port.replace_source_output(_as_before(source, order).output(0) if is_constant else source.input_value(0))
    node.validate_and_infer_types()
    back = replace_readers(node.output(0), lambda output: op.transpose(output, np.array(order)))
    back.set_friendly_name(name)
    names = node.output(0).get_names()
    node.output(0).get_tensor().set_names(set())
    back.output(0).get_tensor().set_names(names)
    return True


def _as_before(constant: ov.Node, order: Sequence[int]) -> ov.Node:
    """Return a constant with its axes as they are in front of a Transpose."""
    values = values_of(constant)
    if values.size == 1:
        return constant
    whole = values.reshape((1,) * (len(order) - values.ndim) + values.shape)
    made = ov.op.Constant(np.ascontiguousarray(np.transpose(whole, np.argsort(order))))
    made.set_friendly_name(constant.get_friendly_name())
    return made
