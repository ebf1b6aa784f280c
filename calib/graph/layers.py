"""The operations that can be layers, one row each, and what follows for a layer of a model.

A new operation is a new row: its axes of outputs, inputs and channels, the levels that the plug-in needs, and why it
stays in floating point if it does. ``tests/contracts/test_operations.py`` checks every row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from calib.graph.operations import DECONVOLUTIONS, RECURRENT
from calib.values.plan import Port, QuantizableNode, QuantizationPlan, Scheme, TensorId

if TYPE_CHECKING:  # the zoo reads the table too, in a process that never loads OpenVINO
    from calib.graph.view import GraphView


@dataclass(frozen=True)
class Axes:
    """Axes of a layer's weights, and the axes of its data that hold the channels they apply to.

    In the table, axes may be counted from the back and the remaining ones are left out; for a layer of a model, axes of
    weights are counted from the front.

    Attributes:
        outputs: Axis of the output channels of a group.
        inputs: Axis of the input channels of a group, over which products are summed.
        groups: Axis of groups of channels, each with its own weights.
        kernel: Axes of a window that moves over the data, over which products are summed too.
        stack: Axes of a stack of matrices, matching those of the data.
        channels: Axis of all channels of the layer's output.
        source: Axis of all channels of the layer's other input.
    """

    outputs: int
    inputs: int
    groups: tuple[int, ...] = ()
    kernel: tuple[int, ...] = ()
    stack: tuple[int, ...] = ()
    channels: int = 1
    source: int = 1

    @property
    def scaled(self) -> tuple[int, ...]:
        """Axes of the weights whose entries have a scale each."""
        return (*self.groups, *self.stack, self.outputs)

    @property
    def read(self) -> tuple[int, ...]:
        """Axes of the weights that hold the channels of the input."""
        return (*self.groups, self.inputs)


@dataclass(frozen=True)
class LayerRule:
    """An operation that multiplies an input with weights, or two inputs, and can run in INT8.

    Attributes:
        weights: Input ports that may carry a constant, with its axes.
        others: Role of the axes of weights that a row does not name.
        transposed_by: Attribute that swaps the last two axes of each input; empty if there is none.
        spreads: Whether each position of the input is spread over a window of the output (a transposed convolution),
            rather than each position of the output gathered from a window of the input.
        activations: Input ports that may carry activations.
        signed: Scheme of levels for data with negative values.
        never: Why the plug-in never runs it in INT8; empty if it does.
        unless_positive: Why it is not right on every x86 CPU unless its input is proved never to be negative.
    """

    type: str
    weights: Mapping[int, Axes]
    others: Literal["kernel", "stack"] = "kernel"
    transposed_by: tuple[str, ...] = ()
    spreads: bool = False
    activations: tuple[int, ...] = (0,)
    signed: Scheme = Scheme.ASYMMETRIC
    never: str = ""
    unless_positive: str = ""

    @property
    def other(self) -> int:
        """Port of the weights, or of the second input, that the data at port 0 are multiplied with."""
        return max(self.weights)

    def axes(self, port: int, rank: int, attributes: Mapping[str, Any]) -> Axes:
        """Return the axes for weights of this rank (2 or more) at ``port`` of an operation with these attributes."""
        row = self.weights[port]
        outputs, inputs, source = row.outputs % rank, row.inputs % rank, row.source
        if self.transposed_by:
            own, other = (bool(attributes[self.transposed_by[index]]) for index in (port, 1 - port))
            outputs, inputs = (inputs, outputs) if own else (outputs, inputs)
            source = -3 - source if other else source  # the last and the one before it
        left = tuple(axis for axis in range(rank) if axis not in (*row.groups, outputs, inputs))
        filled = {"kernel": left} if self.others == "kernel" else {"stack": left}
        return replace(row, outputs=outputs, inputs=inputs, source=source, **filled)

    def products(self, port: int, shape: Sequence[int], attributes: Mapping[str, Any]) -> int:
        """Return the number of products summed to one output value, or, if it spreads, that one input value goes into.

        Args:
            port: Port of the weights, or of the second input if both are computed.
            shape: Shape of the tensor at that port.
            attributes: Attributes of the operation.
        """
        if len(shape) < 2:
            return prod(shape)  # of a vector all is summed
        axes = self.axes(port, len(shape), attributes)
        return prod(shape[axis] for axis in (axes.outputs if self.spreads else axes.inputs, *axes.kernel))

    def multiply_accumulates(
        self, data: Sequence[int], weights: Sequence[int], output: Sequence[int], attributes: Mapping[str, Any]
    ) -> int:
        """Return the number of products per inference from the shapes of both inputs and of the output."""
        return prod(data if self.spreads else output) * self.products(self.other, weights, attributes)


LAYERS: dict[str, LayerRule] = {
    rule.type: rule
    for rule in (
        LayerRule("Convolution", {1: Axes(outputs=0, inputs=1)}),
        LayerRule("GroupConvolution", {1: Axes(groups=(0,), outputs=1, inputs=2)}),
        # With a zero point it runs in f32, 3.6x slower than INT8. With signed levels it computes what its simulation
        # does on AVX2 (80 dB and more, kernels of 2 to 6 and strides of 1 to 3, weights of half range) and, but for
        # kernels of 3 and 5 by stride 2, with AVX-512 VNNI; with AMX it computes other numbers.
        LayerRule(
            "ConvolutionBackpropData",
            {1: Axes(inputs=0, outputs=1)},
            spreads=True,
            signed=Scheme.SYMMETRIC,
            unless_positive=str(DECONVOLUTIONS["signed"]),
        ),
        LayerRule(
            "GroupConvolutionBackpropData",
            {1: Axes(groups=(0,), inputs=1, outputs=2)},
            spreads=True,
            never=str(DECONVOLUTIONS["grouped"]),
        ),
        LayerRule(
            "MatMul",  # (…, M, K) · (…, K, N)
            {
                0: Axes(outputs=-2, inputs=-1, channels=-2, source=-2),
                1: Axes(outputs=-1, inputs=-2, channels=-1, source=-1),
            },
            others="stack",
            transposed_by=("transpose_a", "transpose_b"),
            activations=(0, 1),
        ),
    )
}


def weights_port(view: GraphView, layer: str) -> Port:
    """Return the port of a layer's weights; if none is constant, the last that may carry them."""
    ports = [Port(layer, index) for index in LAYERS[view.types[layer]].weights]
    for port in ports:
        if view.is_constant(view.tensor(port)):
            return port
    return ports[-1]


