"""Place quantizers: on tensors, shared by their consumers, before operations that carry INT8 along.

1. Every activation port of a layer asks for its tensor to be quantized.
2. A request moves up through an operation that only selects values (MaxPool, Transpose, …) when every reader of that
   operation's output asks too, so that the operation itself runs in INT8.
3. A request on a Concat's output becomes one on each input, with one range for all of them.
4. Requests on one tensor are served by one quantizer: two on a tensor would force a floating-point output.
5. An operation that would write a whole tensor in f32 only to be quantized again is fused, if the tensor after it is
   quantized and never negative: the skip of a residual Add reads the quantized tensor, its branch is quantized where
   the kernel is one point, and so is what a mean over space reads::

       skip ─▶ FakeQuantize ─┬─▶ layers                      (ResNet-50: 28.2 ms without, 21.4 ms with both,
                             └─▶ Add ─▶ Relu ─▶ FakeQuantize  24.2 ms with the skip alone; ResNet-18: 10.2, 9.4, 9.4)
       Convolution ─▶ FakeQuantize ─▶┘

   A convolution that the Add is fused into clips its branch and does not round it; the other one rounds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from calib.graph.finder import Found, find
from calib.graph.ignored import Ignored
from calib.graph.layers import axes_of, is_depthwise, scale_shape, signed_scheme, sums_without_padding
from calib.graph.levels import own_quantizer
from calib.graph.operations import ELEMENTWISE, SELECTING
from calib.graph.tables import row_scales
from calib.graph.view import GraphView
from calib.values.plan import (
    FULL_RANGE,
    ActivationQuantizer,
    Fused,
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
    """Request of a layer's port, or of a port fused with layers, for its tensor to be quantized."""

    route: Route
    scheme: Scheme
    signed_only: bool = False
    fused: tuple[str, ...] = ()
    reason: str = ""


def planned(
    view: GraphView,
    ignore: Sequence[str] = (),
    *,
    exact_int8: bool = True,
    everywhere: bool = True,
    weight_levels: int = 255,
) -> QuantizationPlan:
    """Find the layers and place quantizers; ranges are still missing.

    Args:
        view: View of the model.
        ignore: Patterns of what stays in floating point, see :mod:`calib.graph.ignored`.
        exact_int8: Whether the target adds products of full 8-bit factors exactly.
        everywhere: Whether to leave out what is not right on every x86 CPU.
        weight_levels: Number of levels of weights.

    Raises:
        UsageError: A pattern is malformed, or matches nothing that would be quantized.
    """
    ignored = Ignored(view, ignore) if ignore else None
    which = {"exact_int8": exact_int8, "everywhere": everywhere}
    plan = place(view, find(view, ignored, **which), weight_levels=weight_levels)
    while ignored and ignored.leave_behind(plan):
        plan = place(view, find(view, ignored, **which), weight_levels=weight_levels)
    if ignored:
        ignored.require_use()
    return plan


def place(view: GraphView, found: Found, *, weight_levels: int = 255) -> QuantizationPlan:
    """Return a plan without ranges for these layers."""
    requests: dict[TensorId, list[_Request]] = defaultdict(list)
    weights: list[WeightQuantizer] = []
    for layer in found.layers:
        for port, scheme, signed_only in _wanted(view, layer):
            requests[view.tensor(port)].append(_Request(Route(port, port), scheme, signed_only))
        if not layer.is_table:
            weights.extend(
                WeightQuantizer(port, scale_shape(view, port), weight_levels)
                for port in (Port(layer.name, index) for index in layer.weights)
            )
    layers = {layer.name: layer for layer in found.layers}
    unified = _move_up(view, requests, layers, found.ignored)
    depthwise = frozenset(layer.name for layer in found.layers if layer.depthwise)
    quantizers = [
        _quantizer(view, tensor, requests[tensor], unified.get(tensor, ""), depthwise)
        for tensor in sorted(requests, key=lambda t: (view.order[t.node], t.output))
        if requests[tensor]
    ]
    per_channel = {quantizer.tensor for quantizer in quantizers if quantizer.per_channel}
    quantizers = [
        replace(q, padded=all(_pads(view, layers[name], per_channel) for name in q.layers)) if q.layers else q
        for q in quantizers
    ]
    tables = [layer for layer in found.layers if layer.is_table]
    groups = _with_tables(view, tables, found.layers, weights) if tables else ()
    return QuantizationPlan(found.layers, tuple(quantizers), tuple(weights), found.skipped, groups)


