"""What calib expects of OpenVINO's private transformations, so that a new version that differs is noticed here."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from openvino import opset13 as opset

from calib.loading.normalize import apply_common_transformations
from calib.runtime.session import Session, core, ov


def _histogram(model):
    return Counter(node.get_type_name() for node in model.get_ops())


@pytest.fixture
def onnx_file(tmp_path):
    """A Convolution, BatchNormalization, Clip and Add network: all that a reader leaves unfused."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((4, 3, 3, 3)),
        "g": rng.uniform(0.5, 2, 4),
        "b": rng.standard_normal(4),
        "m": rng.standard_normal(4),
        "v": rng.uniform(0.5, 2, 4),
        "lo": np.array(0.0),
        "hi": np.array(6.0),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "g", "b", "m", "v"], ["n"], name="norm"),
        helper.make_node("Clip", ["n", "lo", "hi"], ["r"], name="clip"),
        helper.make_node("GlobalAveragePool", ["r"], ["y"], name="pool"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_a_model_from_the_reader_gets_the_operations_that_convert_model_gives(onnx_file):
    model = core().read_model(str(onnx_file))
    assert "Clamp" not in _histogram(model) and _histogram(model)["BatchNormInference"] == 1
    apply_common_transformations(model)
    assert _histogram(model) == _histogram(ov.convert_model(str(onnx_file)))
    assert "BatchNormInference" not in _histogram(model)


def test_outputs_tensor_names_and_dynamic_dimensions_stay(onnx_file):
    model = core().read_model(str(onnx_file))
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    before = Session(model)([x])
    apply_common_transformations(model)
    # Fusing a BatchNormalization reorders the rounding of a few f32 products: some ulps.
    np.testing.assert_allclose(Session(model)([x])[0], before[0], rtol=1e-5, atol=1e-6)
    assert model.input(0).get_names() == {"x"} and model.output(0).get_names() == {"y"}
    assert model.input(0).get_partial_shape()[0].is_dynamic


def test_a_normal_model_is_left_as_it_is(onnx_file):
    model = ov.convert_model(str(onnx_file))
    names = [node.get_friendly_name() for node in model.get_ordered_ops()]
    apply_common_transformations(model)
    assert [node.get_friendly_name() for node in model.get_ordered_ops()] == names


def _attention(keys):
    rng = np.random.default_rng(0)
    x = opset.parameter([1, keys, 16], np.float32, name="x")

    def head():
        dense = opset.matmul(x, opset.constant(rng.standard_normal((16, 16), np.float32)), False, True)
        split = opset.reshape(dense, np.array([0, 0, 2, 8]), True)
        return opset.transpose(split, np.array([0, 2, 1, 3]))

    query, key, value = head(), head(), head()
    scores = opset.softmax(opset.multiply(opset.matmul(query, key, False, True), np.float32(0.35)), -1)
    return ov.Model([opset.result(opset.matmul(scores, value, False, False))], [x])


@pytest.mark.parametrize(("keys", "fused"), [(16, True), (64, False)])
def test_attention_is_fused_only_over_few_keys_and_gains_no_output(keys, fused):
    model = _attention(keys)
    apply_common_transformations(model)
    assert ("ScaledDotProductAttention" in _histogram(model)) == fused
    assert ("Softmax" in _histogram(model)) != fused
    assert len(model.outputs) == 1


@pytest.mark.parametrize("element", [ov.Type.f16, ov.Type.bf16])
def test_weights_behind_a_chain_of_reshapes_become_one_constant_that_knows_where_it_came_from(element):
    x = opset.parameter([1, 4, 8, 8], np.float32, name="x")
    w = ov.op.Constant(element, ov.Shape([1, 3, 3, 4]), list(np.arange(36) / 64))
    w.set_friendly_name("half")
    w = opset.transpose(opset.reshape(opset.convert(w, "f32"), [3, 3, 4, 1], False), [2, 3, 0, 1])
    y = opset.group_convolution(x, opset.unsqueeze(w, [1]), [1, 1], [1, 1], [1, 1], [1, 1])
    model = ov.Model([opset.result(y)], [x], "m")
    apply_common_transformations(model)
    assert _histogram(model) == {"Parameter": 1, "Constant": 1, "GroupConvolution": 1, "Result": 1}
    constant = next(node for node in model.get_ops() if node.get_type_name() == "Constant")
    assert constant.get_output_element_type(0) == ov.Type.f32
    assert "half" in constant.get_rt_info()["fused_names_0"].astype(str).split(",")
