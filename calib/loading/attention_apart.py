"""Keep attention written as MatMul → Softmax → MatMul in this form while OpenVINO's transformations run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from calib.graph.operations import MANY_KEYS
from calib.graph.view import over_state
from calib.runtime.session import ov


@contextmanager
def attention_apart(model: ov.Model) -> Iterator[None]:
    """Context that keeps attention written as MatMul → Softmax → MatMul from being fused.

    ScaledDotProductAttention has no INT8 primitive; its MatMuls have (BERT-base at 128 tokens: 72.5 against 81.6 ms).
    A layer that stays in floating point is fused by the plug-in when it compiles, so nothing is lost; over keys in a
    state it is not, so that is fused here. Where a Reshape in front makes rows of other tokens, the fusion is wrong,
    see ``_flattened``. It needs a Softmax with one reader, so each gets a second one, which is removed afterwards.
    """
    added = [
        ov.opset13.result(node.output(0))
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Softmax" and _feeds_matmul(node) and (_pays(node) or _flattened(node))
    ]
    model.add_results(added)
    yield
    for result in added:
        model.remove_result(result)


def _pays(softmax: ov.Node) -> bool:
    """Return whether attention has many keys, or may have, and those are in no state of the model."""
    shape = softmax.get_output_partial_shape(0)
    many = shape.rank.is_dynamic or shape[-1].is_dynamic or shape[-1].get_length() >= MANY_KEYS
    products = (reader for reader in _readers(softmax) if reader.get_type_name() == "MatMul")
    return many and not any(over_state(product.input_value(1)) for product in products)


def _feeds_matmul(softmax: ov.Node) -> bool:
    return any(reader.get_type_name() == "MatMul" for reader in _readers(softmax))


def _readers(node: ov.Node) -> list[ov.Node]:
    """Return the operations that read a node, those behind a Reshape in its place."""
    found: list[ov.Node] = []
    for port in node.output(0).get_target_inputs():
        reader = port.get_node()
        found += _readers(reader) if reader.get_type_name() == "Reshape" else [reader]
    return found


def _flattened(softmax: ov.Node) -> bool:
    """Return whether a Reshape that changes the last two axes makes the values that attention sums.

    OpenVINO 2026.4 fuses such attention and then removes the Reshapes around it, if they give back the shape in front
    of them: attention between the channels of an image, Reshape to (1, channels, height · width), becomes attention
    between its rows, which is another function (SDPAReshapeFusion; tests/integration/test_openvino_still.py).
    """
    for reader in _readers(softmax):
        if reader.get_type_name() == "MatMul":
            source = reader.input_value(1).get_node()
            if source.get_type_name() in ("Reshape", "Unsqueeze", "Squeeze"):
                before, after = (port.get_partial_shape() for port in (source.input_value(0), source.output(0)))
                known = before.rank.is_static and after.rank.is_static and min(len(before), len(after)) > 1
                return not known or list(before)[-2:] != list(after)[-2:]
    return False
