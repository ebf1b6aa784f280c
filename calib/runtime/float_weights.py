"""INT8 weights of layers that run in floating point, which OpenVINO 2026.4 does not always compute rightly."""

from __future__ import annotations

import numpy as np

from calib.runtime.session import everywhere, ov, values_of

CONVOLUTIONS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData")


def raced(model: ov.Model) -> bool:
    """Return whether compiling a model for several streams may give wrong weights.

    Without FakeQuantize no low-precision transformations run, and i8 weights of convolutions are converted while the
    graphs of the streams are made at the same time: 14 of 120 compilations of three small networks for two streams gave
    a wrong model, all of whose streams gave the same wrong results. None of 40 did with the weights in floating point.
    """
    nodes = everywhere(model)
    kinds = {node.get_type_name() for node in nodes}
    return "FakeQuantize" not in kinds and not kinds.isdisjoint(CONVOLUTIONS) and any(map(_integers, nodes))


def with_float_weights(model: ov.Model, *, convolutions: bool = False) -> ov.Model:
    """Return a clone with each i8 Constant → Convert → Multiply as one f32 Constant of the same values.

    OpenVINO 2026.4 turns a 1x1 convolution with such weights after a Transpose into a MatMul, whatever the order of
    axes: the numbers are wrong, or shapes don't fit. Low-precision transformations remove the pattern before that.

    Args:
        model: Model, which is not edited.
        convolutions: Whether only weights of convolutions are converted, and those of MatMuls stay as they run.
    """
    clone = model.clone()
    for scaled in everywhere(clone):
        if scaled.get_type_name() != "Multiply" or (convolutions and not _of_convolutions(scaled)):
            continue
        convert, scale = (value.get_node() for value in scaled.input_values())
        if (convert.get_type_name(), scale.get_type_name()) != ("Convert", "Constant"):
            continue
        integers = convert.input_value(0).get_node()
        if _integers(integers):
            folded = ov.op.Constant(values_of(integers).astype(np.float32) * values_of(scale))
            scaled.output(0).replace(folded.output(0))
    return clone


def _integers(node: ov.Node) -> bool:
    return node.get_type_name() == "Constant" and node.get_element_type() == ov.Type.i8


def _of_convolutions(scaled: ov.Node) -> bool:
    """Return whether convolutions alone read a node, perhaps behind a Reshape."""
    readers = [target.get_node() for target in scaled.output(0).get_target_inputs()]
    return bool(readers) and all(
        _of_convolutions(one) if one.get_type_name() == "Reshape" else one.get_type_name() in CONVOLUTIONS
        for one in readers
    )
