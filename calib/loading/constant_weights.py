"""Compute weights that operations make from constants, where OpenVINO's transformations leave that to the plug-in.

::

    Constant ──▶ NormalizeL2 ──▶ Convolution        before: its weights are computed at run time, so it is no layer
    Constant of the normalized values ──▶ Convolution                                                  after

The plug-in runs such operations when it compiles, in the constants' own memory: NormalizeL2 ends the process with
SIGSEGV in OpenVINO 2026.4 if the file is mapped into memory, as it is by default.
"""

from __future__ import annotations

import numpy as np

from calib.graph.layers import LAYERS
from calib.runtime.session import Session, drawing, make_model, ov, values_of

_LEVELS = frozenset({"FakeQuantize", "FakeConvert"})


def weights_to_compute(model: ov.Model) -> list[ov.Output]:
    """Return the tensors of a model, not those in its bodies, that are weights of a layer and made from constants.

    Weights with levels are left as they are: those of a FakeQuantize, and integers that are converted.
    """
    fixed: set[str] = set()
    found: dict[tuple[str, int], ov.Output] = {}
    random = {node.get_friendly_name() for node in drawing(model)}
    for node in model.get_ordered_ops():
        kind, read = node.get_type_name(), node.input_values()
        made = bool(read) and all(value.get_node().get_friendly_name() in fixed for value in read)
        made = made and not (kind in _LEVELS or (kind == "Convert" and read[0].get_element_type().is_integral()))
        if kind == "Constant" or (made and node.get_friendly_name() not in random):
            fixed.add(node.get_friendly_name())
        elif kind in LAYERS:
            for port in LAYERS[kind].weights:
                source = read[port].get_node()
                if source.get_friendly_name() in fixed and source.get_type_name() != "Constant":
                    found[source.get_friendly_name(), read[port].get_index()] = read[port]
    return [one for one in found.values() if one.get_element_type() == ov.Type.f32]


def compute_weights(weights: list[ov.Output]) -> str:
    """Replace weights, in place, by constants of their values, and return a sentence on it.

    Args:
        weights: What :func:`weights_to_compute` found, at least one.
    """
    alone = make_model([ov.opset13.result(one) for one in weights], []).clone()
    for node in alone.get_ordered_ops():
        if node.get_type_name() == "Constant":  # the plug-in would write to the memory of the file
            node.output(0).replace(ov.op.Constant(np.array(values_of(node))).output(0))
    kinds = sorted({one.get_node().get_type_name() for one in weights})
    for one, values in zip(weights, Session(alone)([]), strict=True):
        constant = ov.op.Constant(values)
        constant.set_friendly_name(one.get_node().get_friendly_name())
        one.replace(constant.output(0))
    return f"weights made by {' and '.join(kinds)} from constants were computed: {len(weights)}"
