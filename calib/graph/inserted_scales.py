"""Find tensors whose channels can be rescaled in front of the layers that read them, by a Multiply that is inserted.

It is for tensors that no constant can divide where they are written: behind GELU, Swish and HardSwish, on a residual
stream, at an input of the network::

    x ─┬─▶ FakeQuantize ─▶ W         becomes    x ─┬─▶ Multiply(1/s) ─▶ FakeQuantize ─▶ W·s
       └─▶ other readers                           └─▶ other readers

OpenVINO fuses the Multiply into the FakeQuantize, whose input range then has a value for each channel and whose output
range has one for all, so the layer runs in INT8 as before. Source: Xiao et al., "SmoothQuant", 2023, §4, where the
division is folded into what comes before.
"""

from __future__ import annotations

from math import prod

import numpy as np

from calib.graph.insert import constant
from calib.graph.layers import axes_of, weights_of
from calib.graph.scalable import Scalable, Site, along, is_alone, own_weights
from calib.graph.view import GraphView
from calib.runtime.session import ov
from calib.values.plan import ActivationQuantizer, Port, QuantizationPlan, Route, Scaling, TensorId


def find_insertable(view: GraphView, quantizer: ActivationQuantizer) -> Scalable | None:
    """Return what a Multiply in front of a quantizer's layers would scale; None if they can't take the factors.

    Args:
        view: View of the model.
        quantizer: Quantizer on a tensor, with its routes to layers.
    """
    if quantizer.unify or quantizer.own or quantizer.fused or quantizer.per_channel:
        return None
    return examined(view, quantizer.tensor, sorted(quantizer.routes))


def examined(view: GraphView, tensor: TensorId, routes: list[Route]) -> Scalable | None:
    """Return what a Multiply between a tensor and these routes would scale; None if some layer can't take the factors.

    The Multiply stands in front of the routes' entries, and the operations between these and the layers only move
    channels as a whole.
    """
    shape = view.shape(tensor)
    name = Scaling(tensor, (), tuple(route.entry for route in routes)).scaled.node
    if shape is None or not routes or tensor.node in view.inside or name in view.nodes:
        return None
    if view.output(tensor).get_element_type() != ov.Type.f32:
        return None
    sites: list[Site] = []
    axes: set[int | None] = set()
    for route in routes:
        weights = own_weights(view, route.layer.node)
        if weights is None or weights.input == route.layer.input:
            return None
        sites.append(Site(weights, axes_of(view, weights).read))
        axes.add(_axis_at(view, route, weights))
    axis = axes.pop()
    channels = 0 if axes or axis is None else shape[axis] or 0
    if axis is None or channels < 2 or any(_columns(view, site) != channels for site in sites):
        return None
    ports = tuple(dict.fromkeys(route.entry for route in routes))
    depthwise = all(is_alone(view, site) for site in sites)
    return Scalable(tensor, axis, channels, (), tuple(dict.fromkeys(sites)), depthwise, ports)


def take_out_unused(view: GraphView, plan: QuantizationPlan) -> None:
    """Let layers that are back in floating point read the tensor itself again, by their own weights, in place.

    Args:
        view: View of the rescaled model, whose quantizers are inserted.
        plan: Plan of these quantizers.
    """
    quantized = {port for quantizer in plan.activations for port in quantizer.consumers}
    for scaling in plan.scalings:
        for entry in (port for port in scaling.ports if port not in quantized):
            found = examined(view, scaling.scaled, routes_from(view, (entry,)))
            assert found is not None  # it was rescaled
            for site in found.readers:
                values = weights_of(view, site.port).astype(np.float64)
                values = values / along(values, site.axes, np.array(scaling.factors))
                name = f"{view.tensor(site.port).node}/unscaled"
                own = constant(values.astype(np.float32), name).output(0)
                view.nodes[site.port.node].input(site.port.input).replace_source_output(own)
            view.nodes[entry.node].input(entry.input).replace_source_output(view.output(scaling.tensor))


def routes_from(view: GraphView, ports: tuple[Port, ...]) -> list[Route]:
    """Return the routes from ports to all layers behind them through operations that move channels as a whole."""
    found: list[Route] = []
    for entry in ports:
        waiting = [entry] if entry.node in view.types else []
        for port in waiting:
            if view.types[port.node] in _BEFORE and port.input == 0:
                waiting += view.value_consumers(TensorId(port.node))
            else:
                found.append(Route(entry, port))
    return found


def _columns(view: GraphView, site: Site) -> int:
    shape = view.shape(view.tensor(site.port)) or ()
    return prod(shape[axis] or 0 for axis in site.axes)


def _axis_at(view: GraphView, route: Route, weights: Port) -> int | None:
    """Return the axis of the channels at a route's entry; None if they are not one axis there, or it is not known."""
    port = route.layer
    shape = view.shape(view.tensor(port))
    if shape is None or len(shape) < 2:
        return None
    axis = axes_of(view, weights).source % len(shape)
    while port != route.entry:
        node = view.tensor(port).node
        before = _BEFORE.get(view.types[node])
        found = before(view, node, axis) if before else None
        if found is None:
            return None
        axis, port = found, Port(node, 0)
    return axis


def _same(_view: GraphView, _node: str, axis: int) -> int | None:
    return axis


def _transposed(view: GraphView, node: str, axis: int) -> int | None:
    order = view.inputs[node][1]
    values = view.values(order).reshape(-1) if view.is_constant(order) else np.zeros(0, np.int64)
    return int(values[axis]) if len(values) else None


def _reshaped(view: GraphView, node: str, axis: int) -> int | None:
    """Return the axis with as many entries, and as many values behind each, before a Reshape, Squeeze or Unsqueeze."""
    before, after = view.shape(view.inputs[node][0]), view.shape(TensorId(node))
    if before is None or after is None or None in after[axis:]:
        return None
    wanted = (after[axis], prod(size or 0 for size in after[axis + 1 :]))
    for candidate in reversed(range(len(before))):
        if None in before[candidate:]:
            return None
        if (before[candidate], prod(size or 0 for size in before[candidate + 1 :])) == wanted:
            return candidate
    return None


def _gathered(view: GraphView, node: str, axis: int) -> int | None:
    source, indices, along = view.inputs[node][:3]
    rank, picked = len(view.shape(source) or ()), view.shape(indices)
    if not rank or picked is None or not view.is_constant(along) or view.attributes(node).get("batch_dims", 0):
        return None
    at = int(view.values(along).reshape(-1)[0]) % rank
    if at <= axis < at + len(picked):
        return None
    return axis if axis < at else axis - len(picked) + 1


_BEFORE = {
    "MaxPool": _same,
    "Transpose": _transposed,
    "Reshape": _reshaped,
    "Squeeze": _reshaped,
    "Unsqueeze": _reshaped,
    "Gather": _gathered,
}
