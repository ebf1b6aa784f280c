"""Convolutional networks: what the plan promises is what OpenVINO runs, and it computes what it says.

covers: calib.graph.insert
"""

from __future__ import annotations

import numpy as np
import pytest
from building import Net, max_pool, nchw, nhwc, op, resize
from cpu_features import EXACT_INT8
from proof import error, prove

from calib.graph.operations import ANY_LAYER
from calib.loading.load import load_model
from calib.runtime.session import ov
from calib.values.plan import Scheme


def resnet():
    net = Net()
    stem = op.relu(net.bias(net.conv(net.input(1, 3, 16, 16), 16)))
    branch = net.bias(net.conv(op.relu(net.bias(net.conv(stem, 16))), 16))
    block = op.relu(op.add(branch, stem))
    down = net.bias(net.conv(op.relu(net.bias(net.conv(block, 32, stride=2))), 32))
    y = op.relu(op.add(down, net.conv(block, 32, kernel=1, stride=2)))
    return net.model(net.dense(op.reduce_mean(y, np.array([2, 3]), False), 10))


def inverted_residual():
    net = Net()
    x = op.clamp(net.bias(net.conv(net.input(1, 3, 16, 16), 16)), 0.0, 6.0)
    y = op.clamp(net.bias(net.conv(x, 32, 1)), 0.0, 6.0)
    y = op.clamp(net.bias(net.depthwise(y)), 0.0, 6.0)
    y = op.add(net.bias(net.conv(y, 16, 1)), x)
    return net.model(op.clamp(net.conv(y, 32, 1), 0.0, 6.0))


def squeeze_excite():
    net = Net()
    x = op.swish(net.bias(net.conv(net.input(1, 3, 16, 16), 16)))
    pooled = op.reduce_mean(x, np.array([2, 3]), True)
    gate = op.sigmoid(net.bias(net.conv(op.relu(net.bias(net.conv(pooled, 8, 1))), 16, 1)))
    return net.model(net.conv(op.multiply(x, gate), 16, 1))


def unet(mode):
    net = Net()
    skip = op.relu(net.conv(net.input(1, 3, 16, 16), 8))
    deep = op.relu(net.conv(max_pool(skip), 16))
    joined = op.concat([skip, resize(deep, 16, mode)], 1)
    return net.model(net.conv(op.relu(net.conv(joined, 8)), 2, 1))


def deconvolution():
    net = Net()
    x = op.relu(net.conv(net.input(1, 8, 8, 8), 8))
    return net.model(net.conv(op.relu(net.deconv(x, 8)), 4))


def grouped_and_dilated():
    net = Net()
    x = op.relu(net.conv(net.input(1, 8, 8, 8), 16, groups=2))
    return net.model(net.conv(op.relu(net.conv(x, 8, dilation=2)), 8, groups=2))


def one_dimension():
    net = Net()
    x = op.relu(net.bias(net.conv(net.input(1, 8, 32), 16)))
    return net.model(net.conv(op.relu(net.depthwise(x)), 8))


def three_dimensions():
    net = Net()
    x = op.relu(net.conv(net.input(1, 4, 8, 8, 8), 8))
    return net.model(net.conv(op.relu(net.depthwise(x)), 8))


def dynamic_shapes():
    net = Net()
    x = op.relu(net.bias(net.conv(net.input(-1, 3, -1, -1), 16)))
    return net.model(net.conv(op.relu(net.depthwise(x)), 8, 1))


def several_inputs():
    net = Net()
    x = op.relu(net.conv(net.input(1, 3, 8, 8), 8))
    y = op.relu(net.conv(net.input(1, 3, 8, 8), 8))
    return net.model(net.conv(op.add(x, y), 4), net.conv(op.concat([x, y], 1), 4))


def shared_weights():
    net = Net()
    x, y, weights = net.input(1, 8, 8, 8), net.input(1, 8, 8, 8), net.weights(8, 8, 3, 3)

    def layer(x):
        return op.relu(op.convolution(x, weights, [1, 1], [1, 1], [1, 1], [1, 1]))

    return net.model(layer(layer(x)), layer(y))


def embedded_preprocessing():
    net = Net()
    model = net.model(net.conv(op.relu(net.conv(net.input(1, 3, 16, 16), 8)), 4))
    steps = ov.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    steps.input().preprocess().convert_element_type(ov.Type.f32).mean([120.0, 110.0, 100.0]).scale([50.0, 55.0, 60.0])
    return steps.build()


