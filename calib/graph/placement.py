"""Where quantizers go: on tensors, shared by their consumers, in front of what carries INT8 along.

1. Every activation port of a layer asks for its tensor to be quantized.
2. A request moves up through an operation that only selects values (MaxPool, Transpose, …) when every reader of that
   operation's output asks too, so that the operation itself runs in INT8.
3. A request on a Concat's output becomes one on each input, with one range for all of them.
4. Requests on one tensor are served by one quantizer: two on a tensor would force a floating-point output.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from calib.graph.finder import Found
from calib.graph.operations import ELEMENTWISE, LAYERS, SELECTING
from calib.graph.view import GraphView
from calib.plan import (
    ActivationQuantizer,
    Port,
    QuantizableNode,
    QuantizationPlan,
    Route,
    Scheme,
    TensorId,
    WeightQuantizer,
)


@dataclass(frozen=True)
class _Request:
    """What a layer's port wants of the tensor that it reads."""

    route: Route
    scheme: Scheme
    signed_only: bool = False


def place(view: GraphView, found: Found, *, weight_levels: int = 255) -> QuantizationPlan:
    """Return a plan without ranges for these layers."""
    requests: dict[TensorId, list[_Request]] = defaultdict(list)
    weights: list[WeightQuantizer] = []
    for layer in found.layers:
        for port, scheme, signed_only in _wanted(layer):
            requests[view.tensor(port)].append(_Request(Route(port, port), scheme, signed_only))
        weights.extend(
            WeightQuantizer(Port(layer.name, index), scale_shape(view, layer, index), weight_levels)
            for index in layer.weights
        )
    unified = _move_up(view, requests)
    depthwise = frozenset(layer.name for layer in found.layers if layer.depthwise)
    quantizers = tuple(
        _quantizer(view, tensor, requests[tensor], unified.get(tensor, ""), depthwise)
        for tensor in sorted(requests, key=lambda t: (view.order[t.node], t.output))
        if requests[tensor]
    )
    return QuantizationPlan(found.layers, quantizers, tuple(weights), found.skipped)


def _wanted(layer: QuantizableNode) -> list[tuple[Port, Scheme, bool]]:
    """List ``(port, scheme for signed data, signed whatever the data)`` for the activation ports of a layer."""
    rule = LAYERS[layer.type]
    if layer.type != "MatMul":
        return [(Port(layer.name, 0), rule.signed, False)]
    if len(layer.activations) == 2:
        # B must be i8 with zero point 0; A u8 or i8 with zero point 0; anything else runs in f32.
        return [(Port(layer.name, 0), Scheme.SYMMETRIC, False), (Port(layer.name, 1), Scheme.SYMMETRIC, True)]
    if layer.weights == (0,):
        return [(Port(layer.name, 1), Scheme.SYMMETRIC, True)]
    return [(Port(layer.name, 0), rule.signed, False)]


def _quantizer(
    view: GraphView, tensor: TensorId, requests: list[_Request], unify: str, depthwise: frozenset[str]
) -> ActivationQuantizer:
    # Only a depthwise layer's own input: behind a Transpose or Reshape, channels lie elsewhere.
    # Signed ranges for each channel give wrong numbers in dynamic shapes (error 4x that of the rounding) and where
    # OpenVINO 2026.4 fuses them into a grouped convolution (10 to 100x).
    shape = view.shape(tensor) or (None,)
    exact = tensor.node in view.positive or (None not in shape and not _fused_into_groups(view, tensor))
    per_channel = (
        exact
        and not unify
        and all(r.route.layer.node in depthwise and r.route.entry == r.route.layer for r in requests)
    )
    symmetric = any(request.scheme == Scheme.SYMMETRIC for request in requests)
    return ActivationQuantizer(
        tensor,
        frozenset(request.route for request in requests),
        Scheme.SYMMETRIC if symmetric else Scheme.ASYMMETRIC,
        unify=unify,
        signed_only=any(request.signed_only for request in requests),
        per_channel=per_channel,
    )


def _fused_into_groups(view: GraphView, tensor: TensorId) -> bool:
    """Say whether a quantizer on the tensor may be fused into a grouped convolution that is not depthwise."""
    waiting, seen = [tensor], {tensor}
    for source in waiting:
        kind = view.types[source.node]
        if kind == "GroupConvolution":
            weights = view.shape(view.inputs[source.node][1]) or ()
            if weights[1:3] != (1, 1):
                return True
        elif kind == "Concat" or kind in ELEMENTWISE or kind in SELECTING:
            more = [s for s in view.inputs[source.node] if s not in seen and not view.is_constant(s)]
            waiting += more
            seen |= set(more)
    return False


def _move_up(view: GraphView, requests: dict[TensorId, list[_Request]]) -> dict[TensorId, str]:
    """Move requests towards the inputs, in place, until nothing moves; return the unification key of each tensor."""
    unified: dict[TensorId, str] = {}
    for name in reversed(view.nodes):
        kind = view.types[name]
        if kind not in SELECTING and kind != "Concat":
            continue
        tensor = TensorId(name)
        if not requests.get(tensor) or not _all_readers_ask(view, tensor, requests[tensor]):
            continue
        sources = view.inputs[name] if kind == "Concat" else view.inputs[name][:1]
        if any(view.is_constant(source) for source in sources):
            continue
        if kind == "Concat" and not _concat_carries_int8(view, name):
            continue
        moved = requests.pop(tensor)
        key = unified.pop(tensor, "") or (name if kind == "Concat" else "")
        for index, source in enumerate(sources):
            entry = Port(name, index)
            requests[source].extend(replace(r, route=Route(entry, r.route.layer)) for r in moved)
            if key:
                _join(unified, source, key)
    return unified


def _all_readers_ask(view: GraphView, tensor: TensorId, requests: list[_Request]) -> bool:
    asking = {request.route.entry for request in requests}
    return all(port in asking for port in view.value_consumers(tensor))


def _concat_carries_int8(view: GraphView, name: str) -> bool:
    """Say whether the Concat joins channels; elsewhere the plug-in gains nothing from INT8 inputs."""
    sources = view.inputs[name]
    return len(set(sources)) == len(sources) and all(
        view.types[source.node] not in ("Parameter", "ReadValue") for source in sources
    )


def _join(unified: dict[TensorId, str], tensor: TensorId, key: str) -> None:
    """Give a tensor a key; where it has one already, the two groups become one."""
    old = unified.get(tensor)
    if old is not None and old != key:
        for member, group in list(unified.items()):
            if group == old:
                unified[member] = key
    unified[tensor] = key


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
