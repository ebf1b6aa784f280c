"""Compare two models node by node: of two that are the same, it is enough to run one."""

from __future__ import annotations

import numpy as np

from calib.graph.view import PART_OF
from calib.runtime.session import attributes_of, ov, values_of

# What OpenVINO notes on nodes while it reads, transforms or compiles a model, and what no result depends on; and the
# name of the attention that a MatMul was written out of, which no file holds.
_NOTES = frozenset({"can_be_folded", "fused_names_0", "WeightlessCacheAttribute_0", PART_OF})


def same(one: ov.Model, other: ov.Model) -> bool:
    """Say whether two models have the same nodes in the same order, with the same inputs and the same numbers.

    Of nodes with bodies (If, Loop, TensorIterator) that is not known, so models with such nodes are never the same.
    """
    nodes, others = one.get_ordered_ops(), other.get_ordered_ops()
    if len(nodes) != len(others):
        return False
    places = [{node.get_friendly_name(): place for place, node in enumerate(some)} for some in (nodes, others)]
    return all(
        _alike(a, b) and _inputs(a, places[0]) == _inputs(b, places[1]) for a, b in zip(nodes, others, strict=True)
    )


def _alike(one: ov.Node, other: ov.Node) -> bool:
    kind = one.get_type_name()
    if kind != other.get_type_name() or kind in ("If", "Loop", "TensorIterator") or _outputs(one) != _outputs(other):
        return False
    if _notes(one) != _notes(other):
        return False
    if kind == "Constant":
        a, b = values_of(one), values_of(other)
        return a.dtype == b.dtype and np.array_equal(a.reshape(-1).view(np.uint8), b.reshape(-1).view(np.uint8))
    return str(attributes_of(one)) == str(attributes_of(other))


def _outputs(node: ov.Node) -> list[tuple[str, str]]:
    return [(str(y.get_element_type()), str(y.get_partial_shape())) for y in node.outputs()]


def _inputs(node: ov.Node, places: dict[str, int]) -> list[tuple[int, int]]:
    return [(places[value.get_node().get_friendly_name()], value.get_index()) for value in node.input_values()]


def _notes(node: ov.Node) -> set[str]:
    return set(node.get_rt_info().keys()) - _NOTES
