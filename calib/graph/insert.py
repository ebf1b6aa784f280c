"""Insert a plan into a model: FakeQuantize on activations, i8 Constant → Convert → Multiply for weights.

Zero points are folded into biases where that is exact, which is if the layer does not pad its input with zeros::

    x ──▶ FakeQuantize[low, high] ──▶ layer(W)
    x + c ──▶ FakeQuantize[0, high + c] ──▶ layer(W) ──▶ − c·ΣW          c = −low, a multiple of the step

Both forms have the same levels, so they compute the same. The upper one runs on oneDNN's jit kernels, the lower one on
its faster brgconv kernels (EfficientNet-Lite0: 8.5 against 7.1 ms; a text recognizer: 10.4 against 9.3 ms).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import ExecutionError
from calib.graph.layers import axes_of, channel_shape, following_bias, sums_without_padding, weights_of
from calib.graph.operations import ELEMENTWISE, SELECTING
from calib.graph.view import GraphView, all_nodes, replace_readers
from calib.ranges.affine import channel_limits, dequantized, quantize_weights, range_limits
from calib.runtime.session import ov
from calib.values.plan import (
    ActivationQuantizer,
    Port,
    QuantizationPlan,
    Scheme,
    TensorId,
    WeightQuantizer,
)

opset = ov.opset13

ZERO_POINT = "/zero_point"  # ends the name of the Add that takes away what a folded zero point adds
BIASED = "/biased"  # ends the name of the Add that corrects the bias of a layer that has none
# Types without primitives in oneDNN: OpenVINO 2026.4 fuses a conversion from one into the FakeQuantize behind it, which
# it then can't compile.
NO_PRIMITIVE = (ov.Type.f64, ov.Type.i16, ov.Type.u16, ov.Type.u32, ov.Type.u64)
# OpenVINO 2026.4 moves the scales of an INT8 layer, one a channel, through these into the FakeQuantize behind, which
# it fuses into them. If the axes in front of the channels are dropped it takes others for the channels: 5 to 22 dB
# against the simulation on AVX2, with scales of 0.001 to 0.011.
REDUCING = frozenset({"ReduceMean", "ReduceSum", "ReduceProd", "ReduceL1", "ReduceL2"})
INT8_WEIGHTS = "/i8"  # behind the name of the constant that they were made of


@dataclass(frozen=True)
class Edits:
    """Changes of weights and biases by corrections; quantized weights replace float ones.

    Attributes:
        rounded: Mapping from weight port to ``(int8 weights, float32 scale of the scale shape)``.
        biases: Mapping from layer to float32 values to add to its output, ``(channels,)``.
    """

    rounded: Mapping[Port, tuple[NDArray[np.int8], NDArray[np.float32]]] = field(default_factory=dict)
    biases: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def without(self, layers: frozenset[str]) -> Edits:
        """Return the edits without those of reverted layers."""
        return Edits(
            {port: value for port, value in self.rounded.items() if port.node not in layers},
            {layer: value for layer, value in self.biases.items() if layer not in layers},
        )


Int8Weights = tuple[NDArray[np.int8], NDArray[np.float32]]


def insert(model: ov.Model, plan: QuantizationPlan, edits: Edits | None = None, *, fold: bool = False) -> ov.Model:
    """Return a quantized clone of the model.

    Args:
        model: Floating-point model with unique friendly names.
        plan: Plan with ranges.
        edits: Edits of weights and biases.
        fold: Whether to move zero points into biases where that is exact. The output of such a layer is off by a
            constant, which the Add named ``LAYER/zero_point`` after it subtracts.

    Raises:
        ExecutionError: A quantizer of the plan has no range.
    """
    edits = edits or Edits()
    clone = clone_model(model)
    view = GraphView(clone)
    own = {node.get_instance_id() for node in view.nodes.values()}
    folded = foldable(view, plan) if fold else {}
    for quantizer in plan.activations:
        _quantize_activation(view, quantizer, quantizer.tensor in folded)
    made: dict[tuple[Any, ...], tuple[ov.Output, Int8Weights]] = {}
    forms: Counter[TensorId] = Counter()
    origins, shifts = _origins(view, plan, edits.rounded), _shifts(plan, folded)
    for weight in plan.weights:
        origin = origins[weight.port]
        values = _quantize_weight(view, weight, edits.rounded.get(origin), made, forms, origin)
        if shift := shifts.get(weight.port.node):
            _take_away(view, weight.port, shift, values)
    for layer, delta in edits.biases.items():
        add_bias(view, layer, delta)
    if any(scaling.ports for scaling in plan.scalings):
        from calib.graph.inserted_scales import take_out_unused  # here: few plans have any

        take_out_unused(view, plan)
    if plan.recurrent:
        from calib.graph.recurrent import put_levels  # here: few plans have any

        put_levels(view, plan.recurrent)
    keep_conversions(view)
    keep_axes(view)
    _rename_where_taken(clone, view, own)
    clone.validate_nodes_and_infer_types()
    return clone


def keep_conversions(view: GraphView) -> None:
    """Keep OpenVINO from fusing conversions from ``NO_PRIMITIVE`` into the quantizers behind them, in place.

    A Maximum with the lowest number stands between them, which changes no number and runs as one with the quantizer::

        x(u16) ──▶ Convert(f32) ──▶ FakeQuantize    becomes    x(u16) ──▶ Convert(f32) ──▶ Maximum ──▶ FakeQuantize
    """
    for name, kind in view.types.items():
        if kind == "Convert" and not view.is_constant(view.inputs[name][0]):
            node = view.nodes[name]
            if node.get_input_element_type(0) in NO_PRIMITIVE and node.get_output_element_type(0) == ov.Type.f32:
                lowest = constant(np.asarray(np.finfo(np.float32).min), f"{name}/lowest")
                kept = replace_readers(node.output(0), lambda output, lowest=lowest: opset.maximum(output, lowest))
                kept.set_friendly_name(f"{name}/kept")


def keep_axes(view: GraphView) -> None:
    """Keep OpenVINO from fusing quantizers into reductions that drop the axes in front of the channels, in place.

    A Squeeze, which changes no number, drops them instead::

        x ──▶ Reduce(axes) ──▶ FakeQuantize    becomes    x ──▶ Reduce(axes, keep_dims) ──▶ Squeeze ──▶ FakeQuantize
    """
    for name, kind in view.types.items():
        node = view.nodes[name]
        if kind not in REDUCING or view.attributes(name)["keep_dims"] or not view.is_constant(view.inputs[name][1]):
            continue
        rank = node.get_input_partial_shape(0).rank
        listed = view.values(view.inputs[name][1]).ravel() if rank.is_static else ()
        axes = sorted({int(axis) % rank.get_length() for axis in listed})
        if not axes or axes[0] > 1 or not _quantizer_behind(node.output(0)):
            continue
        node.set_attribute("keep_dims", True)
        node.validate_and_infer_types()
        dropped = constant(np.array(axes), f"{name}/dropped")
        squeezed = replace_readers(node.output(0), lambda output, dropped=dropped: opset.squeeze(output, dropped))
        squeezed.set_friendly_name(f"{name}/squeezed")


def _quantizer_behind(output: ov.Output) -> bool:
    """Return whether operations that OpenVINO fuses, or moves levels through, lead from an output to a FakeQuantize."""
    waiting, seen = [output], set[int]()
    while waiting:
        for reader in waiting.pop().get_target_inputs():
            node = reader.get_node()
            kind = node.get_type_name()
            if kind == "FakeQuantize":
                return True
            if kind in ELEMENTWISE | SELECTING and node.get_instance_id() not in seen:
                seen.add(node.get_instance_id())
                waiting.append(node.output(0))
    return False


def _rename_where_taken(model: ov.Model, view: GraphView, own: set[int]) -> None:
    """Rename new nodes whose names the model already has."""
    taken = set(view.nodes)
    for node, _ in all_nodes(model):
        if (name := node.get_friendly_name()) in taken and node.get_instance_id() not in own:
            while name in taken:
                name += "+"
            node.set_friendly_name(name)
            taken.add(name)


def clone_model(model: ov.Model) -> ov.Model:
    """Clone a model and keep the names of its output tensors, which OpenVINO's clone can lose."""
    clone = model.clone()
    for mine, theirs in zip(clone.outputs, model.outputs, strict=True):
        mine.get_tensor().set_names(theirs.get_names())
    return clone