def _with_tables(
    view: GraphView,
    tables: Sequence[QuantizableNode],
    layers: Sequence[QuantizableNode],
    weights: list[WeightQuantizer],
) -> tuple[frozenset[str], ...]:
    """Add the quantizers of embedding tables, and return the sets of layers that share a table.

    A table that a MatMul takes for its weights has that one's levels, so that both read one constant, and they change
    together: stored in 8 bit for one and in f32 for the other, it would be larger than in f32 alone.
    """
    known = {view.tensor(weight.port): weight for weight in weights}
    groups: dict[TensorId, frozenset[str]] = {}
    for table in tables:
        port = Port(table.name, 0)
        tensor, scales = view.tensor(port), row_scales(view, port)
        shared = known.get(tensor)
        levels = shared.levels if shared and shared.scale_shape == scales else FULL_RANGE
        weights.append(WeightQuantizer(port, scales, levels))
        same = {
            layer.name for layer in layers if any(view.tensor(Port(layer.name, i)) == tensor for i in layer.weights)
        }
        groups[tensor] = frozenset(same)
    return tuple(group for group in groups.values() if len(group) > 1)


def _pads(view: GraphView, layer: QuantizableNode, per_channel: set[TensorId]) -> bool:
    """Return whether a zero point makes a layer slower, because it is a convolution that pads.

    If levels per channel follow, a zero point leads to oneDNN's jit kernel instead of brgconv, which is
    faster for few channels (MobileNetV2's stem: 200 against 480 µs).
    """
    if layer.type != "Convolution" or sums_without_padding(view, layer):
        return False
    tensor = TensorId(layer.name)
    while tensor not in per_channel:
        readers = view.value_consumers(tensor)
        if len(readers) != 1 or view.types[readers[0].node] not in ELEMENTWISE:
            return True
        tensor = TensorId(readers[0].node)
    return False


def _wanted(view: GraphView, layer: QuantizableNode) -> list[tuple[Port, Scheme, bool]]:
    """Return ``(port, scheme for signed data, signed whatever the data)`` for the activation ports of a layer."""
    if layer.is_table:
        return []
    if len(layer.activations) == 2:
        # B must be i8 with zero point 0; A u8 or i8 with zero point 0; anything else runs in f32.
        return [(Port(layer.name, 0), Scheme.SYMMETRIC, False), (Port(layer.name, 1), Scheme.SYMMETRIC, True)]
    # Port 1 of a MatMul whose other factor has its levels already; none where a model has quantized the activation.
    signed = [(Port(layer.name, 1), Scheme.SYMMETRIC, True)] if 1 in layer.activations else []
    return signed or [(Port(layer.name, index), signed_scheme(view, layer), False) for index in layer.activations]


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
    routes = frozenset(request.route for request in requests if not request.fused)
    if view.quantizes and routes and not unify and (own := own_quantizer(view, tensor)):
        return ActivationQuantizer(tensor, routes, own.scheme, own.levels, range=own.range, own=own.node)
    return ActivationQuantizer(
        tensor,
        routes,
        Scheme.SYMMETRIC if symmetric else Scheme.ASYMMETRIC,
        unify=unify,
        signed_only=any(request.signed_only for request in requests),
        per_channel=per_channel,
        fused=frozenset(Fused(r.route.entry, r.fused, r.reason) for r in requests if r.fused),
    )


