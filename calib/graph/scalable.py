"""Find tensors whose channels can be rescaled without changing the network's function.

A tensor x qualifies if its producers end in constants (rows of weights and a bias, or the gain and bias of a
normalization) that can be divided by a factor for each channel, and every reader, through positively homogeneous
operations, ends in weights whose columns can be multiplied by it::

    W1, b1 → [ReLU, MaxPool…] → x → [ReLU, MaxPool…] → W2    becomes    W1/s, b1/s → … → x/s → … → W2·s
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from calib.graph.insert import clone_model, constant
from calib.graph.layers import LAYERS, axes_of, weights_of, weights_port
from calib.graph.view import GraphView
from calib.runtime.session import ov
from calib.values.plan import Port, Scaling, TensorId

# f(s·x) = s·f(x) for s > 0, channel by channel, with channels staying where they are.
HOMOGENEOUS = frozenset({"Relu", "PRelu", "MaxPool", "AvgPool", "LeakyRelu"})


@dataclass(frozen=True)
class Site:
    """A constant that takes a factor per channel, with the axes that hold the channels, flattened."""

    port: Port
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Scalable:
    """A tensor with the constants to divide (writers) and to multiply (readers).

    Attributes:
        axis: Axis of its channels.
        depthwise: Whether each channel has a weight scale of its own in every reader.
        ports: Ports that read the tensor through a Multiply that is inserted, see :mod:`calib.graph.inserted_scales`;
            empty if the writers are divided.
    """

    tensor: TensorId
    axis: int
    channels: int
    writers: tuple[Site, ...]
    readers: tuple[Site, ...]
    depthwise: bool
    ports: tuple[Port, ...] = ()

    def scaling(self, factors: NDArray[np.float64]) -> Scaling:
        """Return the rescaling by these factors, ``(channels,)``."""
        return Scaling(self.tensor, tuple(factors.tolist()), self.ports)


def find_scalable(view: GraphView, tensors: Sequence[TensorId]) -> list[Scalable]:
    """Return the tensors whose channels can be rescaled; each constant is a writer of at most one of them."""
    found, taken = [], set()
    for tensor in tensors:
        for axis in _axes(view, tensor):
            scalable = _examine(view, tensor, axis)
            if scalable is None:
                continue
            sites = {(view.tensor(site.port), "w") for site in scalable.writers}
            if not sites & taken:
                found.append(scalable)
                taken |= sites
            break
    return found


def apply_factors(model: ov.Model, chosen: Sequence[tuple[Scalable, NDArray[np.float64]]]) -> ov.Model:
    """Return a clone with each tensor's channels divided by its factors, which computes the same function."""
    clone = clone_model(model)
    view = GraphView(clone)
    product: dict[Port, NDArray[np.float64]] = {}
    for scalable, factors in chosen:
        for sites, scale in ((scalable.writers, 1.0 / factors), (scalable.readers, factors)):
            for site in sites:
                values = product.get(site.port)
                values = weights_of(view, site.port).astype(np.float64) if values is None else values
                product[site.port] = values * along(values, site.axes, scale)
    for port, values in product.items():
        source = view.tensor(port)
        readers = view.consumers[source]
        name = source.node if len(readers) == 1 else f"{source.node}/{port.node}"
        if len(readers) == 1:
            view.nodes[source.node].set_friendly_name(f"{name}/unscaled")
        made = constant(values.astype(np.float32), name)
        view.nodes[port.node].input(port.input).replace_source_output(made.output(0))
    for scalable, factors in chosen:
        if scalable.ports:
            _insert_multiply(view, scalable, factors)
    return clone


def _insert_multiply(view: GraphView, scalable: Scalable, factors: NDArray[np.float64]) -> None:
    """Let the ports of a tensor read it divided by its factors."""
    name = scalable.scaling(factors).scaled.node
    shape = [1] * len(view.shape(scalable.tensor) or ())
    shape[scalable.axis] = scalable.channels
    values = constant((1.0 / factors).astype(np.float32).reshape(shape), f"{name}/factors")
    made = ov.opset13.multiply(view.output(scalable.tensor), values)
    made.set_friendly_name(name)
    for port in scalable.ports:
        view.nodes[port.node].input(port.input).replace_source_output(made.output(0))


def tensors_scaled(view: GraphView, scalable: Scalable) -> list[TensorId]:
    """Return the tensors that are divided with it: itself, and those between its writers and its readers."""
    found = [scalable.tensor]
    for tensor in found:  # those behind it
        ports = view.value_consumers(tensor)
        found += [TensorId(port.node) for port in ports if view.types[port.node] in HOMOGENEOUS and port.input == 0]
    tensor = scalable.tensor
    while view.types[tensor.node] in (*HOMOGENEOUS, "Add", "Subtract"):  # those before it
        inputs = view.inputs[tensor.node]
        tensor = next(one for one in inputs if not view.is_constant(one))
        found.append(tensor)
    return found


