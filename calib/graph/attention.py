"""Write ScaledDotProductAttention out as MatMuls, which can be layers.

::

    query, key, value ──▶ ScaledDotProductAttention

    query, key ──▶ MatMul ──▶ · scale ──▶ + mask ──▶ Softmax ──▶ MatMul ◀── value

The CPU plug-in writes it out too when it compiles a model without state (``ScaledDotProductAttentionDecomposition`` in
its ``transformation_pipeline.cpp``), so in floating point both forms run as the same kernels.

Source: the specification of ScaledDotProductAttention-13 in OpenVINO's operation sets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from calib.graph.insert import clone_model
from calib.graph.operations import ATTENTION, CARRYING, MANY_KEYS, SELECTING, Refusal
from calib.graph.view import GraphView, over_state
from calib.runtime.session import attributes_of, make_model, ov
from calib.values.plan import QuantizationPlan

op = ov.opset13

Named = Callable[[ov.Node, str], ov.Output]
"""Gives a new operation its name, the operation's own with this behind it, and returns its output."""


def refusal(node: ov.Node) -> Refusal | None:
    """Return why a ScaledDotProductAttention stays one operation; None if it can be written out."""
    tensors = node.input_values()
    query, key, value = (tensor.get_partial_shape() for tensor in tensors[:3])
    if any(over_state(tensor) for tensor in tensors[1:3]):
        return ATTENTION["state"]
    if len(tensors) > 5:
        return ATTENTION["inputs"]
    if any(shape.rank.is_dynamic for shape in (query, key, value)):
        return ATTENTION["rank"]
    if len(tensors) == 5 and tensors[4].get_partial_shape() not in (ov.PartialShape([]), ov.PartialShape([1])):
        return ATTENTION["scale"]
    if key[-2].is_static and key[-2].get_length() < MANY_KEYS:
        return ATTENTION["few"]
    return None


def write_out(node: ov.Node, named: Named) -> ov.Output:
    """Return the output of MatMuls that compute what a ScaledDotProductAttention does; the model is not edited.

    Args:
        node: Operation for which ``refusal`` returns None.
        named: Names the operations; the last one is the caller's to name.
    """
    query, key, value, *more = node.input_values()
    scores = named(op.matmul(query, key, False, True), "scores")
    scores = named(op.multiply(scores, _scale(query, more, named)), "scaled")
    causal = bool(attributes_of(node)["causal"])
    if causal or (more and more[0].get_partial_shape() != ov.PartialShape([])):  # a scalar stands for no mask
        mask = _causal(query, key) if causal else more[0]
        scores = named(op.add(scores, _added(mask, scores)), "masked")
    return op.matmul(named(op.softmax(scores, -1), "softmax"), value, False, False).output(0)


def _scale(query: ov.Output, more: list[ov.Output], named: Named) -> ov.Output:
    """Return the factor of the scores: input 4, or 1 / √size of a query."""
    if len(more) > 1:
        return more[1]
    size = query.get_partial_shape()[-1]
    kind = query.get_element_type()
    if size.is_static:
        return op.constant(np.float32(size.get_length() ** -0.5), kind).output(0)
    length = op.gather(op.shape_of(query), op.constant(np.array([-1])), op.constant(np.int64(0)))
    return named(op.power(op.convert(length, kind.get_type_name()), op.constant(np.float32(-0.5), kind)), "scale")


def _causal(query: ov.Output, key: ov.Output) -> ov.Output:
    """Return which keys each query may see, ``(queries, keys)``: those up to its own position."""

    def positions(tensor: ov.Output, axis: int) -> ov.Node:
        length = op.gather(op.shape_of(tensor, "i32"), op.constant(np.int32(-2)), op.constant(np.int64(0)))
        counted = op.range(op.constant(np.int32(0)), length, op.constant(np.int32(1)), "i32")
        return op.unsqueeze(counted, op.constant(np.int64(axis)))

    return op.greater_equal(positions(query, 1), positions(key, 0)).output(0)


def _added(mask: ov.Output, scores: ov.Output) -> ov.Output:
    """Return what a mask adds to the scores: itself, or of truth values 0 where it is true and -∞ elsewhere."""
    kind = scores.get_element_type()
    if mask.get_element_type() != ov.Type.boolean:
        return mask
    return op.select(mask, op.constant(np.float32(0), kind), op.constant(np.float32(-np.inf), kind)).output(0)


@dataclass(frozen=True)
class WeightedSum:
    """A MatMul of weights from a Softmax with values, both computed.

    Attributes:
        layer: Name of the MatMul.
        turned: Whether the values are transposed, ``(…, size, keys)``.
    """

    layer: str
    turned: bool


@dataclass(frozen=True)
class Attention:
    """The layers of a plan that are attention.

    Attributes:
        sums: MatMuls of weights from a Softmax with values.
        scores: MatMuls of queries with keys, which those weights come from.
    """

    sums: frozenset[str] = frozenset()
    scores: frozenset[str] = frozenset()

    @property
    def layers(self) -> frozenset[str]:
        """All of them."""
        return self.sums | self.scores


def weighted_sums(view: GraphView, plan: QuantizationPlan) -> list[WeightedSum]:
    """Return the layers of a plan that sum values with weights from a Softmax, in order; none of those in bodies."""
    found: list[WeightedSum] = []
    for layer in plan.layers:
        if len(layer.activations) < 2 or layer.name in view.inside:
            continue
        source = view.inputs[layer.name][0]
        while view.types[source.node] in SELECTING:
            source = view.inputs[source.node][0]
        attributes = view.attributes(layer.name)
        if view.types[source.node] == "Softmax" and not attributes["transpose_a"]:
            found.append(WeightedSum(layer.name, bool(attributes["transpose_b"])))
    return found


def attention_in(view: GraphView, plan: QuantizationPlan) -> Attention:
    """Return the layers of a plan that are attention."""
    sums = frozenset(one.layer for one in weighted_sums(view, plan))
    planned, found = {layer.name for layer in plan.layers}, set[str]()
    waiting, seen = [view.inputs[name][0] for name in sorted(sums)], set[str]()
    for tensor in waiting:
        kind = view.types[tensor.node]
        if kind == "MatMul" and tensor.node in planned:
            found.add(tensor.node)
        elif kind in CARRYING | SELECTING | {"Softmax"} and tensor.node not in seen:
            seen.add(tensor.node)
            waiting += view.inputs[tensor.node]
    return Attention(sums, frozenset(found))


def tapped(model: ov.Model, sums: Sequence[WeightedSum], rows: int = 64) -> ov.Model:
    """Return a model whose outputs are weights and values of each sum, in turn.

    Args:
        model: Floating-point network.
        sums: Sums in it.
        rows: Number of rows of weights to return of each matrix, evenly spread; of unknown lengths, all.
    """
    clone = clone_model(model)
    nodes = {node.get_friendly_name(): node for node in clone.get_ordered_ops()}
    results: list[ov.Node] = []
    for one in sums:
        weights, values = nodes[one.layer].input_values()
        length = weights.get_partial_shape()[-2]
        step = -(-length.get_length() // rows) if length.is_static else 1
        ends = (op.constant(np.array([end])) for end in (0, np.iinfo(np.int64).max, step, -2))
        results += [op.result(op.slice(weights, *ends)), op.result(values)]
    return make_model(results, clone.get_parameters(), clone.get_sinks(), clone.get_friendly_name())