def _fused_into_groups(view: GraphView, tensor: TensorId) -> bool:
    """Return whether a quantizer on the tensor may be fused into a grouped convolution that is not depthwise."""
    waiting, seen = [tensor], {tensor}
    for source in waiting:
        kind = view.types[source.node]
        if kind == "GroupConvolution":
            if not is_depthwise(view, Port(source.node, 1)):
                return True
        elif kind == "Concat" or kind in ELEMENTWISE or kind in SELECTING:
            more = [s for s in view.inputs[source.node] if s not in seen and not view.is_constant(s)]
            waiting += more
            seen |= set(more)
    return False


def _move_up(
    view: GraphView,
    requests: dict[TensorId, list[_Request]],
    layers: Mapping[str, QuantizableNode],
    ignored: Ignored | None,
) -> dict[TensorId, str]:
    """Move requests towards the inputs, in place, until nothing moves; return the unification key of each tensor."""
    unified: dict[TensorId, str] = {}
    for name in reversed(view.nodes):
        kind = view.types[name]
        if kind in _FUSING:
            asked = _FUSING[kind](view, name, requests, layers)
            for tensor, request in () if asked and ignored and ignored(name, kind) else asked:
                requests[tensor].append(request)
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
        if kind == "Pad" and not _pad_carries_int8(view, name, requests[tensor]):
            continue
        if ignored and ignored(name, kind):
            continue
        moved = requests.pop(tensor)
        key = unified.pop(tensor, "") or (name if kind == "Concat" else "")
        for index, source in enumerate(sources):
            entry = Port(name, index)
            requests[source].extend(replace(r, route=Route(entry, r.route.layer)) for r in moved)
            if key:
                _join(unified, source, key)
    return unified


def _fused_mean(
    view: GraphView, name: str, requests: Mapping[TensorId, list[_Request]], layers: Mapping[str, QuantizableNode]
) -> list[tuple[TensorId, _Request]]:
    """Request the input of a mean over space if its output is requested, since rounding averages out."""
    source = view.inputs[name][0]
    asked, rank = requests.get(TensorId(name), []), len(view.shape(source) or ())
    if not asked or not view.is_constant(view.inputs[name][1]) or len(view.value_consumers(source)) != 1:
        return []
    axes = {int(axis) % max(rank, 1) for axis in view.values(view.inputs[name][1]).reshape(-1)}
    behind = _source_layers(view, source, layers)
    if rank < 4 or axes != set(range(2, rank)) or not behind:
        return []
    owners = tuple(sorted({*behind, *_readers(asked)}))
    port = Port(name, 0)
    reason = "the layer before the mean writes 8 bit instead of 32"
    return [(source, _Request(Route(port, port), Scheme.SYMMETRIC, fused=owners, reason=reason))]


def _fused_add(
    view: GraphView, name: str, requests: Mapping[TensorId, list[_Request]], layers: Mapping[str, QuantizableNode]
) -> list[tuple[TensorId, _Request]]:
    """Request both inputs of a residual Add if its output is never negative and all its readers request it."""
    inputs, total = view.inputs[name], TensorId(name)
    if any(map(view.is_constant, inputs)) or inputs[0] == inputs[1] or _differ(view, *inputs):
        return []
    readers = view.value_consumers(total)
    while total not in requests and len(readers) == 1 and view.types[readers[0].node] in ("Relu", "Clamp"):
        total = TensorId(readers[0].node)
        readers = view.value_consumers(total)
    asked = requests.get(total, [])
    if not asked or total.node not in view.positive or not _all_readers_ask(view, total, asked):
        return []
    found, owners, branches = [], set(_readers(asked)), 0
    for index, tensor in enumerate(inputs):
        port, skip = Port(name, index), requests.get(tensor, [])
        layer = _only_layer(view, tensor, layers)
        if skip and tensor.node in view.positive:
            owners |= _readers(skip)
            request = _Request(Route(port, port), Scheme.ASYMMETRIC, reason=f"{name} reads 8 bit instead of 32")
            found.append((tensor, request))
        elif layer:
            owners.add(layer)
            branches += 1
            if _one_point(view, layer):
                reason = f"{layer} and {name} run as one and write 8 bit instead of 32"
                found.append((tensor, _Request(Route(port, port), Scheme.SYMMETRIC, reason=reason)))
    # Both inputs have to be of 8 bit where two branches meet; beside a skip, one is.
    if not branches or len(found) < branches:
        return []
    return [(tensor, replace(request, fused=tuple(sorted(owners)))) for tensor, request in found]


