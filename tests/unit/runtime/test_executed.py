"""INT8 is what the primitive's name says, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from building import Net, op

from calib.runtime.executed import Executed, Ran, executed_layers, executed_precision
from calib.runtime.session import compile_model, ov


@pytest.mark.parametrize(
    ("primitive", "runtime", "precision"),
    [
        ("brgconv_avx512_core_amx_I8", "u8", "i8"),
        ("jit_gemm_i8", "i8", "i8"),
        ("brgconv_avx512_dw_f32", "i8", "f32"),
        ("brgconv_avx512_bf16", "f32", "bf16"),
        ("jit_avx512_f16", "u8", "f16"),
        ("jit_avx2_u1", "u1", "u1"),
        ("unknown", "f32", "f32"),
        ("unknown", "i8", ""),
        ("", "", ""),
    ],
)
def test_the_primitives_name_decides_and_never_an_integer_run_time_precision(primitive, runtime, precision):
    assert executed_precision(primitive, runtime) == precision


def levels(x: ov.Node, low: float = 0.0) -> ov.Node:
    return op.fake_quantize(x, *[np.float32(v) for v in (low, 2.5, low, 2.5)], 256)


def int8_weights(net: Net, *shape: int) -> ov.Node:
    values = net.rng.integers(-127, 128, shape).astype(np.int8)
    return op.multiply(op.convert(op.constant(values), np.float32), np.float32(0.01))


def deconvolution(net: Net) -> ov.Node:
    x = op.relu(net.input(1, 16, 9, 9))
    window = {"pads_begin": [0, 0], "pads_end": [0, 0], "dilations": [1, 1]}
    return op.convolution_backprop_data(levels(x), int8_weights(net, 16, 16, 4, 4), [4, 4], **window)


def depthwise_3d(net: Net) -> ov.Node:
    x = levels(op.swish(net.input(1, 8, 6, 8, 8)), -0.3)
    return op.group_convolution(x, int8_weights(net, 8, 1, 1, 3, 3, 3), *[[1, 1, 1]] * 4)


def weights_only(net: Net) -> ov.Node:
    return op.matmul(net.input(4, 64), int8_weights(net, 32, 64), False, True)


@pytest.mark.parametrize("build", [deconvolution, depthwise_3d, weights_only])
def test_what_a_layer_ran_in_is_what_its_primitive_says(build):
    """All three report i8 as their run-time precision; measured on AVX2, all three run an f32 primitive."""
    net = Net()
    layer = build(net)
    layer.set_friendly_name("layer")
    node = executed_layers(compile_model(net.model(op.relu(layer))), {"layer": ["relu"]})["layer"]
    assert node.primitive.lower().endswith(node.precision)
    assert node.int8 == (node.precision == "i8")


def node(primitive: str) -> Executed:
    return Executed("layer", "FullyConnected", primitive, executed_precision(primitive, ""), ("layer",))


INT8, FLOAT = node("brgemm_avx512_I8"), node("jit_avx512_f32")


@pytest.mark.parametrize(
    ("one", "two", "int8", "differs", "usual"),
    [
        (INT8, INT8, True, False, INT8),
        (FLOAT, INT8, True, True, INT8),
        (INT8, FLOAT, True, True, FLOAT),
        (FLOAT, FLOAT, False, False, FLOAT),
        (None, INT8, True, True, INT8),
        (INT8, None, True, False, INT8),  # the machine gives one thread only
        (None, None, False, False, None),
    ],
)
def test_a_layer_counts_as_int8_with_one_thread_or_with_two(one, two, int8, differs, usual):
    ran = Ran(one, two)
    assert (ran.int8, ran.differs, ran.usual) == (int8, differs, usual)
