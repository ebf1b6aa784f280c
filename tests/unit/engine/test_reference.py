"""The normalized model computes what the file does: a transformation that changes the function is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from building import Net, ints, op
from cpu_features import EXACT_INT8
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from trust_fixtures.tiny import convnet, images

from calib import compare, quantize
from calib.engine.prepare import prepare
from calib.engine.reference import check_reference
from calib.errors import ModelError
from calib.loading import attention_apart, normalize
from calib.runtime.session import Session, ov
from calib.values.sqnr import decibel, squared_error

LEFT_OUT = "OpenVINO's transformations change what this model computes"


def attend(x: Any) -> Any:
    """Return attention between the channels of an image, added to it."""
    flat = op.reshape(x, ints(0, 0, -1), True)
    mixed = op.matmul(op.softmax(op.matmul(flat, flat, False, True), -1), flat, False, False)
    return op.add(op.reshape(mixed, op.shape_of(x), False), x)


def channel_attention(blocks: int = 1) -> ov.Model:
    """Return convolution and factor, attention between channels, convolution and factor."""
    net = Net()
    x = op.multiply(net.conv(net.input(1, 3, 12, 10), 8), op.constant(np.full((1, 8, 1, 1), 0.2, np.float32)))
    for _ in range(blocks):
        x = attend(x)
    return net.model(op.multiply(net.conv(x, 8), net.weights(1, 8, 1, 1)))


def samples(count: int, *shape: int) -> list[NDArray[np.float32]]:
    return list(np.random.default_rng(0).normal(0, 0.3, (count, *shape)).astype(np.float32))


def types(model: ov.Model) -> list[str]:
    return [node.get_type_name() for node in model.get_ordered_ops()]


def sqnr(model: ov.Model, other: ov.Model, feeds: Any) -> float:
    pairs = [
        (x, y)
        for [x], [y] in zip(*(Session(one).each([feed[None]] for feed in feeds) for one in (model, other)), strict=True)
    ]
    energies = np.sum([squared_error(a, b) for a, b in pairs], axis=0)
    return decibel(*energies.tolist())


@pytest.mark.parametrize("blocks", [1, 2])
def test_attention_between_channels_keeps_its_function(blocks: int):
    model, feeds = channel_attention(blocks), samples(16, 3, 12, 10)
    job = prepare(model, feeds, flags={})
    assert "ScaledDotProductAttention" not in types(job.loaded.model)
    result = quantize(model, feeds)
    found = sqnr(model, result.model, feeds)
    assert result.report.output_sqnr is not None
    (stated,) = (part.written_db for part in result.report.output_sqnr.parts.values())
    assert found > 20 and abs(found - stated) < 3
    assert not any(LEFT_OUT in warning for warning in result.report.warnings)


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_transformation_that_changes_the_function_is_left_out_where_it_does_and_said(monkeypatch, blocks: int):
    monkeypatch.setattr(
        attention_apart, "_flattened", lambda softmax: False
    )  # the rule that knows this fault beforehand
    job = prepare(channel_attention(blocks), samples(16, 3, 12, 10), flags={})
    assert types(job.loaded.model).count("ScaledDotProductAttention") == blocks
    checked = check_reference(job)
    kept = types(checked.loaded.model)
    assert (kept.count("Reshape"), kept.count("Multiply")) == (blocks * 2, 0)  # the factors are fused all the same
    assert sqnr(job.reference, checked.loaded.model, samples(4, 3, 12, 10)) > 80
    assert checked.view is not job.view and checked.view.nodes.keys() == {
        node.get_friendly_name() for node in checked.loaded.model.get_ordered_ops()
    }
    (warning,) = (text for text in checked.warnings if LEFT_OUT in text)
    assert "They were left out at 'Reshape_0' (Reshape)" in warning and f"removed {blocks * 2} Reshape" in warning
    assert warning in checked.loaded.facts.normalization


def spoil(change: Callable[[Any], Any]) -> Callable[[ov.Model], None]:
    """Return a transformation that changes every output."""

    def transform(model: ov.Model) -> None:
        for result in model.get_results():
            tensor = result.input_value(0)
            names = tensor.get_names()
            changed = change(tensor).output(0)
            tensor.get_tensor().set_names(set())
            changed.get_tensor().set_names(names)
            result.input(0).replace_source_output(changed)

    return transform


def test_where_no_isolation_helps_no_transformation_is_run(monkeypatch):
    monkeypatch.setattr(normalize, "apply_common_transformations", spoil(lambda x: op.add(x, np.float32(1))))
    result = quantize(convnet(), list(images(8)), effort="fast")
    assert any(LEFT_OUT in warning and "All of them" in warning for warning in result.report.warnings)
    assert sqnr(convnet(), result.model, images(8)) > 20


def test_a_transformation_that_only_reorders_sums_is_kept(monkeypatch):
    monkeypatch.setattr(normalize, "apply_common_transformations", spoil(lambda x: op.multiply(x, np.float32(1.001))))
    job = prepare(convnet(), list(images(8)), flags={})
    assert check_reference(job) is job


def test_a_model_that_normalization_did_not_change_is_not_run(monkeypatch):
    net = Net()
    model = net.model(op.relu(net.conv(net.input(1, 3, 8, 8), 4)))
    job = prepare(model, list(images(8)), flags={})
    monkeypatch.setattr("calib.engine.reference.Session", None)
    assert job.reference is job.loaded.model and check_reference(job) is job


def test_a_model_whose_own_runs_differ_is_kept_as_it_is_and_said(monkeypatch):
    job = prepare(channel_attention(), samples(4, 3, 12, 10), flags={})
    rng = np.random.default_rng(0)
    monkeypatch.setattr("calib.engine.reference.outputs_of", lambda model, feeds: [[rng.random(8)] for _ in feeds])
    monkeypatch.setattr("calib.engine.reference._left_out", None)
    checked = check_reference(job)
    assert checked.loaded is job.loaded
    assert "two runs of the FP32 model on the same samples give different outputs" in checked.warnings[-1]


def test_a_form_that_does_not_compile_is_left_out_too(monkeypatch):
    monkeypatch.setattr(normalize, "apply_common_transformations", spoil(_refused))
    job = prepare(convnet(), list(images(8)), flags={})
    checked = check_reference(job)
    assert checked.loaded.model is not job.loaded.model
    Session(checked.loaded.model)


def _refused(tensor: Any) -> Any:
    class Unknown(ov.Op):
        """An operation that no plug-in knows."""

        def __init__(self, inputs: Any = None):
            super().__init__(self, inputs)

        def validate_and_infer_types(self) -> None:
            self.set_output_type(0, self.get_input_element_type(0), self.get_input_partial_shape(0))

        def clone_with_new_inputs(self, new_inputs: Any) -> Any:
            return Unknown(new_inputs)

    return Unknown([tensor])


def test_compare_says_what_was_left_out(monkeypatch):
    monkeypatch.setattr(attention_apart, "_flattened", lambda softmax: False)
    feeds = samples(4, 3, 12, 10)
    found = compare(channel_attention(), quantize(channel_attention(), feeds, effort="fast").model, feeds)
    assert any(LEFT_OUT in note for note in found.notes)
    assert min(found.output_sqnr_db.values()) > 15


@pytest.fixture
def onnx_file(tmp_path):
    """A convolution of an RGB image, whose weights tell the colours apart."""
    weights = np.arange(1, 109, dtype=np.float32).reshape(4, 3, 3, 3) / 100
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6])],
        [numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_onnxruntime_is_asked_about_the_file_and_not_about_the_embedded_preprocessing(onnx_file):
    images_ = list(np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8))
    block = {"embed": True, "mean": (1, 2, 3), "scale": 60, "color": "bgr", "layout": "NCHW"}
    job = prepare(onnx_file, images_, flags={"preprocessing": block})
    assert job.reference.inputs[0].get_element_type() == ov.Type.u8
    assert check_reference(job).warnings == ()


def test_onnxruntime_says_whether_the_reader_was_right(onnx_file, monkeypatch):
    job = prepare(onnx_file, samples(4, 3, 8, 8), flags={})
    assert check_reference(job).warnings == ()
    monkeypatch.setattr(
        "calib.engine.reference.outputs_of",
        lambda model, feeds: [[o * 1.01 for o in outputs] for outputs in Session(model).each(feeds)],
    )
    (warning,) = check_reference(job).warnings
    assert "onnxruntime's by 0.01" in warning
    monkeypatch.setattr(
        "calib.engine.reference.outputs_of",
        lambda model, feeds: [[o * 2 for o in outputs] for outputs in Session(model).each(feeds)],
    )
    with pytest.raises(ModelError, match="does not compute what the file says"):
        check_reference(job)


def test_a_reader_is_not_blamed_for_int8_sums_that_saturate(tmp_path):
    """QuantizeLinear, DequantizeLinear and a MatMul run in INT8 here, and in floating point in onnxruntime."""
    weights = {"s": np.float32(1 / 255), "z": np.uint8(0), "w": np.full((64, 8), 127, np.int8), "t": np.float32(0.01)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "t"], ["v"]),
        helper.make_node("MatMul", ["d", "v"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, n]) for name, n in (("x", 64), ("y", 8))]
    kept = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    path = tmp_path / "qdq.onnx"
    graph = helper.make_graph(nodes, "net", ports[:1], ports[1:], kept)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    loud = np.random.default_rng(0).uniform(0.8, 1, (4, 2, 64)).astype(np.float32)
    warnings = check_reference(prepare(path, list(loud), flags={"complete": True}, need_float=False)).warnings
    assert [("with exact sums" in said, "onnxruntime" in said) for said in warnings] == [(True, False)] * (
        not EXACT_INT8
    )