def tflite_like():
    net = Net()

    def layer(x, last):
        return op.add(nhwc(last(nchw(x))), net.weights(1, 1, 1, 16, fan_in=10))

    def prelu(x):
        return op.prelu(x, net.weights(1, 1, 16, fan_in=10))

    x = prelu(layer(net.input(1, 16, 16, 3), lambda x: net.conv(x, 16, stride=2)))
    y = layer(layer(x, net.depthwise), lambda x: net.conv(x, 16, 1))
    return net.model(nhwc(net.conv(nchw(prelu(op.add(x, y))), 4)))


NETWORKS = {
    f.__name__: f
    for f in (
        *(resnet, inverted_residual, squeeze_excite, deconvolution, grouped_and_dilated, one_dimension),
        *(three_dimensions, dynamic_shapes, several_inputs, shared_weights, embedded_preprocessing, tflite_like),
    )
} | {"unet": lambda: unet("nearest"), "unet_linear": lambda: unet("linear_onnx")}
COUNTS = {
    "resnet": 7,
    "inverted_residual": 5,
    "squeeze_excite": 4,
    "tflite_like": 4,
    "unet": 4,
    "unet_linear": 4,
    "several_inputs": 4,
    "embedded_preprocessing": 2,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_runs_in_int8_as_planned_and_computes_what_its_simulation_does(name):
    proof = prove(NETWORKS[name]())
    assert not proof.broken
    assert not proof.plan.skipped
    assert len(proof.planned) == COUNTS.get(name, 3)
    assert proof.keeps_the_interface()
    assert proof.computes_what_it_says()
    assert error(proof.int8_outputs, proof.float_outputs) < 0.05


def test_weights_stored_in_half_precision_run_in_int8_all_the_same(tmp_path):
    ov.save_model(inverted_residual(), tmp_path / "model.xml", compress_to_fp16=True)
    loaded = load_model(tmp_path / "model.xml")
    assert loaded.fp16_stored
    proof = prove(tmp_path / "model.xml")
    assert len(proof.planned) == 5
    assert not proof.broken
    assert proof.computes_what_it_says()


def test_a_depthwise_input_with_unlike_channels_gets_a_range_for_each_and_runs_in_int8():
    net = Net()
    x = net.input(1, 16, 8, 8)
    scaled = op.multiply(x, op.constant(np.geomspace(0.01, 10, 16).reshape(1, 16, 1, 1).astype(np.float32)))
    proof = prove(net.model(net.depthwise(scaled)))
    (quantizer,) = proof.plan.activations
    assert len(quantizer.channel_ranges) == 16
    assert not proof.broken
    assert proof.computes_what_it_says()


def test_a_quantizer_in_front_of_several_layers_is_one():
    net = Net()
    x = op.relu(net.conv(net.input(1, 8, 8, 8), 8))
    proof = prove(net.model(net.conv(x, 4, 1), net.conv(x, 4, 3), net.conv(max_pool(x), 4, 3)))
    assert len(proof.plan.activations) == 2
    assert not proof.broken


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 1, 1), (3, 2, 1), (4, 2, 1), (5, 2, 2)])
def test_a_deconvolution_of_data_that_is_never_negative_runs_in_int8(kernel, stride, pad):
    net = Net()
    proof = prove(net.model(net.deconv(op.relu(net.input(1, 8, 8, 8)), 8, kernel, stride, pad)))
    assert proof.planned == {"ConvolutionBackpropData_0"}
    assert proof.plan.activations[0].scheme is Scheme.UNSIGNED
    assert not proof.broken
    assert proof.computes_what_it_says()


@pytest.mark.parametrize(
    ("dims", "kernel", "stride", "why"),
    [(2, 4, 4, "its last stride is 4"), (1, 8, 4, "its last stride is 4"), (2, 2, 3, "its kernel [2, 2] is smaller")],
)
def test_a_deconvolution_without_an_int8_primitive_is_left_out_and_says_why(dims, kernel, stride, why):
    net = Net()
    x = op.relu(net.conv(net.input(1, 8, *[8] * dims), 16))
    model = net.model(net.conv(op.relu(net.deconv(x, 16, kernel, stride, 0)), 4))
    proof = prove(model)
    assert proof.planned == {"Convolution_0", "Convolution_1"} and not proof.broken
    assert why in proof.reasons["ConvolutionBackpropData_0"]
    alone = prove(net.model(net.deconv(op.relu(net.inputs[0]), 16, kernel, stride, 0)))
    assert alone.planned and alone.broken and not alone.ran  # nothing else was left, so the plug-in was asked: it is so