def axes_of(view: GraphView, port: Port) -> Axes:
    """Return the axes of a layer's weights at ``port``."""
    rule, shape = LAYERS[view.types[port.node]], view.shape(view.tensor(port))
    assert shape is not None
    return rule.axes(port.input, len(shape), view.attributes(port.node))


def weights_of(view: GraphView, port: Port) -> NDArray[np.float32]:
    """Return the weights at a port as ``float32`` in the constant's shape."""
    return np.asarray(view.values(view.tensor(port)), dtype=np.float32)


def scale_shape(view: GraphView, port: Port) -> tuple[int, ...]:
    """Return the shape of the weight scales: one per output channel, of the weights' rank.

    A grouped convolution with several outputs per group needs both axes: ``[G, 1, …]`` fails to compile.
    """
    shape, scaled = view.shape(view.tensor(port)) or (), axes_of(view, port).scaled
    return tuple((size or 1) if axis in scaled else 1 for axis, size in enumerate(shape))


def is_depthwise(view: GraphView, port: Port) -> bool:
    """Return whether the weights at ``port`` compute each output channel from one input channel of its own."""
    shape, axes = view.shape(view.tensor(port)) or (), axes_of(view, port)
    return bool(axes.groups) and shape[axes.outputs] == shape[axes.inputs] == 1


def signed_scheme(view: GraphView, layer: QuantizableNode) -> Scheme:
    """Return the scheme of levels for data with negative values.

    A depthwise 3-D convolution with a zero point runs in f32, and with unsigned or symmetric levels in INT8.
    """
    if layer.depthwise and len(axes_of(view, Port(layer.name, layer.weights[0])).kernel) == 3:
        return Scheme.SYMMETRIC
    return LAYERS[layer.type].signed


def float_kernel(view: GraphView, name: str) -> str:
    """Return why OpenVINO 2026.4 runs a layer in f32 on every x86 CPU, whatever its inputs are; empty if it does not.

    Source: ``Deconvolution::canBeExecutedInInt8`` in src/plugins/intel_cpu/src/nodes/deconv.cpp of OpenVINO. Its other
    conditions depend on the CPU, so the compiled model has to be asked.
    """
    rule, port = LAYERS[view.types[name]], Port(name, 1)
    if not rule.spreads or not view.is_constant(view.tensor(port)):
        return ""
    shape, strides = view.shape(view.tensor(port)) or (), view.attributes(name)["strides"]
    kernel = [shape[axis] or 1 for axis in axes_of(view, port).kernel]
    if strides[-1] > 3:
        return DECONVOLUTIONS["stride"].of(stride=strides[-1])
    if any(size < stride for size, stride in zip(kernel, strides, strict=True)):
        return DECONVOLUTIONS["kernel"].of(kernel=kernel, strides=list(strides))
    return ""


def channel_axis(view: GraphView, layer: str) -> int:
    """Return the axis of a layer's output with one entry per weight scale, 1 or counted from the back."""
    port = weights_port(view, layer)
    return LAYERS[view.types[layer]].weights[port.input].channels


