"""Find layers that compute the same: OpenVINO executes one of them, and the others are nowhere in what it ran."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from calib.graph.operations import BODIES
from calib.runtime.session import attributes_of, ov, values_of

# What they give depends on more than inputs and attributes, so none equals another.
_OWN = frozenset({"Parameter", "ReadValue", "RandomUniform", "Multinomial", *BODIES})


def twins(model: ov.Model, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return, for each of these nodes, the others of the model that compute the same from the same inputs.

    Two nodes are equal if their types, attributes and inputs are, where Constants are equal by type, shape and bytes.
    """
    alike: dict[bytes, list[str]] = {}
    marks: dict[str, bytes] = {}
    for node in model.get_ordered_ops():
        name = node.get_friendly_name()
        marks[name] = _mark(node, marks)
        alike.setdefault(marks[name], []).append(name)
    return {name: tuple(other for other in alike[marks[name]] if other != name) for name in names if name in marks}


def _mark(node: ov.Node, marks: dict[str, bytes]) -> bytes:
    """Return a hash of what a node computes, from the marks of the nodes before it."""
    kind = node.get_type_name()
    digest = hashlib.sha256(kind.encode())
    if kind == "Constant" and node.get_element_type() != ov.Type.string:  # which has no numbers
        digest.update(f"{node.get_element_type()} {node.get_shape()}".encode())
        digest.update(np.ascontiguousarray(values_of(node)).view(np.uint8).data)
    elif kind in _OWN or not node.get_input_size():
        digest.update(node.get_friendly_name().encode("utf-8", "surrogatepass"))
    else:
        digest.update(str(sorted(attributes_of(node).items(), key=lambda item: item[0])).encode())
    for value in node.input_values():
        digest.update(marks[value.get_node().get_friendly_name()] + str(value.get_index()).encode())
    return digest.digest()