def test_a_deconvolution_of_a_long_first_stride_runs_in_int8():
    net = Net()
    x, weights, none = op.relu(net.input(1, 8, 8, 8)), net.weights(8, 8, 4, 4), [0, 0]
    up = op.convolution_backprop_data(x, weights, [4, 2], pads_begin=none, pads_end=none, dilations=[1, 1])
    proof = prove(net.model(up))
    assert proof.planned and not proof.broken and proof.computes_what_it_says()


def video(before):
    net = Net()
    return net.model(op.swish(net.depthwise(before(net.conv(net.input(1, 3, 6, 8, 8), 8, 1)))))


@pytest.mark.parametrize(("before", "scheme"), [(op.relu, Scheme.UNSIGNED), (op.swish, Scheme.SYMMETRIC)])
def test_a_depthwise_3d_convolution_runs_in_int8_for_its_levels_are_never_asymmetric(before, scheme):
    proof = prove(video(before), target="cpu")
    assert len(proof.planned) == 2 and not proof.broken
    assert proof.plan.activations[-1].scheme is scheme
    exact = proof if EXACT_INT8 else prove(video(before), target="cpu-no-vnni")
    assert exact.computes_what_it_says()


def test_a_depthwise_3d_convolution_of_signed_data_stays_in_floating_point_for_cpus_without_vnni():
    proof = prove(video(op.swish), target="cpu-no-vnni")
    assert "halves the weights" in proof.reasons["GroupConvolution_0"] and len(proof.planned) == 1
    assert len(prove(video(op.relu), target="cpu-no-vnni").planned) == 2


def test_a_deconvolution_of_signed_data_stays_in_floating_point_and_says_why():
    net = Net()
    proof = prove(net.model(net.deconv(net.input(1, 8, 8, 8), 8)))
    assert not proof.planned
    assert "its input can be negative" in proof.reasons["ConvolutionBackpropData_0"]


def test_a_grouped_deconvolution_stays_in_floating_point_and_nothing_is_inserted_for_it():
    net = Net()
    x = op.relu(net.conv(net.input(1, 8, 8, 8), 8))
    proof = prove(net.model(net.conv(op.relu(net.deconv(x, 8, groups=2)), 4)))
    assert "no INT8 primitive for grouped deconvolution" in proof.reasons["GroupConvolutionBackpropData_0"]
    assert len(proof.planned) == len(proof.plan.activations) == 2
    assert not proof.broken


def test_weights_that_are_computed_at_run_time_are_left_alone():
    net = Net()
    x, weights = net.input(1, 3, 8, 8), net.input(4, 3, 3, 3)
    proof = prove(net.model(op.convolution(x, weights, [1, 1], [1, 1], [1, 1], [1, 1])))
    assert list(proof.reasons.values()) == [str(ANY_LAYER["computed"])]


NEGATING = {
    "subtrahend": lambda net, y: op.subtract(net.inputs[0], y),
    "negative": lambda net, y: op.negative(y),
    "factor": lambda net, y: op.multiply(y, np.float32(-1)),
    "one channel": lambda net, y: op.multiply(y, op.constant(np.float32([1, 1, 1, -1]).reshape(1, 4, 1, 1))),
}


@pytest.mark.parametrize("how", NEGATING)
def test_a_layer_that_is_negated_behind_a_relu_stays_in_floating_point(how):
    net = Net()
    y = op.relu(net.bias(net.conv(net.input(1, 4, 8, 8), 4)))
    proof = prove(net.model(NEGATING[how](net, y)))
    assert not proof.planned
    assert "OpenVINO 2026.4 computes wrongly" in proof.reasons["Convolution_0"]


def test_a_layer_that_is_negated_without_a_relu_runs_in_int8():
    net = Net()
    proof = prove(net.model(op.negative(net.bias(net.conv(net.input(1, 4, 8, 8), 4)))))
    assert proof.planned
    assert not proof.broken
    assert proof.computes_what_it_says()


@pytest.mark.parametrize(
    ("channels", "width", "left_out"),
    [(16, 8, True), (16, 4, False), (4, 32, True), (6, 32, False), (32, 8, False), (28, 16, True)],
)
def test_a_wide_kernel_over_few_channels_stays_in_floating_point_where_its_row_is_a_multiple_of_64(
    channels, width, left_out
):
    net = Net()
    proof = prove(net.model(net.conv(net.input(1, channels, 48), 8, kernel=width)))
    assert bool(proof.planned) != left_out
    assert proof.computes_what_it_says()
