"""Which tensors are never negative, and which can't hold NaN either: what need not be measured of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calib.runtime.session import ov


@dataclass(frozen=True)
class Sign:
    """What is known of a node's outputs.

    Attributes:
        positive: they are never negative.
        clean: they are never negative and never NaN, whatever goes in. They may be infinite.
    """

    positive: bool = False
    clean: bool = False


UNKNOWN = Sign()

# They can't return a negative number, whatever they are given.
_POSITIVE = frozenset(
    {"Relu", "Sigmoid", "Softmax", "Abs", "Exp", "Sqrt", "SoftPlus", "HSigmoid", "ReduceL1", "ReduceL2"}
)
# They return what they are given, or sums and means of it: inputs that are never negative stay so, and no NaN is made
# (a sum of such inputs that overflows is inf, which the maximum shows).
_KEEP_FIRST = frozenset(
    {"MaxPool", "AvgPool", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Split", "VariadicSplit", "Slice"}
    | {"StridedSlice", "ShuffleChannels", "SpaceToDepth", "DepthToSpace", "ReduceMean", "ReduceMax", "ReduceSum"}
)
_KEEP_ALL = frozenset({"Concat", "Add"})


def signs(ordered: Sequence[ov.Node]) -> dict[str, Sign]:
    """Return by friendly name the nodes whose outputs are never negative; ``ordered`` is topological."""
    found: dict[str, Sign] = {}
    for node in ordered:
        sign = _sign(node, node.get_type_name(), found)
        if sign.positive:
            found[node.get_friendly_name()] = sign
    return found


def _sign(node: ov.Node, kind: str, found: dict[str, Sign]) -> Sign:
    if kind in _POSITIVE:
        return Sign(positive=True, clean=kind == "Relu")  # Relu(NaN) is 0 on the CPU
    if kind == "Clamp":
        bounded = node.get_attributes()["min"] >= 0
        return Sign(positive=bounded, clean=bounded)  # Clamp(NaN) is its lower bound
    if kind == "Interpolate":
        # Nearest copies; linear weights are never negative, but 0 · inf is NaN; cubic undershoots.
        mode = str(node.get_attributes().get("mode", "cubic"))
        given = found.get(node.input_value(0).get_node().get_friendly_name(), UNKNOWN)
        return UNKNOWN if "cubic" in mode else Sign(given.positive, given.clean and mode == "nearest")
    if kind in _KEEP_FIRST or kind in _KEEP_ALL:
        count = node.get_input_size() if kind in _KEEP_ALL else 1
        given = [found.get(node.input_value(i).get_node().get_friendly_name(), UNKNOWN) for i in range(count)]
        return Sign(all(sign.positive for sign in given), all(sign.clean for sign in given))
    return UNKNOWN
