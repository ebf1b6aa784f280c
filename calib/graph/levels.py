"""Tell which inputs of layers a model quantizes itself, in whichever form the file has it.

::

    x ─▶ FakeQuantize ─▶ [Reshape, MaxPool, …] ─▶ layer                     activations
    x ─▶ FakeQuantize ─▶ Convert(u8) ─▶ Convert ─▶ Subtract ─▶ Multiply ─▶ layer        ONNX: QuantizeLinear and
    Constant(i8) ─▶ Convert ─▶ Subtract ─▶ Multiply ─▶ layer                weights     DequantizeLinear
    Constant ─▶ FakeQuantize ─▶ layer                                       weights
    x(u8) ─▶ Convert(i32) ─▶ MatMul                                         ONNX: MatMulInteger, ConvInteger
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.graph.layers import LAYERS
from calib.graph.operations import RECURRENT, SELECTING
from calib.graph.view import GraphView
from calib.values.plan import Port, QuantizableNode, Range, Scheme, Skipped, TensorId

KEPT = "the model quantizes it already, and it is kept as it is"
INTEGERS = "it multiplies integers (as ONNX's MatMulInteger and ConvInteger do), which OpenVINO computes in f32"

_INTEGERS = frozenset({"i4", "i8", "i32", "i64", "u4", "u8"})
_FAKING = frozenset({"FakeQuantize", "FakeConvert"})


@dataclass(frozen=True)
class OwnQuantizer:
    """A FakeQuantize of the model's own that another layer can read too.

    Attributes:
        node: Its friendly name.
    """

    node: str
    range: Range
    scheme: Scheme
    levels: int


def multiplies_integers(view: GraphView, name: str) -> bool:
    """Return whether a layer reads integers."""
    return view.output(view.tensor(Port(name, 0))).get_element_type().get_type_name() in _INTEGERS


def constant_at(view: GraphView, tensor: TensorId) -> bool:
    """Return whether a tensor is computed from constants only, such as dequantized weights."""
    waiting = [tensor]
    while waiting:
        source = waiting.pop()
        if view.types[source.node] == "Constant":
            continue
        if not view.inputs[source.node]:
            return False
        waiting += view.inputs[source.node]
    return True


def has_levels(view: GraphView, tensor: TensorId) -> bool:
    """Return whether a tensor is one of a FakeQuantize or of dequantized integers, perhaps through a selection."""
    while view.types[tensor.node] in SELECTING:
        tensor = view.inputs[tensor.node][0]
    kind = view.types[tensor.node]
    if kind == "Concat":
        return all(has_levels(view, source) for source in view.inputs[tensor.node])
    return kind in _FAKING or _dequantized(view, tensor)


def _dequantized(view: GraphView, tensor: TensorId) -> bool:
    """Return whether a tensor is made by Convert → Subtract → Multiply of integers; the middle one may be missing."""
    if view.types[tensor.node] != "Multiply":
        return False
    for source in view.inputs[tensor.node]:
        if view.types[source.node] == "Subtract":
            source = view.inputs[source.node][0]
        if view.types[source.node] == "Convert":
            given = view.output(view.inputs[source.node][0]).get_element_type()
            return given.get_type_name() in _INTEGERS
    return False


def layer_with_levels(view: GraphView, name: str) -> QuantizableNode | Skipped | None:
    """Return what is left to quantize of a layer that the model quantizes in part.

    Returns:
        The layer with the inputs that are still in floating point; it as skipped where none is; None where both are,
        or where it does not compute in f32.
    """
    if not view.quantizes:
        return None
    rule, tensors = LAYERS[view.types[name]], view.inputs[name][:2]
    if multiplies_integers(view, name):
        return Skipped(name, rule.type, INTEGERS)
    done = [has_levels(view, tensor) for tensor in tensors]
    if not any(done) or any(view.output(tensor).get_element_type().get_type_name() != "f32" for tensor in tensors):
        return None
    if all(done):
        return Skipped(name, rule.type, KEPT)
    (index,) = (port for port, levels in enumerate(done) if not levels)
    if view.is_constant(tensors[index]):
        return QuantizableNode(name, rule.type, (), (index,))
    return QuantizableNode(name, rule.type, (index,), ())


def already_quantized(view: GraphView) -> tuple[tuple[QuantizableNode, ...], tuple[Skipped, ...]]:
    """Return the layers of a quantized model: those whose inputs have levels, and the others with the reason."""
    layers: list[QuantizableNode] = []
    skipped: list[Skipped] = []
    for name, kind in view.types.items():
        if kind not in LAYERS and kind not in RECURRENT:
            continue
        tensors = view.inputs[name][:2] if kind in LAYERS else _of_recurrent(view, name)
        bare = next((tensor for tensor in tensors if not has_levels(view, tensor)), None)
        if multiplies_integers(view, name):
            skipped.append(Skipped(name, kind, INTEGERS))
        elif bare is None:
            layers.append(QuantizableNode(name, kind, (0,)))
        else:
            what = "its weights are" if constant_at(view, bare) else f"its input {bare} is"
            skipped.append(Skipped(name, kind, _never(view, name) or f"{what} not quantized"))
    return tuple(layers), tuple(skipped)


def _never(view: GraphView, name: str) -> str:
    """Return why a recurrent layer without levels could not have any; empty for others."""
    if view.types[name] not in RECURRENT:
        return ""
    from calib.graph.recurrent import why_in_float  # here: few models have any

    return why_in_float(view, name)


def _of_recurrent(view: GraphView, name: str) -> tuple[TensorId, ...]:
    """Return the data, the states and both matrices of weights of a recurrent layer."""
    from calib.graph.recurrent import MATRICES  # here: few models have any

    return tuple(view.inputs[name][port] for port in (0, 1, *MATRICES[view.types[name]]))


def own_quantizer(view: GraphView, tensor: TensorId) -> OwnQuantizer | None:
    """Return the FakeQuantize of the model's own on a tensor, if INT8 layers can read it: one range, 255 or 256 levels.

    A second one on the same tensor would force a floating-point output.
    """
    for port in view.value_consumers(tensor):
        if view.types[port.node] != "FakeQuantize" or port.input != 0:
            continue
        limits = view.inputs[port.node][1:]
        levels = int(view.attributes(port.node)["levels"])
        if levels not in (255, 256) or not all(map(view.is_constant, limits)):
            continue
        values = [np.asarray(view.values(limit), np.float32) for limit in limits]
        if any(value.size != 1 for value in values) or values[0] != values[2] or values[1] != values[3]:
            continue
        low, high = float(values[0].reshape(())), float(values[1].reshape(()))
        if low < high:
            scheme = Scheme.UNSIGNED if low == 0 else Scheme.ASYMMETRIC
            found = Range(low, high, reason=f"the range of {port.node}, which the model has on this tensor already")
            return OwnQuantizer(port.node, found, scheme, levels)
    return None
