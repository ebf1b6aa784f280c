"""Normalization keeps names, and attention that is written out.

covers: calib.loading.attention_apart
"""

from __future__ import annotations

import numpy as np
from openvino import opset13 as opset

from calib.loading.normalize import apply_common_transformations, mark, normalize, restore
from calib.runtime.session import compile_model, ov


def _names(model):
    return [node.get_friendly_name() for node in model.get_ordered_ops()]


def test_marking_and_restoring_gives_the_same_names_back():
    x = opset.parameter([1, 4], np.float32, name="x")
    model = ov.Model([opset.result(opset.relu(x, name="a, b"), name="out")], [x])
    before = _names(model)
    origins = mark(model, lambda node: False)
    assert not set(_names(model)) & set(before)
    restore(model, origins)
    assert _names(model) == before


def test_one_name_for_several_operations_goes_to_the_first():
    x = opset.parameter([1, 4], np.float32, name="same")
    model = ov.Model([opset.result(opset.relu(opset.abs(x, name="same"), name="same/1"), name="same")], [x])
    restore(model, mark(model, lambda node: False))
    assert _names(model) == ["same", "same/2", "same/1", "same/3"]


def test_counted_names_become_type_and_rank_and_never_collide_with_a_given_name():
    x = opset.parameter([1, 4], np.float32, name="Relu_0")
    y = opset.relu(x, name="counted")
    model = ov.Model([opset.result(opset.relu(y, name="counted too"), name="out")], [x])
    restore(model, mark(model, lambda node: "counted" in node.get_friendly_name()))
    assert _names(model) == ["Relu_0", "Relu_0/1", "Relu_1", "out"]


def test_a_fused_operation_gets_the_name_of_the_one_of_its_type_that_went_into_it():
    x = opset.parameter([1, 3, 8, 8], np.float32, name="x")
    w = opset.constant(np.ones((4, 3, 3, 3), np.float32), name="weights")
    y = opset.convolution(x, w, [1, 1], [0, 0], [0, 0], [1, 1], name="conv")
    y = opset.multiply(y, opset.constant(np.full((1, 4, 1, 1), 2, np.float32), name="scale"), name="norm")
    model = ov.Model([opset.result(y, name="out")], [x])
    origins = mark(model, lambda node: False)
    apply_common_transformations(model)
    restore(model, origins)
    assert {node.get_type_name(): node.get_friendly_name() for node in model.get_ordered_ops()}["Convolution"] == "conv"


def test_an_lstm_whose_lengths_are_those_of_its_data_is_no_loop():
    """As ONNX's are read: a ShapeOf that the plug-in may not fold makes it a TensorIterator, 2.3 times as slow."""
    rng = np.random.default_rng(0)
    size = 4
    x = opset.parameter([3, 1, size], np.float32, name="x")
    data = opset.transpose(x, np.array([1, 0, 2]))
    shape = opset.shape_of(data)
    batch, length = (opset.gather(shape, np.array([axis]), np.array([0])) for axis in (0, 1))
    zeros = np.zeros((1, 1, size), np.float32)
    w, r = (rng.standard_normal((1, 4 * size, size)).astype(np.float32) for _ in range(2))
    b = np.zeros((1, 4 * size), np.float32)
    y = opset.lstm_sequence(data, zeros, zeros, opset.broadcast(length, batch), w, r, b, size, "forward")
    normalized = normalize(ov.Model([opset.result(y.output(0))], [x])).model
    executed = compile_model(normalized, threads=1).get_runtime_model().get_ordered_ops()
    kinds = {node.get_rt_info()["layerType"].astype(str) for node in executed}
    assert "RNNSeq" in kinds and "TensorIterator" not in kinds
    assert any(node.get_type_name() == "ShapeOf" for node in normalized.get_ordered_ops())  # it can be reshaped