def channel_shape(view: GraphView, layer: str) -> list[int]:
    """Return the shape of one number per channel of a layer's output: of its rank, with -1 on the channel axis."""
    shape = [1] * view.nodes[layer].output(0).get_partial_shape().rank.get_length()
    shape[channel_axis(view, layer)] = -1
    return shape


def sums_without_padding(view: GraphView, layer: QuantizableNode) -> bool:
    """Return whether a constant added to a layer's input adds a constant to each channel of its output.

    It is False for grouped convolutions and stacks of matrices, whose zero points are not folded.
    """
    if layer.weights != (1,) or LAYERS[layer.type].spreads:
        return False
    attributes = view.attributes(layer.name)
    axes = axes_of(view, Port(layer.name, 1))
    pads = (*attributes.get("pads_begin", ()), *attributes.get("pads_end", ()))
    padded = any(pads) or attributes.get("auto_pad", "valid") not in ("explicit", "valid")
    return not (axes.groups or axes.stack or padded)


def following_bias(view: GraphView, layer: str) -> tuple[Port, NDArray[np.float32]] | None:
    """Return the constant port of the Add that is a layer's only reader, and its values, if it is a bias."""
    readers = view.consumers.get(TensorId(layer), [])
    if len(readers) != 1 or view.types[readers[0].node] != "Add":
        return None
    port = Port(readers[0].node, 1 - readers[0].input)
    tensor = view.tensor(port)
    if not view.is_constant(tensor):
        return None
    data = view.values(tensor)
    out = view.nodes[layer].output(0).get_partial_shape().rank.get_length()
    axis = channel_axis(view, layer) % out
    shape = (1,) * (out - data.ndim) + data.shape
    if len(shape) != out or any(size != 1 for i, size in enumerate(shape) if i != axis):
        return None
    return port, data.reshape(shape).astype(np.float32)


def reader_energies(view: GraphView, plan: QuantizationPlan) -> dict[TensorId, tuple[int, NDArray[np.float64]]]:
    """Return the weight of each channel of the quantized tensors for the layers that read it.

    Returns:
        Mapping from tensor to the axis of its channels and the mean square of the weights that each channel is
        multiplied with, ``(channels,)``, scaled to 1 on average and averaged over the readers. Tensors without such an
        axis are left out: factors of a product of two activations, or tensors that readers see in another layout.
    """
    weights = {weight.port.node: weight.port for weight in plan.weights}
    found = {}
    for quantizer in plan.activations:
        ports = sorted({route.layer for route in quantizer.routes})
        parts = [_column_energy(view, weights[port.node]) for port in ports if port.node in weights]
        shapes = [view.shape(tensor) for tensor in (quantizer.tensor, *(view.tensor(port) for port in ports))]
        axes = {axis for axis, _ in parts}
        if len(parts) < len(ports) or len(axes) != 1 or any(s is None or len(s) < 2 for s in shapes):
            continue
        axis = axes.pop()
        if all(shape is not None and shape[axis] == len(energy) for shape in shapes for _, energy in parts):
            found[quantizer.tensor] = (axis, np.mean([energy for _, energy in parts], axis=0))
    return found


def _column_energy(view: GraphView, weights: Port) -> tuple[int, NDArray[np.float64]]:
    """Return ``(axis, energies)`` of one layer's input; no energies if its weights are a stack of matrices."""
    axes, squares = axes_of(view, weights), weights_of(view, weights).astype(np.float64) ** 2
    if axes.stack:
        return axes.source, np.zeros(0)
    energy = squares.mean(axis=tuple(axis for axis in range(squares.ndim) if axis not in axes.read)).reshape(-1)
    return axes.source, energy / max(energy.mean(), np.finfo(np.float64).tiny)


def products(view: GraphView, port: Port) -> int:
    """Return the number of products that a layer with weights at ``port`` sums to one output value."""
    rule, shape = LAYERS[view.types[port.node]], view.shape(view.tensor(port)) or ()
    return rule.products(port.input, [size or 1 for size in shape], view.attributes(port.node))


def multiply_accumulates(view: GraphView, name: str) -> int:
    """Return the multiply-accumulates per inference of a layer; 0 if a shape is dynamic or it is not a layer."""
    rule = LAYERS.get(view.types.get(name, ""))
    if rule is None and view.types.get(name) in RECURRENT:
        from calib.graph.recurrent import multiply_accumulates as recurrent  # here: few models have any

        return recurrent(view, name)
    if rule is None:
        return 0
    shapes = [view.shape(tensor) for tensor in (view.inputs[name][0], view.inputs[name][rule.other], TensorId(name))]
    if any(shape is None or None in shape for shape in shapes):
        return 0
    data, weights, output = ([size or 0 for size in shape or ()] for shape in shapes)
    return view.runs(name) * rule.multiply_accumulates(data, weights, output, view.attributes(name))
