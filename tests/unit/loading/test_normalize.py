"""Normalization keeps names, and attention that is written out.

covers: calib.loading.attention_apart
"""

from __future__ import annotations

import numpy as np
from openvino import opset13 as opset

from calib.loading.normalize import apply_common_transformations, mark, restore
from calib.runtime.session import ov


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
