from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from openvino import opset13 as opset

import calib
from calib.errors import ModelError
from calib.loading.load import load_model
from calib.loading.onnx_check import compare_with_onnxruntime
from calib.runtime.session import Session, ov


@pytest.fixture
def path(tmp_path):
    """``scores = x · w + y`` and its arg max, with two inputs."""
    weights = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("Add", ["p", "y"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4]),
    ]
    outputs = [
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4]),
        helper.make_tensor_value_info("label", TensorProto.INT64, [1, 1]),
    ]
    graph = helper.make_graph(nodes, "net", inputs, outputs, [numpy_helper.from_array(weights, "w")])
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture
def feeds():
    rng = np.random.default_rng(1)
    return [[rng.standard_normal((1, 8)).astype(np.float32), rng.standard_normal((1, 4)).astype(np.float32)]] * 2


def _changed(model, factor):
    """The model with its first output multiplied."""
    clone = model.clone()
    scores = clone.output(0).get_node().input_value(0)
    result = opset.result(opset.multiply(scores, np.float32(factor)))
    result.output(0).get_tensor().set_names({"scores"})
    scores.get_tensor().set_names(set())
    return ov.Model([result, clone.get_results()[1]], clone.get_parameters())


def _compared(path, model, feeds):
    session = Session(model)
    return compare_with_onnxruntime(path, model, feeds, [session(feed) for feed in feeds])


def test_a_faithful_conversion_has_nothing_to_say(path, feeds):
    assert _compared(path, load_model(path).reference, feeds) == []


def test_sums_of_8_bit_products_are_compared_as_exact_ones(tmp_path):
    """On a CPU without VNNI those of onnxruntime saturate unless it is told otherwise."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["real", "scale"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, n]) for name, n in (("x", 24), ("y", 16))]
    weights = numpy_helper.from_array(np.full((24, 16), 127, np.int8), "w")
    graph = helper.make_graph(nodes, "net", ports[:1], ports[1:], [weights])
    path = tmp_path / "integers.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    loud = [[np.random.default_rng(0).uniform(0.8, 1, (4, 24)).astype(np.float32)]]
    assert _compared(path, load_model(path).reference, loud) == []


def test_one_sample_of_four_is_a_warning_and_not_refused(path, feeds):
    """Two boxes of nearly equal scores change places in one sample; what is read wrongly is wrong in all."""
    model = load_model(path).reference
    outputs = list(Session(model).each(feeds * 2))
    outputs[1] = [outputs[1][0] * 2, outputs[1][1]]
    (sentence,) = compare_with_onnxruntime(path, model, feeds * 2, outputs)
    assert "output 'scores' differs from onnxruntime's by 1 (relative)" in sentence


def test_a_small_difference_is_a_warning_that_names_the_output_and_its_size(path, feeds):
    (sentence,) = _compared(path, _changed(load_model(path).model, 1.01), feeds)
    assert "output 'scores' differs from onnxruntime's by 0.01 (relative)" in sentence


def test_a_gross_difference_is_refused(path, feeds):
    with pytest.raises(ModelError, match="output 'scores' of the converted model differs"):
        _compared(path, _changed(load_model(path).model, 2), feeds)


def test_what_onnxruntime_cannot_load_is_said_not_raised(path, feeds):
    model = load_model(path).model
    broken = onnx.load(path)
    broken.graph.node[0].op_type = "NoSuchOperator"
    path.write_bytes(broken.SerializeToString())
    (sentence,) = _compared(path, model, feeds)
    assert sentence.startswith("not compared with onnxruntime")


def test_scores_near_zero_are_not_held_to_more_digits_than_they_have(path, feeds):
    near_zero = [[x * 0, np.full_like(y, 5e-5)] for x, y in feeds]
    model = load_model(path).model
    assert _compared(path, _changed(model, 1.01), near_zero) == []


def test_a_network_without_layers_is_refused_before_anything_runs(tmp_path, monkeypatch):
    def run(*_):
        raise AssertionError("an inference")

    monkeypatch.setattr("calib.engine.reference.compare_with_onnxruntime", run)
    monkeypatch.setattr("calib.engine.evaluation.Session", run)
    monkeypatch.setattr("calib.engine.evaluators.Session", run)
    monkeypatch.setattr("calib.engine.reference.Session", run)
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "net", tensors[:1], tensors[1:])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "net.onnx"
    )
    samples = [np.ones((1, 4), np.float32)] * 2
    with pytest.raises(ModelError, match="nothing to quantize"):
        calib.quantize(tmp_path / "net.onnx", samples, validation=samples, metric="relative-l2")
