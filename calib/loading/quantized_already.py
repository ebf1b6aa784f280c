"""What a model holds of quantization before calib sees it: levels, integer products, compressed weights."""

from __future__ import annotations

from calib.loading.normalize import walk
from calib.runtime.session import ov

_FLOATS = (ov.Type.f32, ov.Type.f16, ov.Type.bf16)
_MULTIPLYING = ("MatMul", "Convolution")
_COMPRESSED = ("i8", "u8", "i4", "u4", "u2", "u3", "u6", "u1", "i2", "nf4", "f8e4m3", "f8e5m2", "f8e8m0", "f4e2m1")


def quantization(model: ov.Model) -> tuple[bool, bool]:
    """Return whether a model is quantized, and whether its weights are compressed."""
    quantized = compressed = False
    for _, nodes in walk(model):
        for node in nodes:
            kind = node.get_type_name()
            if kind in ("FakeQuantize", "FakeConvert"):
                quantized = True
            elif kind in _MULTIPLYING and _of_bytes(node.input_value(0)):
                quantized = True  # MatMulInteger and ConvInteger of ONNX
            elif kind == "Constant" and node.get_output_element_type(0).get_type_name() in _COMPRESSED:
                compressed = compressed or _decompressed(node)
    return quantized, compressed and not quantized


def _of_bytes(tensor: ov.Output) -> bool:
    """Return whether integers are made from 8-bit ones: converted, perhaps less a zero point, perhaps moved."""
    while tensor.get_element_type().is_integral():
        if tensor.get_element_type() in (ov.Type.u8, ov.Type.i8):
            return True
        node = tensor.get_node()
        if node.get_type_name() not in ("Convert", "Subtract", "Reshape", "Transpose"):
            return False
        tensor = node.input_value(0)
    return False


def _decompressed(constant: ov.Node) -> bool:
    """Return whether a constant of integers becomes floating-point weights: Convert, then arithmetic."""
    if len(constant.get_output_partial_shape(0)) < 2:
        return False
    for target in constant.output(0).get_target_inputs():
        convert = target.get_node()
        if convert.get_type_name() == "Convert" and convert.get_output_element_type(0) in _FLOATS:
            readers = {reader.get_node().get_type_name() for reader in convert.output(0).get_target_inputs()}
            if readers & {"Multiply", "Subtract", "MatMul", "Convolution", "GroupConvolution"}:
                return True
    return False
