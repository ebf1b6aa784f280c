"""What a layer is: where its weights, its channels and its bias lie, and how much it multiplies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.graph.view import GraphView
from calib.values.plan import Port, QuantizableNode, QuantizationPlan, TensorId


def weights_of(view: GraphView, port: Port) -> NDArray[np.float32]:
    """Return the float weights behind a port, ``float32`` in the constant's shape."""
    node: Any = view.nodes[view.tensor(port).node]
    return np.asarray(node.data, dtype=np.float32)


def scale_shape(view: GraphView, layer: QuantizableNode, index: int) -> tuple[int, ...]:
    """Return the shape of the weight scales: one for each output channel, rank of the weights.

    A grouped convolution with several outputs a group needs both axes: ``[G, 1, …]`` there fails to compile.
    """
    node = view.nodes[layer.name]
    shape = tuple(node.input_value(index).get_shape())
    if layer.type == "GroupConvolution":
        axes = {0, 1}
    elif layer.type == "ConvolutionBackpropData":
        axes = {1}
    elif layer.type == "MatMul":
        transposed = node.get_attributes()["transpose_a" if index == 0 else "transpose_b"]
        last = len(shape) - 1
        # B is (…, K, N) or, transposed, (…, N, K); A is (…, M, K) or, transposed, (…, K, M).
        channel = last - 1 if transposed == (index == 1) else last
        axes = {*range(last - 1), channel}
    else:
        axes = {0}
    return tuple(size if axis in axes else 1 for axis, size in enumerate(shape))


def channel_axis(view: GraphView, layer: str) -> int:
    """Return the axis of a layer's output that has one entry for each weight scale."""
    if view.types[layer] != "MatMul":
        return 1
    rank = view.nodes[layer].output(0).get_partial_shape().rank.get_length()
    return rank - 2 if view.is_constant(view.tensor(Port(layer, 0))) else rank - 1


def channel_shape(view: GraphView, layer: str) -> list[int]:
    """Return the shape of one number a channel of a layer's output: its rank, -1 on the axis of its channels."""
    shape = [1] * view.nodes[layer].output(0).get_partial_shape().rank.get_length()
    shape[channel_axis(view, layer)] = -1
    return shape


def sums_without_padding(view: GraphView, layer: QuantizableNode) -> bool:
    """Say whether a constant added to a layer's input adds a constant to each channel of its output."""
    attributes = view.nodes[layer.name].get_attributes()
    if layer.type == "MatMul":
        return layer.weights == (1,) and len(view.shape(view.tensor(Port(layer.name, 1))) or ()) == 2
    pads = (*attributes.get("pads_begin", ()), *attributes.get("pads_end", ()))
    return layer.type == "Convolution" and attributes["auto_pad"] in ("explicit", "valid") and not any(pads)


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


def reader_energies(view: GraphView, plan: QuantizationPlan) -> dict[TensorId, tuple[int, NDArray[np.float64]]]:
    """Return how much each channel of the quantized tensors counts for the layers that read it.

    Returns:
        tensor → the axis of its channels, and ``(channels,)`` the mean square of the weights that each of them meets,
        scaled to 1 on average and averaged over the readers. Left out is what has no such axis: a factor of a product
        of two activations, or a tensor that its readers see in another layout.
    """
    weights = {weight.port.node: weight.port for weight in plan.weights}
    found = {}
    for quantizer in plan.activations:
        ports = sorted({route.layer for route in quantizer.routes})
        parts = [_column_energy(view, port, weights[port.node]) for port in ports if port.node in weights]
        shapes = [view.shape(tensor) for tensor in (quantizer.tensor, *(view.tensor(port) for port in ports))]
        axes = {axis for axis, _ in parts}
        if len(parts) < len(ports) or len(axes) != 1 or any(s is None or len(s) < 2 for s in shapes):
            continue
        axis = axes.pop()
        if all(shape is not None and shape[axis] == len(energy) for shape in shapes for _, energy in parts):
            found[quantizer.tensor] = (axis, np.mean([energy for _, energy in parts], axis=0))
    return found


def _column_energy(view: GraphView, port: Port, weights: Port) -> tuple[int, NDArray[np.float64]]:
    """Return ``(axis, energies)`` of one layer's input; no energies where its weights are a stack of matrices."""
    kind, squares = view.types[port.node], weights_of(view, weights).astype(np.float64) ** 2
    axis, energy = 1, np.zeros(0)
    if kind == "Convolution":
        energy = squares.mean(axis=(0, *range(2, squares.ndim)))
    elif kind == "GroupConvolution":
        energy = squares.mean(axis=(1, *range(3, squares.ndim))).reshape(-1)
    elif kind == "MatMul" and squares.ndim == 2:
        swapped = [view.nodes[port.node].get_attributes()[name] for name in ("transpose_a", "transpose_b")]
        axis = -2 if swapped[port.input] == (port.input == 0) else -1
        energy = squares.mean(axis=1 if swapped[weights.input] == (weights.input == 0) else 0)
    return axis, energy / max(energy.mean() if energy.size else 0.0, np.finfo(np.float64).tiny)


def depth_of(view: GraphView, name: str, index: int) -> int:
    """Return how many products a MatMul sums: the length of the axis of its constant that is contracted."""
    shape = tuple(view.nodes[name].input_value(index).get_shape())
    transposed = view.nodes[name].get_attributes()["transpose_a" if index == 0 else "transpose_b"]
    return shape[-1] if (index == 0) != transposed else shape[-2]


def multiply_accumulates(view: GraphView, name: str) -> int:
    """Return the multiply-accumulates of one inference of a layer; 0 where a shape is dynamic or unknown."""
    if name not in view.nodes or len(view.inputs[name]) < 2 or view.types[name] in ("If", "Loop", "TensorIterator"):
        return 0
    out, first, second = (view.shape(t) for t in (TensorId(name), *view.inputs[name][:2]))
    if out is None or first is None or second is None or None in (*out, *first, *second):
        return 0
    kind = view.types[name]
    elements = int(np.prod([size or 0 for size in out]))
    weights = int(np.prod([size or 0 for size in second]))
    if kind == "MatMul":
        transposed = view.nodes[name].get_attributes()["transpose_a"]
        return elements * int((first[-2] if transposed else first[-1]) or 0)
    if kind == "Convolution":
        return elements * weights // int(second[0] or 1)
    if kind == "GroupConvolution":
        return elements * weights // int((second[0] or 1) * (second[1] or 1))
    if kind == "ConvolutionBackpropData":
        return int(np.prod([size or 0 for size in first])) * weights // int(second[0] or 1)
    return 0
