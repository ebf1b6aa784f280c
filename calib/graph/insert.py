"""(model, plan, edits) → new model: FakeQuantize on activations, i8 Constant → Convert → Multiply for weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import ExecutionError
from calib.graph.view import GraphView
from calib.plan import ActivationQuantizer, Port, QuantizationPlan, TensorId, WeightQuantizer
from calib.ranges.affine import channel_limits, quantize_weights, range_limits
from calib.runtime.session import ov

opset = ov.opset13
INT8_WEIGHTS = "/i8"  # behind the name of the constant that they were made of


@dataclass(frozen=True)
class Edits:
    """What corrections change, by port or layer; quantized weights win over float ones.

    Attributes:
        rounded: weight port → ``(int8 weights, float32 scale of the scale shape)``.
        biases: layer → ``(channels,)`` float32 to add to its output.
    """

    rounded: Mapping[Port, tuple[NDArray[np.int8], NDArray[np.float32]]] = field(default_factory=dict)
    biases: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def without(self, layers: frozenset[str]) -> Edits:
        """Drop the edits of layers that go back to floating point."""
        return Edits(
            {port: value for port, value in self.rounded.items() if port.node not in layers},
            {layer: value for layer, value in self.biases.items() if layer not in layers},
        )


def insert(model: ov.Model, plan: QuantizationPlan, edits: Edits | None = None) -> ov.Model:
    """Return a quantized clone of the model.

    Raises:
        ExecutionError: a quantizer of the plan has no range yet.
    """
    edits = edits or Edits()
    clone = clone_model(model)
    view = GraphView(clone)
    for quantizer in plan.activations:
        _quantize_activation(view, quantizer)
    made: dict[tuple[Any, ...], ov.Output] = {}
    for weight in plan.weights:
        _quantize_weight(view, weight, edits.rounded.get(weight.port), made)
    for layer, delta in edits.biases.items():
        add_bias(view, layer, delta)
    clone.validate_nodes_and_infer_types()
    return clone


def clone_model(model: ov.Model) -> ov.Model:
    """Clone a model with the names of its output tensors, which OpenVINO's clone can lose."""
    clone = model.clone()
    for mine, theirs in zip(clone.outputs, model.outputs, strict=True):
        mine.get_tensor().set_names(theirs.get_names())
    return clone


def constant(values: NDArray[Any], name: str) -> ov.Node:
    """Return a named Constant."""
    node = opset.constant(values)
    node.set_friendly_name(name)
    return node


def fake_quantize(source: ov.Output, quantizer: ActivationQuantizer, rank: int) -> ov.Node:
    """Return a FakeQuantize on ``source`` with the quantizer's range."""
    tensor = quantizer.tensor
    if quantizer.range is None:
        raise ExecutionError(f"the quantizer on {tensor} has no range; estimate ranges before inserting")
    shape = [1] * rank
    if quantizer.channel_ranges:
        shape[1] = len(quantizer.channel_ranges)
        low, high = channel_limits(quantizer.channel_ranges, quantizer.scheme, quantizer.levels)
    else:
        low, high = range_limits(quantizer.range, quantizer.scheme, quantizer.levels)
    limits = [
        constant(np.asarray(value, np.float32).reshape(shape), f"{tensor}/fq_{side}")
        for side, value in (("low", low), ("high", high))
    ]
    node = opset.fake_quantize(source, limits[0], limits[1], limits[0], limits[1], quantizer.levels)
    node.set_friendly_name(f"{tensor}/fq")
    return node


def _quantize_activation(view: GraphView, quantizer: ActivationQuantizer) -> None:
    source = view.output(quantizer.tensor)
    rank = source.get_partial_shape().rank.get_length()
    node = fake_quantize(source, quantizer, rank)
    for port in sorted(quantizer.consumers):
        view.nodes[port.node].input(port.input).replace_source_output(node.output(0))