def constant(values: NDArray[Any], name: str) -> ov.Node:
    """Return a named Constant."""
    node = opset.constant(values)
    node.set_friendly_name(name)
    return node


def fake_quantize(source: ov.Output, quantizer: ActivationQuantizer, rank: int, *, shifted: bool = False) -> ov.Node:
    """Return a FakeQuantize on ``source`` with the quantizer's range, moved to start at 0 if ``shifted``."""
    tensor = quantizer.tensor
    low, high = limits_of(quantizer)
    shape = [1] * rank
    if quantizer.channel_ranges:
        shape[1] = len(quantizer.channel_ranges)
    if shifted:
        source = opset.add(source, constant(np.full(shape, -low, np.float32), f"{tensor}/fq_shift")).output(0)
        source.get_node().set_friendly_name(f"{tensor}/shifted")
        low, high = np.float32(0), high - low
    limits = [
        constant(np.asarray(value, np.float32).reshape(shape), f"{tensor}/fq_{side}")
        for side, value in (("low", low), ("high", high))
    ]
    node = opset.fake_quantize(source, limits[0], limits[1], limits[0], limits[1], quantizer.levels)
    node.set_friendly_name(f"{tensor}/fq")
    return node


def limits_of(quantizer: ActivationQuantizer) -> tuple[Any, Any]:
    """Return the lowest and highest level of a quantizer in float32, as scalars or ``(channels,)`` each.

    Raises:
        ExecutionError: The quantizer has no range.
    """
    if quantizer.range is None:
        raise ExecutionError(f"the quantizer on {quantizer.tensor} has no range; estimate ranges before inserting")
    if quantizer.channel_ranges:
        return channel_limits(quantizer.channel_ranges, quantizer.scheme, quantizer.levels)
    return range_limits(quantizer.range, quantizer.scheme, quantizer.levels)