_FUSING = {"Add": _fused_add, "ReduceMean": _fused_mean}


def _readers(requests: list[_Request]) -> set[str]:
    """Return the layers of the requests, or, if there are none, the layers that the requests are fused with."""
    real = {request.route.layer.node for request in requests if not request.fused}
    return real or {name for request in requests for name in request.fused}


def _differ(view: GraphView, one: TensorId, other: TensorId) -> bool:
    """Return whether an Add of two tensors broadcasts one of them, or may."""
    shape = view.shape(one)
    return shape is None or shape != view.shape(other) or None in shape[1:]


def _only_layer(view: GraphView, tensor: TensorId, layers: Mapping[str, QuantizableNode]) -> str:
    """Return the convolution whose output, with or without bias, is this tensor and is read once; empty if none."""
    name = tensor.node
    if view.types[name] == "Add" and any(map(view.is_constant, view.inputs[name])):
        if len(view.value_consumers(tensor)) != 1:
            return ""
        name = next(source.node for source in view.inputs[name] if not view.is_constant(source))
    alone = len(view.value_consumers(TensorId(name))) == 1
    return name if alone and name in layers and layers[name].type == "Convolution" else ""


def _source_layers(view: GraphView, tensor: TensorId, layers: Mapping[str, QuantizableNode]) -> set[str]:
    """Return the convolutions that a tensor comes from through operations fused into them; empty if not all are."""
    found: set[str] = set()
    waiting = [tensor]
    while waiting:
        name = waiting.pop().node
        if name in layers and layers[name].type == "Convolution":
            found.add(name)
        elif view.types[name] in ELEMENTWISE | {"MaxPool"}:
            sources = [source for source in view.inputs[name] if not view.is_constant(source)]
            if any(len(view.value_consumers(source)) > 1 for source in sources) and len(sources) == 1:
                return set()
            waiting += sources
        else:
            return set()
    return found


def _one_point(view: GraphView, layer: str) -> bool:
    """Return whether a kernel is one point; a larger one is bound by its sums, not by writing them.

    Rounding the branches of ResNet-18, 3 x 3, cost .5 dB and gained 1 %; those of ResNet-50, 1 x 1, .1 dB and 14 %.
    """
    port = Port(layer, 1)
    shape = view.shape(view.tensor(port)) or ()
    return all(shape[axis] == 1 for axis in axes_of(view, port).kernel)


def _all_readers_ask(view: GraphView, tensor: TensorId, requests: list[_Request]) -> bool:
    asking = {request.route.entry for request in requests}
    return all(port in asking for port in view.value_consumers(tensor))


def _concat_carries_int8(view: GraphView, name: str) -> bool:
    """Return whether the Concat joins channels; on other axes the plug-in gains nothing from INT8 inputs."""
    sources = view.inputs[name]
    return len(set(sources)) == len(sources) and all(
        view.types[source.node] not in ("Parameter", "ReadValue") for source in sources
    )


def _pad_carries_int8(view: GraphView, name: str, requests: list[_Request]) -> bool:
    """Return whether a Pad runs in INT8 behind a quantizer: it repeats values, or writes zeros beside unsigned ones.

    With zeros beside signed levels, OpenVINO 2026.4 runs it in f32, and what follows too.
    """
    if view.attributes(name)["pad_mode"] != "constant":
        return True
    source, *_, value = view.inputs[name]
    zeros = len(view.inputs[name]) < 4 or (view.is_constant(value) and not view.values(value).any())
    return zeros and source.node in view.positive and not any(request.signed_only for request in requests)


def _join(unified: dict[TensorId, str], tensor: TensorId, key: str) -> None:
    """Give a tensor a key; if it already has one, merge the two groups."""
    old = unified.get(tensor)
    if old is not None and old != key:
        for member, group in list(unified.items()):
            if group == old:
                unified[member] = key
    unified[tensor] = key