def _quantize_weight(
    view: GraphView,
    weight: WeightQuantizer,
    rounded: tuple[NDArray[np.int8], NDArray[np.float32]] | None,
    made: dict[tuple[Any, ...], ov.Output],
) -> None:
    """Replace a float constant; layers that share it in the same form share the i8 constant too."""
    source = view.tensor(weight.port)
    key = (source, weight.scale_shape, weight.levels, weight.clip, None if rounded is None else weight.port)
    if key not in made:
        if rounded is None:
            rounded = quantize_weights(weights_of(view, weight.port), weight.scale_shape, weight.levels, weight.clip)
        suffix = f"{len([k for k in made if k[0] == source])}" if any(k[0] == source for k in made) else ""
        made[key] = _dequantized(rounded, f"{source.node}{INT8_WEIGHTS}{suffix}")
    view.nodes[weight.port.node].input(weight.port.input).replace_source_output(made[key])


def _dequantized(rounded: tuple[NDArray[np.int8], NDArray[np.float32]], name: str) -> ov.Output:
    values, scale = rounded
    convert = opset.convert(constant(np.ascontiguousarray(values), name), np.float32)
    convert.set_friendly_name(f"{name}/convert")
    multiply = opset.multiply(convert, constant(np.asarray(scale, np.float32), f"{name}/scale"))
    multiply.set_friendly_name(f"{name}/multiply")
    return multiply.output(0)


def weights_of(view: GraphView, port: Port) -> NDArray[np.float32]:
    """Return the float weights behind a port, ``float32`` in the constant's shape."""
    node: Any = view.nodes[view.tensor(port).node]
    return np.asarray(node.data, dtype=np.float32)


def channel_axis(view: GraphView, layer: str) -> int:
    """Return the axis of a layer's output that has one entry for each weight scale."""
    if view.types[layer] != "MatMul":
        return 1
    rank = view.nodes[layer].output(0).get_partial_shape().rank.get_length()
    return rank - 2 if view.is_constant(view.tensor(Port(layer, 0))) else rank - 1


def add_bias(view: GraphView, layer: str, delta: NDArray[np.float32]) -> None:
    """Add ``(channels,)`` to a layer's output, into the bias that follows where there is one."""
    output = view.nodes[layer].output(0)
    rank, axis = output.get_partial_shape().rank.get_length(), channel_axis(view, layer)
    shape = [1] * rank
    shape[axis] = len(delta)
    bias = following_bias(view, layer)
    if bias is not None:
        port, values = bias
        grown = (values.astype(np.float64) + delta.reshape(shape)).astype(np.float32)
        replacement = constant(grown, f"{view.tensor(port).node}/corrected")
        view.nodes[port.node].input(port.input).replace_source_output(replacement.output(0))
        return
    readers = list(output.get_target_inputs())
    node = opset.add(output, constant(delta.reshape(shape).astype(np.float32), f"{layer}/bias"))
    node.set_friendly_name(f"{layer}/biased")
    for reader in readers:
        reader.replace_source_output(node.output(0))


def following_bias(view: GraphView, layer: str) -> tuple[Port, NDArray[np.float32]] | None:
    """Return the constant port of the Add that is a layer's only reader, with its values, if it is a bias."""
    readers = view.consumers.get(TensorId(layer), [])
    if len(readers) != 1 or view.types[readers[0].node] != "Add":
        return None
    port = Port(readers[0].node, 1 - readers[0].input)
    tensor = view.tensor(port)
    if not view.is_constant(tensor):
        return None
    values: Any = view.nodes[tensor.node]
    data = np.asarray(values.data)
    out = view.nodes[layer].output(0).get_partial_shape().rank.get_length()
    axis = channel_axis(view, layer)
    shape = (1,) * (out - data.ndim) + data.shape
    if len(shape) != out or any(size != 1 for i, size in enumerate(shape) if i != axis):
        return None
    return port, data.reshape(shape).astype(np.float32)