def along(values: NDArray[np.float64], axes: tuple[int, ...], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``(channels,)`` in the shape to multiply values with along flattened axes."""
    return scale.reshape([size if axis in axes else 1 for axis, size in enumerate(values.shape)])


def _axes(view: GraphView, tensor: TensorId) -> list[int]:
    """Return the axes that may hold channels: axis 1 after convolutions, the last axis before a MatMul."""
    shape = view.shape(tensor)
    if shape is None or len(shape) < 2:
        return []
    return [axis for axis in dict.fromkeys((1, len(shape) - 1)) if (shape[axis] or 0) > 1]


def _examine(view: GraphView, tensor: TensorId, axis: int) -> Scalable | None:
    shape = view.shape(tensor)
    assert shape is not None
    channels, rank = int(shape[axis] or 0), len(shape)
    writers = _writers(view, tensor, axis, channels, rank)
    readers = _readers(view, tensor, axis, channels, frozenset())
    if not writers or not readers or any(view.tensor(a.port) == view.tensor(b.port) for a in writers for b in readers):
        return None
    depthwise = all(is_alone(view, site) for site in readers)
    return Scalable(tensor, axis, channels, tuple(writers), tuple(readers), depthwise)


def _writers(view: GraphView, tensor: TensorId, axis: int, channels: int, rank: int) -> list[Site] | None:
    """Return the constants to divide; None if the tensor can't be divided at its source."""
    kind, inputs = view.types[tensor.node], view.inputs[tensor.node]
    if kind in HOMOGENEOUS and view.value_consumers(inputs[0]) == [Port(tensor.node, 0)]:
        return _writers(view, inputs[0], axis, channels, rank)
    if kind in ("Add", "Multiply", "Subtract"):
        for index in (1, 0):
            port = Port(tensor.node, index)
            other = inputs[1 - index]
            if not _per_channel(view, port, axis, channels, rank) or (kind == "Subtract" and index == 0):
                continue
            if kind == "Multiply":
                return [Site(port, _lined_up(view, port, axis, rank))]
            if view.value_consumers(other) != [Port(tensor.node, 1 - index)]:
                return None
            above = _writers(view, other, axis, channels, rank)
            return None if above is None else [*above, Site(port, _lined_up(view, port, axis, rank))]
        return None
    return _weight_rows(view, tensor, axis, channels, rank)


def own_weights(view: GraphView, layer: str) -> Port | None:
    """Return the port of a layer's weights if they are a constant without other readers and not a stack of matrices."""
    if view.types[layer] not in LAYERS:
        return None
    port = weights_port(view, layer)
    tensor = view.tensor(port)
    if not view.is_constant(tensor) or len(view.consumers[tensor]) != 1 or len(view.shape(tensor) or ()) < 2:
        return None
    return None if axes_of(view, port).stack else port


def _weight_rows(view: GraphView, tensor: TensorId, axis: int, channels: int, rank: int) -> list[Site] | None:
    port = own_weights(view, tensor.node)
    if port is None:
        return None
    axes, shape = axes_of(view, port), view.shape(view.tensor(port)) or ()
    site = Site(port, (*axes.groups, axes.outputs))
    lined_up = axis == axes.channels % rank and prod(shape[a] or 0 for a in site.axes) == channels
    return [site] if lined_up else None


def _per_channel(view: GraphView, port: Port, axis: int, channels: int, rank: int) -> bool:
    """Return whether a port reads a constant of one value per channel that has no other reader."""
    tensor = view.tensor(port)
    if not view.is_constant(tensor) or len(view.consumers[tensor]) != 1:
        return False
    shape = view.shape(tensor) or ()
    full = (1,) * (rank - len(shape)) + tuple(shape)
    return len(full) == rank and all(size == (channels if i == axis else 1) for i, size in enumerate(full))


def _lined_up(view: GraphView, port: Port, axis: int, rank: int) -> tuple[int]:
    """Return the axis of a broadcast constant that lines up with an axis of the output."""
    return (axis - (rank - len(view.shape(view.tensor(port)) or ())),)


def _readers(
    view: GraphView, tensor: TensorId, axis: int, channels: int, seen: frozenset[TensorId]
) -> list[Site] | None:
    """Return the weights to multiply; None if some reader can't take the factors."""
    sites: list[Site] = []
    ports = view.value_consumers(tensor)
    if not ports or tensor in seen:
        return None
    for port in ports:
        kind = view.types[port.node]
        if kind in HOMOGENEOUS and port.input == 0:
            below = _readers(view, TensorId(port.node), axis, channels, seen | {tensor})
        else:
            below = _weight_columns(view, port, axis, channels)
        if below is None:
            return None
        sites.extend(below)
    return sites


def _weight_columns(view: GraphView, port: Port, axis: int, channels: int) -> list[Site] | None:
    weights = own_weights(view, port.node)
    if weights is None or weights.input == port.input:
        return None
    axes, shape = axes_of(view, weights), view.shape(view.tensor(weights)) or ()
    rank = len(view.shape(view.tensor(port)) or ())
    lined_up = rank > 1 and axis == axes.source % rank and prod(shape[a] or 0 for a in axes.read) == channels
    return [Site(weights, axes.read)] if lined_up else None


def reader_weights(view: GraphView, scalable: Scalable) -> list[NDArray[np.float32]]:
    """Return each reader's weights as ``(groups, outputs, channels, kernel)``, outputs and channels of a group."""
    parts: list[NDArray[np.float32]] = []
    for site in scalable.readers:
        axes = axes_of(view, site.port)
        values = weights_of(view, site.port).transpose(*axes.groups, axes.outputs, axes.inputs, *axes.kernel)
        values = values if axes.groups else values[None]
        parts.append(values.reshape(*values.shape[:3], -1))
    return parts


def is_alone(view: GraphView, site: Site) -> bool:
    """Return whether each channel that a site multiplies has weight scales of its own."""
    axes = axes_of(view, site.port)
    return bool(axes.groups) and (view.shape(view.tensor(site.port)) or ())[axes.inputs] == 1
