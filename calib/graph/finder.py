"""Find the layers to quantize in a model, and the reason for every layer left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from calib.graph.ignored import Ignored
from calib.graph.layers import (
    LAYERS,
    LayerRule,
    axes_of,
    float_kernel,
    is_depthwise,
    products,
    scale_shape,
    signed_scheme,
)
from calib.graph.levels import layer_with_levels
from calib.graph.operations import (
    ANY_LAYER,
    ATTENTION,
    CONVOLUTIONS,
    ELEMENTWISE,
    EXTREMES,
    IN_A_BODY,
    LEFT_ALONE,
    MATMULS,
    MEASURED,
    NOT_EVERYWHERE,
    RECTIFYING,
    RECURRENT,
    SELECTING,
    WRITTEN_OUT,
)
from calib.graph.tables import GATHER, find_tables
from calib.graph.view import GraphView, over_state
from calib.runtime.session import ov
from calib.values.plan import Port, QuantizableNode, Skipped, TensorId

# A MatMul of 2,100 rows and 16 outputs took longer in INT8 than in f32 up to 7 products a sum (148 against 224 µs) and
# less at 8, 16 and 32 (262 against 231, 239 against 202, 345 against 295 µs). What an INT8 layer reads would be rounded
# in a pass of its own: on AVX2, of 1,024 rows of 64, 117 µs, where the whole layer took 54 µs in INT8 and 31 µs in f32.
# A chain of 7, 512, 7 and 512 with AVX-512 VNNI took 1.7 times as long as f32 with such passes, and .7 without them.
SHALLOW = 8


@dataclass(frozen=True)
class Found:
    """Layers found, in topological order, and layers left out.

    Attributes:
        ignored: What the user leaves out, which holds for the operations between layers too; None without patterns.
    """

    layers: tuple[QuantizableNode, ...]
    skipped: tuple[Skipped, ...]
    ignored: Ignored | None = None


def find(view: GraphView, ignored: Ignored | None = None, *, exact_int8: bool = True, everywhere: bool = True) -> Found:
    """Return every Convolution, deconvolution, MatMul and embedding table, as a layer or as skipped with its reason.

    A layer that this version of OpenVINO runs in f32 is left out, unless nothing else is left: another version may have
    a primitive for it, and the compiled model has the last word. So is one that sums few products, which is measured
    where it is alone.

    Args:
        view: View of the model.
        ignored: What the user leaves in floating point.
        exact_int8: Whether the target adds products of full 8-bit factors exactly; without VNNI they saturate.
        everywhere: Whether to leave out what is not right on every x86 CPU; without that it has to be tried.

    Raises:
        UsageError: A pattern of what is ignored matches nothing.
    """
    layers: list[QuantizableNode] = []
    skipped: list[Skipped] = []
    in_f32: list[QuantizableNode] = []
    for name, kind in view.types.items():
        if kind in LEFT_ALONE:
            _ = ignored and ignored(name, kind)
            skipped.append(Skipped(name, kind, LEFT_ALONE[kind]))
        elif kind in RECURRENT:
            skipped.append(Skipped(name, kind, _why_recurrent(view, name, ignored)))
        elif kind in WRITTEN_OUT:
            skipped.append(Skipped(name, kind, IN_A_BODY if name in view.inside else _why_whole(view.nodes[name])))
        elif kind in LAYERS:
            pattern = ignored(name, kind) if ignored else ""
            examined = f"ignored by {pattern!r}" if pattern else _examine(view, name, LAYERS[kind])
            if kept := layer_with_levels(view, name):  # of a model that is quantized in part
                examined = kept.reason if isinstance(kept, Skipped) else examined if pattern else kept
            if isinstance(examined, QuantizableNode) and not exact_int8:
                examined = inexact(view, examined) or examined
            if isinstance(examined, QuantizableNode) and everywhere and (doubt := right_on_some(view, name)):
                examined = doubt + NOT_EVERYWHERE
            if isinstance(examined, QuantizableNode) and (reason := float_kernel(view, name)):
                in_f32.append(examined)
                examined = reason
            if isinstance(examined, str):
                skipped.append(Skipped(name, kind, examined))
            else:
                layers.append(examined)
    if not layers and in_f32:
        layers, tried = in_f32, {layer.name for layer in in_f32}
        skipped = [one for one in skipped if one.name not in tried]
    deep, shallow = _deep_enough(view, layers)
    if deep:  # without another layer its time as a whole decides
        layers, skipped = deep, skipped + shallow
    if GATHER in view.types.values():
        tables, kept = find_tables(view, layers, ignored)
        layers, skipped = tables + layers, skipped + kept
    if ignored:
        ignored.require_matches(one.name for one in skipped)
    return Found(tuple(layers), tuple(skipped), ignored)


def _why_recurrent(view: GraphView, name: str, ignored: Ignored | None) -> str:
    """Return why a recurrent layer is in floating point so far."""
    from calib.graph.recurrent import why_in_float  # here: few models have any

    pattern = ignored(name, view.types[name]) if ignored else ""
    return f"ignored by {pattern!r}" if pattern else why_in_float(view, name) or MEASURED


def _examine(view: GraphView, name: str, rule: LayerRule) -> QuantizableNode | str:
    """Return the layer, or the reason why it stays in floating point."""
    if rule.never:
        return rule.never
    for index in (0, 1):
        tensor = view.tensor(Port(name, index))
        element = view.output(tensor).get_element_type()
        if element != ov.Type.f32:
            return ANY_LAYER["type"].of(index=index, tensor=tensor, element=element.get_type_name())
        if view.shape(tensor) is None:
            return ANY_LAYER["rank"].of(index=index, tensor=tensor)
    constant = [view.is_constant(tensor) for tensor in view.inputs[name][:2]]
    if all(constant):
        return str(ANY_LAYER["constant"])
    refused = _negated(view, TensorId(name)) or _miscompiled(view, name, rule)
    if refused:
        return refused
    if len(rule.weights) > 1:
        return _examine_matmul(view, name, constant)
    (weights,) = rule.weights
    if not constant[weights]:
        return str(ANY_LAYER["computed"])
    port = Port(name, weights)
    if prod(scale_shape(view, port)) == 1 and view.types[view.inputs[name][0].node] == "Softmax":
        return str(CONVOLUTIONS["expectation"])
    # With several outputs a channel, ranges for each channel give wrong numbers (error 7x the quantization's).
    return QuantizableNode(name, rule.type, rule.activations, (weights,), is_depthwise(view, port))


def _why_whole(node: ov.Node) -> str:
    from calib.graph.written_out import why_whole  # here: few models have any

    return why_whole(node)


def inexact(view: GraphView, layer: QuantizableNode) -> str:
    """Return why a layer's INT8 form is inexact without VNNI although weights have half range; empty if it is exact.

    oneDNN takes the first factor as u8 (an i8 one is shifted by 128) and the second one as i8, which has to be in half
    range: 2 · 255 · 63 < 2¹⁵. Where a convolution's input is i8 it halves the weights instead, and rounds them again.
    """
    if layer.type == "MatMul" and 1 in layer.activations:
        return str(MATMULS["saturates"])
    if (
        layer.type not in LAYERS
    ):  # the rows of a table are picked, not summed, and a recurrent layer's error is measured
        return ""
    if signed_scheme(view, layer) != LAYERS[layer.type].signed and view.inputs[layer.name][0].node not in view.positive:
        return str(CONVOLUTIONS["halved"])
    return ""


def _negated(view: GraphView, tensor: TensorId, rectified: bool = False) -> str:
    """Return why a layer whose output is negated can't be INT8; empty if it is not negated.

    OpenVINO 2026.4 moves ``-1 · Relu(x)`` to ``Relu(-1 · x)`` when it moves scales after an INT8 layer, and a
    subtrahend becomes a multiplication with -1. Without a Relu between them a subtrahend runs in f32.
    """
    for port in view.value_consumers(tensor):
        kind, reader = view.types[port.node], TensorId(port.node)
        if kind == "Subtract" and port.input == 1 and not view.is_constant(view.inputs[port.node][0]):
            return ANY_LAYER["subtrahend"].of(reader=port.node)
        if rectified and _may_negate(view, port):
            return ANY_LAYER["negated"].of(reader=port.node)
        bias = kind == "Add" and view.is_constant(view.inputs[port.node][1 - port.input])
        if bias or (port.input == 0 and kind in RECTIFYING | SELECTING):
            reason = _negated(view, reader, rectified or kind in RECTIFYING)
            if reason:
                return reason
    return ""


def _miscompiled(view: GraphView, name: str, rule: LayerRule) -> str:
    """Return why OpenVINO 2026.4 can't compile a layer's INT8 form correctly; empty if it can."""
    tensor = TensorId(name)
    readers = view.value_consumers(tensor)
    shape = view.shape(tensor) or (None,)
    source = view.inputs[name][0]
    while view.types[source.node] in SELECTING:
        source = view.inputs[source.node][0]
    if view.types[source.node] == "Concat" and any(map(view.is_constant, view.inputs[source.node])):
        return ANY_LAYER["joined"].of(source=source.node)
    for port in rule.activations:
        if extreme := _fused_extreme(view, view.inputs[name][port]):
            return ANY_LAYER["extreme"].of(extreme=extreme)
    if wide := _wide_row(view, name, rule):
        return wide
    if rule.type.endswith("Convolution") and None in shape and len(readers) > 1:
        return str(CONVOLUTIONS["readers"])
    if rule.type == "MatMul" and any(view.types[port.node] == "Unsqueeze" for port in readers):
        return str(MATMULS["unsqueeze"])
    return ""


def _wide_row(view: GraphView, name: str, rule: LayerRule) -> str:
    """Return why a convolution with few channels and a wide kernel can't be INT8; empty if it can.

    On AMX oneDNN joins a row of the kernel with its channels. Found by trying all widths up to 49 for 3 to 48 channels:
    wrong where channels are a multiple of 4 below 32 and a row is a multiple of 64 longer than 64. Some strides are
    computed rightly; other CPUs compute all of them rightly, but a model is made once for all CPUs.
    """
    if not rule.type.endswith("Convolution") or not view.is_constant(view.inputs[name][1]):
        return ""
    shape, attributes = tuple(view.nodes[name].input_value(1).get_shape()), view.attributes(name)
    width, channels = shape[-1], shape[axes_of(view, Port(name, 1)).inputs]
    row = width * channels
    if attributes["dilations"][-1] != 1 or channels % 4 or channels >= 32 or row % 64 or row <= 64:
        return ""
    return CONVOLUTIONS["wide"].of(width=width, channels=channels)


def _fused_extreme(view: GraphView, tensor: TensorId, between: bool = False) -> str:
    """Return the ReduceMax or ReduceMin that a FakeQuantize on the tensor would be fused into; empty if there is none.

    ``between`` tells whether an element-wise operation follows it; without one the FakeQuantize moves before it.
    """
    kind = view.types[tensor.node]
    if kind in EXTREMES and between:
        return tensor.node
    sources = list(dict.fromkeys(s for s in view.inputs[tensor.node] if not view.is_constant(s)))
    if kind == "Multiply" and len(sources) == 2:  # x · sigmoid(x) is one operation, Swish
        x, gate = sorted(sources, key=lambda s: view.types[s.node] == "Sigmoid")
        sources = [x] if view.types[gate.node] == "Sigmoid" and view.inputs[gate.node][0] == x else []
    if kind == "Concat":
        return next((found for source in sources if (found := _fused_extreme(view, source, between))), "")
    if len(sources) != 1 or kind not in SELECTING | ELEMENTWISE:
        return ""
    return _fused_extreme(view, sources[0], between or kind in ELEMENTWISE)


def _layers_behind(view: GraphView, tensor: TensorId) -> Iterator[str]:
    """Yield the layers that read the tensor, directly or through operations of one input."""
    for port in view.value_consumers(tensor):
        kind, sources = view.types[port.node], view.inputs[port.node]
        single = kind in SELECTING or all(view.is_constant(s) for i, s in enumerate(sources) if i != port.input)
        if kind in LAYERS:
            yield port.node
        elif single and kind != "Result":
            yield from _layers_behind(view, TensorId(port.node))


def right_on_some(view: GraphView, name: str) -> str:
    """Return why the INT8 form of a layer is not right on every x86 CPU, or not known to be; empty if it is."""
    rule = LAYERS.get(view.types.get(name, ""))
    if rule is None:
        return ""
    first, second, *_ = view.inputs[name]
    if rule.unless_positive and first.node not in view.positive:
        return rule.unless_positive
    if rule.type != "MatMul":
        return ""
    if view.is_constant(first) and any(_layers_behind(view, TensorId(name))):
        return str(MATMULS["left"])
    over_rows = view.is_constant(second) and len(view.shape(first) or (None,) * 3) == 2
    return str(MATMULS["rows"]) if over_rows and (_next_over_rows(view, name) or _before_over_rows(view, name)) else ""


def _next_over_rows(view: GraphView, name: str) -> bool:
    """Return whether element-wise operations without a bias lead from a MatMul over rows to another one alone.

    Source: ``TokenizeMLPSeqSnippets`` in src/common/snippets/src/pass/mlp_seq_tokenization.cpp of OpenVINO.
    """
    tensor = TensorId(name)
    while len(readers := view.value_consumers(tensor)) == 1:
        reader, port = readers[0].node, readers[0].input
        kind, others = view.types[reader], [s for i, s in enumerate(view.inputs[reader]) if i != port]
        if kind == "MatMul":
            return port == 0 and view.is_constant(others[0])
        scalars = all((shape := view.shape(other)) is not None and set(shape) <= {1} for other in others)
        if kind not in ELEMENTWISE | {"Softmax"} or not scalars:
            return False
        tensor = TensorId(reader)
    return False


def _before_over_rows(view: GraphView, name: str) -> bool:
    """Return whether a MatMul over rows leads to this one alone through element-wise operations without a bias."""
    tensor = view.inputs[name][0]
    while view.types[tensor.node] in ELEMENTWISE | {"Softmax"}:
        sources = [source for source in view.inputs[tensor.node] if not view.is_constant(source)]
        if len(sources) != 1:
            return False
        tensor = sources[0]
    first = view.inputs[tensor.node]
    return view.types[tensor.node] == "MatMul" and view.is_constant(first[1]) and _next_over_rows(view, tensor.node)


def _deep_enough(view: GraphView, layers: Sequence[QuantizableNode]) -> tuple[list[QuantizableNode], list[Skipped]]:
    """Return the layers that INT8 pays for, and those that it does not: few products, and no INT8 layer behind."""
    kept: dict[str, QuantizableNode] = {}
    shallow: list[Skipped] = []
    for layer in reversed(layers):
        port = Port(layer.name, layer.weights[0]) if layer.type == "MatMul" and layer.weights else None
        depth = SHALLOW if port is None else products(view, port)
        if depth < SHALLOW and kept.keys().isdisjoint(_layers_behind(view, TensorId(layer.name))):
            shallow.append(Skipped(layer.name, layer.type, MATMULS["shallow"].of(products=depth)))
        else:
            kept[layer.name] = layer
    return list(kept.values())[::-1], shallow[::-1]


def _may_negate(view: GraphView, port: Port) -> bool:
    kind = view.types[port.node]
    if kind == "Subtract":
        return port.input == 1
    if kind != "Multiply":
        return kind == "Negative"
    factor = view.inputs[port.node][1 - port.input]
    return view.is_constant(factor) and bool((view.values(factor) < 0).any())


def _examine_matmul(view: GraphView, name: str, constant: list[bool]) -> QuantizableNode | str:
    for index, fixed in enumerate(constant):
        rank = len(view.shape(view.tensor(Port(name, index))) or ())
        if rank < 2:
            return str(MATMULS["vector" if fixed else "single row"])
        if fixed:
            return QuantizableNode(name, "MatMul", (1 - index,), (index,))
    if view.tensor(Port(name, 0)) == view.tensor(Port(name, 1)):
        return str(MATMULS["itself"])
    if any(over_state(view.output(tensor)) for tensor in view.inputs[name]):
        return str(ATTENTION["state"])
    return QuantizableNode(name, "MatMul", (0, 1))