def _quantize_activation(view: GraphView, quantizer: ActivationQuantizer, shifted: bool) -> None:
    if quantizer.own:
        for port in sorted(quantizer.consumers):
            view.nodes[port.node].input(port.input).replace_source_output(view.nodes[quantizer.own].output(0))
        return
    source = view.output(quantizer.tensor)
    rank = source.get_partial_shape().rank.get_length()
    node = fake_quantize(source, quantizer, rank, shifted=shifted)
    for port in sorted(quantizer.consumers):
        view.nodes[port.node].input(port.input).replace_source_output(node.output(0))


def foldable(view: GraphView, plan: QuantizationPlan) -> dict[TensorId, float]:
    """Return tensor → shift c for the quantizers whose zero point can be folded into the biases of all their layers.

    Quantizers that share a range are shifted together or not at all.
    """
    exact = {layer.name for layer in plan.layers if sums_without_padding(view, layer)}
    groups: dict[str, list[ActivationQuantizer]] = {}
    for quantizer in plan.activations:
        groups.setdefault(quantizer.unify or f"\0{quantizer.tensor}", []).append(quantizer)
    folded = {}
    for group in groups.values():
        # What lies between a quantizer and its layers only selects values, which a shift passes through.
        if all(
            q.scheme == Scheme.ASYMMETRIC and not (q.own or q.channel_ranges or q.fused) and q.layers <= exact
            for q in group
        ):
            folded.update({q.tensor: -float(limits_of(q)[0]) for q in group})
    return folded


def _shifts(plan: QuantizationPlan, folded: Mapping[TensorId, float]) -> dict[str, float]:
    """Return layer → the first shift of a tensor that it reads, if that is not 0."""
    found: dict[str, float] = {}
    for quantizer in plan.activations if folded else ():
        if shift := folded.get(quantizer.tensor):
            for layer in quantizer.layers:
                found.setdefault(layer, shift)
    return found


