"""Write ScaledDotProductAttention out as MatMuls, which can be layers.

::

    query, key, value ──▶ ScaledDotProductAttention

    query, key ──▶ MatMul ──▶ · scale ──▶ + mask ──▶ Softmax ──▶ MatMul ◀── value

The CPU plug-in writes it out too when it compiles a model without state (``ScaledDotProductAttentionDecomposition`` in
its ``transformation_pipeline.cpp``), so in floating point both forms run as the same kernels.

Source: the specification of ScaledDotProductAttention-13 in OpenVINO's operation sets.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from calib.graph.operations import ATTENTION, MANY_KEYS, Refusal
from calib.graph.view import over_state
from calib.runtime.session import attributes_of, ov

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
