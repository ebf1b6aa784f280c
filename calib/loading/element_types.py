"""Bring a network that computes in f16, bf16 or f64 to f32, with the types of its ports kept.

INT8 primitives are chosen in f32 networks only. The CPU plug-in computes all these types in f32, or in the precision
that it is given, so the numbers stay the same::

    Parameter(f16) ──▶ Convolution(f16, f16 weights) ──▶ Result(f16)                                      before
    Parameter(f16) ──▶ Convert(f32) ──▶ Convolution(f32, f32 weights) ──▶ Convert(f16) ──▶ Result(f16)    after

Inputs, outputs, states and operations of an extension keep their types, since what surrounds the network relies on
them. The Parameters and Results of bodies are no ports in this sense.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from calib.graph.view import bodies, is_custom, replace_readers
from calib.runtime.session import attributes_of, ov

op = ov.opset13

OTHER_FLOATS = (ov.Type.f16, ov.Type.bf16, ov.Type.f64)
_NAMES = frozenset(kind.get_type_name() for kind in OTHER_FLOATS)


def bring_to_f32(model: ov.Model) -> list[str]:
    """Make a network and its bodies compute in f32, in place, and return a sentence on it; none if they did before.

    Constants become f32 ones of the same values (f64 is rounded) and of the same names. Where a constant of another
    type is converted, as stored weights are, it stays as it is.

    Args:
        model: Model with unique friendly names, which is edited in place with its bodies.
    """
    changed = _retype(model, ports=True)
    model.validate_nodes_and_infer_types()
    if not changed:
        return []
    which = " and ".join(sorted(changed))
    return [
        f"{changed.total()} operations that compute in {which} were brought to f32, as INT8 primitives need it; inputs "
        "and outputs keep their types"
    ]


def _retype(model: ov.Model, *, ports: bool) -> Counter[str]:
    """Change the types inside one graph; ``ports`` tells whether its Parameters and Results keep theirs."""
    ordered = model.get_ordered_ops()
    kept = {node.get_friendly_name() for node in ordered if _keeps_type(node, ports)}
    changed: Counter[str] = Counter()
    for node in ordered:
        for body in bodies(node):
            changed += _retype(body, ports=False)
        if node.get_friendly_name() in kept:
            _convert_behind(node, kept)
        elif node.get_type_name() == "Constant":
            _widen(node, kept)
        elif _rounds_constant(node):
            _widen(_folded(node), kept)
        elif not _converts_for_kept(node, kept):
            changed.update({port.get_element_type().get_type_name() for port in node.outputs()} & _NAMES)
            _convert_in_front_of(node, kept)
            _set_type(node)
    return changed


def _keeps_type(node: ov.Node, ports: bool) -> bool:
    kind = node.get_type_name()
    if kind in ("Parameter", "Result"):
        return ports
    return kind in ("ReadValue", "Assign") or is_custom(node)


def _converts_for_kept(node: ov.Node, kept: set[str]) -> bool:
    """Return whether a node is the last Convert before outputs of another type, which stays as it is."""
    readers = node.output(0).get_target_inputs() if node.get_type_name() == "Convert" else ()
    return bool(readers) and all(port.get_node().get_friendly_name() in kept for port in readers)


def _rounds_constant(node: ov.Node) -> bool:
    """Return whether a node converts a constant to less than f32, which the plug-in does before anything else."""
    kind = node.get_output_element_type(0) if node.get_type_name() == "Convert" else None
    return kind in (ov.Type.f16, ov.Type.bf16) and node.input_value(0).get_node().get_type_name() == "Constant"


def _folded(convert: ov.Node) -> ov.Node:
    """Replace the conversion of a constant by a constant of the same values and the same name, and return that."""
    given: Any = convert.input_value(0).get_node()
    values = ov.Tensor(convert.get_output_element_type(0), convert.get_output_shape(0))
    convert.evaluate([values], [given.tensor_view])
    constant = ov.op.Constant(values)
    constant.set_friendly_name(convert.get_friendly_name())
    return replace_readers(convert.output(0), lambda _: constant)


def _convert_behind(node: ov.Node, kept: set[str]) -> None:
    """Let what reads an output of another type read f32; a Convert reads it as it is."""
    for output in node.outputs():
        if output.get_element_type() in OTHER_FLOATS:
            readers = [port for port in output.get_target_inputs() if not _takes_any(port.get_node(), kept)]
            if readers:
                _redirect(readers, op.convert(output, "f32"))


def _takes_any(reader: ov.Node, kept: set[str]) -> bool:
    return reader.get_type_name() == "Convert" or reader.get_friendly_name() in kept


def _convert_in_front_of(node: ov.Node, kept: set[str]) -> None:
    """Give the type of before to those readers of a node that keep theirs; an output's tensor names move with it."""
    for output in node.outputs():
        kind = output.get_element_type()
        readers = [port for port in output.get_target_inputs() if port.get_node().get_friendly_name() in kept]
        if kind not in OTHER_FLOATS or not readers:
            continue
        convert = op.convert(output, kind)
        if any(port.get_node().get_type_name() == "Result" for port in readers):
            convert.output(0).set_names(output.get_names())
            output.set_names(set())
        _redirect(readers, convert)


def _widen(constant: ov.Node, kept: set[str]) -> None:
    """Replace a constant of another floating-point type, for those readers that take it as it is, by one in f32."""
    if constant.get_output_element_type(0) not in OTHER_FLOATS:
        return
    readers = [port for port in constant.output(0).get_target_inputs() if not _takes_any(port.get_node(), kept)]
    if readers:
        found: Any = constant  # get_data and not data: numpy has no bf16
        wide = ov.op.Constant(found.get_data(dtype=np.float32))
        wide.set_friendly_name(constant.get_friendly_name())
        _redirect(readers, wide)


def _set_type(node: ov.Node) -> None:
    """Give a node f32 where it states another floating-point type; most infer theirs from what they read."""
    if node.get_type_name() == "Parameter":
        if node.get_output_element_type(0) in OTHER_FLOATS:
            parameter: Any = node
            parameter.set_element_type(ov.Type.f32)
    elif not bodies(node):
        for name, value in attributes_of(node).items():
            if isinstance(value, str) and value in _NAMES:
                node.set_attribute(name, "f32")


def _redirect(readers: list[ov.Input], source: ov.Node) -> None:
    for port in readers:
        port.replace_source_output(source.output(0))