def output_node(names: Container[str], layer: str) -> str:
    """Return the node that holds a layer's output: the last Add of those that insertion puts behind it, if any."""
    behind = (f"{layer}{ending}" for ending in (ZERO_POINT, BIASED))  # a zero point is taken away after a correction
    return next((name for name in behind if name in names), layer)


def _take_away(view: GraphView, port: Port, shift: float, weights: Int8Weights) -> None:
    """Subtract the effect of a shifted input on a layer's output: the shift times the sum of each output's weights."""
    layer, (values, scale) = port.node, weights
    axes = axes_of(view, port)
    sums = dequantized(values, scale.astype(np.float64)).sum(axis=(axes.inputs, *axes.kernel))
    _add_behind(view, layer, -shift * sums, f"{layer}{ZERO_POINT}")


def _origins(view: GraphView, plan: QuantizationPlan, rounded: Container[Port]) -> dict[Port, Port]:
    """Return weight port → the port whose rounding it takes: its own, or for a table that of weights that it shares."""
    tables = {layer.name for layer in plan.layers if layer.is_table}
    kinds = {(view.tensor(w.port), w.scale_shape, w.levels): w.port for w in plan.weights if w.port in rounded}
    return {
        w.port: kinds.get((view.tensor(w.port), w.scale_shape, w.levels), w.port) if w.port.node in tables else w.port
        for w in plan.weights
    }


def _quantize_weight(
    view: GraphView,
    weight: WeightQuantizer,
    rounded: Int8Weights | None,
    made: dict[tuple[Any, ...], tuple[ov.Output, Int8Weights]],
    forms: Counter[TensorId],
    origin: Port,
) -> Int8Weights:
    """Replace a float constant by an i8 one, which layers that share it in the same form share too.

    ``made`` holds the forms made so far and ``forms`` how many there are of each constant.
    """
    source = view.tensor(weight.port)
    key = (source, weight.scale_shape, weight.levels, weight.clip, None if rounded is None else origin)
    if key not in made:
        if rounded is None:
            rounded = quantize_weights(weights_of(view, weight.port), weight.scale_shape, weight.levels, weight.clip)
        suffix = forms[source] or ""
        forms[source] += 1
        made[key] = dequantized_constant(rounded, f"{source.node}{INT8_WEIGHTS}{suffix}"), rounded
    output, values = made[key]
    view.nodes[weight.port.node].input(weight.port.input).replace_source_output(output)
    return values


def dequantized_constant(rounded: Int8Weights, name: str) -> ov.Output:
    """Return the output of an INT8 Constant → Convert → Multiply with its scale, all named after ``name``."""
    values, scale = rounded
    convert = opset.convert(constant(np.ascontiguousarray(values), name), np.float32)
    convert.set_friendly_name(f"{name}/convert")
    multiply = opset.multiply(convert, constant(np.asarray(scale, np.float32), f"{name}/scale"))
    multiply.set_friendly_name(f"{name}/multiply")
    return multiply.output(0)


def add_bias(view: GraphView, layer: str, delta: NDArray[np.float32]) -> None:
    """Add ``(channels,)`` to a layer's output, by changing the bias that follows if there is one."""
    bias = following_bias(view, layer)
    if bias is None:
        _add_behind(view, layer, delta, f"{layer}{BIASED}")
        return
    port, values = bias
    grown = (values.astype(np.float64) + delta.reshape(channel_shape(view, layer))).astype(np.float32)
    replacement = constant(grown, f"{view.tensor(port).node}/corrected")
    view.nodes[port.node].input(port.input).replace_source_output(replacement.output(0))


def _add_behind(view: GraphView, layer: str, delta: NDArray[np.floating], name: str) -> None:
    """Insert an Add of ``(channels,)`` between a layer and its readers."""
    values = constant(delta.reshape(channel_shape(view, layer)).astype(np.float32), f"{name}/values")
    replace_readers(view.nodes[layer].output(0), lambda output: opset.add(output, values)).set_friendly_name(name)
