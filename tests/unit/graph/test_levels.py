"""What a model quantizes itself is told in each form a file has it, and what is left is quantized where that is asked.

The forms are those of ONNX (QuantizeLinear with DequantizeLinear, MatMulInteger) and of an IR with FakeQuantize on a
part of its layers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from building import Net, ints, op
from cpu_features import TARGET
from onnx import TensorProto, helper, numpy_helper
from proof import error

from calib import ModelError, inspect, quantize, verify
from calib.graph.levels import INTEGERS, KEPT, own_quantizer
from calib.graph.view import GraphView
from calib.runtime.session import Session, ov, read_model
from calib.values.plan import Scheme, TensorId

RNG = np.random.default_rng(0)


def written(path: Path, nodes: list[Any], shapes: tuple[list[int], list[int]], constants: dict[str, Any]) -> Path:
    """Write an ONNX file with input "x" and output "y"."""
    ends = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s)] for n, s in zip("xy", shapes, strict=True)]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "net", *ends, held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture
def qdq(tmp_path: Path) -> Path:
    """Return a file whose first convolution, "first", has levels for data and weights, and whose second has none."""
    constants = {
        "w": RNG.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8),
        "w_scale": np.full(8, 0.01, np.float32),
        "w_zero": np.zeros(8, np.int8),
        "scale": np.float32(0.04),
        "zero": np.uint8(128),
        "w2": (RNG.standard_normal((8, 8, 3, 3)) / 8).astype(np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wd"], axis=0),
        helper.make_node("Conv", ["d", "wd"], ["first"], pads=[1] * 4),
        helper.make_node("Relu", ["first"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["y"], pads=[1] * 4),
    ]
    return written(tmp_path / "qdq.onnx", nodes, ([1, 3, 12, 12], [1, 8, 12, 12]), constants)


def test_a_layer_between_quantize_and_dequantize_is_said_to_be_in_int8_and_the_other_not(qdq: Path):
    found = inspect(qdq)
    assert found.quantized
    facts = {layer.name: (layer.planned, layer.executed, layer.reason) for layer in found.layers}
    assert facts["first"] == ("int8", "i8", "")
    assert facts["y"] == ("float", "f32", "its input r:0 is not quantized")


def test_products_of_integers_are_said_to_run_in_f32(tmp_path: Path):
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["sums"], name="product"),
        helper.make_node("Cast", ["sums"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["real", "scale"], ["y"]),
    ]
    weights = {"w": RNG.integers(-127, 128, (32, 16)).astype(np.int8)}
    path = written(tmp_path / "integers.onnx", nodes, ([4, 32], [4, 16]), weights)
    found = inspect(path)
    (layer,) = found.layers
    assert found.quantized and (layer.planned, layer.executed, layer.reason) == ("float", "f32", INTEGERS)
    with pytest.raises(ModelError, match="multiplies integers"):
        quantize(path, [np.zeros((4, 32), np.float32)])


def fake(x: Any, low: float, high: float) -> ov.Node:
    ends = (np.float32(low), np.float32(high))
    return op.fake_quantize(x, *ends, *ends, 256)


def with_int8_weights(convolution: ov.Node) -> ov.Node:
    """Replace the weights of a convolution, in place, by INT8 ones as NNCF writes them."""
    source: Any = convolution.input_value(1).get_node()
    scale = np.abs(source.data).max(axis=(1, 2, 3), keepdims=True) / 127
    integers = op.convert(op.constant(np.round(source.data / scale).astype(np.int8)), "f32")
    convolution.input(1).replace_source_output(op.multiply(integers, op.constant(scale)).output(0))
    return convolution


def in_part() -> ov.Model:
    """Return a network with a layer quantized, one in floating point, and two with levels at one input only."""
    net = Net()

    def named(node: ov.Node, name: str) -> ov.Node:
        node.set_friendly_name(name)
        return node

    stem = op.relu(named(net.conv(net.input(1, 3, 12, 12), 16), "stem"))
    levels = named(fake(stem, 0, 4), "levels")
    kept = named(with_int8_weights(net.conv(levels, 16)), "kept")
    bare = named(net.conv(stem, 16), "bare")
    data_only = named(net.conv(levels, 16), "data_only")
    weights_only = named(with_int8_weights(net.conv(op.relu(kept), 16)), "weights_only")
    joined = op.add(op.add(weights_only, bare), data_only)
    return net.model(net.dense(op.reduce_mean(joined, ints(2, 3)), 8))


def samples(count: int, seed: int = 1) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).standard_normal((count, 1, 3, 12, 12)).astype(np.float32))


def test_layers_with_levels_at_one_input_only_are_listed_with_what_is_missing():
    reasons = {layer.name: layer.reason for layer in inspect(in_part()).layers}
    assert reasons["kept"] == ""
    assert reasons["weights_only"] == "its input Relu_1:0 is not quantized"
    assert reasons["data_only"] == "its weights are not quantized"


@pytest.mark.parametrize("effort", ["fast", "balanced"])
def test_the_rest_is_quantized_and_what_is_there_is_kept_where_that_is_asked(effort: str, tmp_path: Path):
    model = in_part()
    result = quantize(model, samples(12), complete=True, effort=effort, target=TARGET, speed=False)
    facts = {layer.name: layer for layer in result.report.layers}
    assert len(facts) == 6 and {layer.executed for layer in facts.values()} == {"i8"}
    assert facts["kept"].reason == KEPT and facts["kept"].planned == "int8"
    made = {node.get_friendly_name(): node for node in result.model.get_ordered_ops()}
    for name in ("bare", "data_only", "kept"):  # one quantizer on the tensor that they share
        assert made[name].input_value(0).get_node().get_friendly_name() == "levels"
    assert {"levels"} == {q.own for q in result.plan.activations if q.own}
    unseen = samples(8, seed=2)
    outputs = [list(Session(one).each([sample] for sample in unseen)) for one in (result.model, model)]
    assert error(*outputs) < 0.05
    result.save(tmp_path)
    (path,) = tmp_path.glob("*.xml")
    assert error(list(Session(read_model(path)).each([sample] for sample in unseen)), outputs[0]) < 1e-6
    assert {(layer.planned, layer.executed) for layer in inspect(path).layers} == {("int8", "i8")}
    again = quantize(model, plan=tmp_path / "plan.json", complete=True)
    assert error(list(Session(again.model).each([sample] for sample in unseen)), outputs[0]) == 0


def test_an_onnx_file_in_two_forms_is_completed_and_verified_without_another_word(qdq: Path, tmp_path: Path):
    with pytest.raises(ModelError, match=r"already quantized.*--complete"):
        quantize(qdq, samples(4))
    result = quantize(qdq, samples(8), complete=True, effort="fast", target=TARGET, speed=False)
    facts = {layer.name: (layer.executed, layer.reason) for layer in result.report.layers}
    assert facts == {"first": ("i8", KEPT), "y": ("i8", "")}
    assert any("quantized in part" in sentence for sentence in result.report.model.normalization)
    unseen = samples(8, seed=2)
    outputs = [list(Session(one).each([sample] for sample in unseen)) for one in (result.model, read_model(qdq))]
    assert error(*outputs) < 0.05
    result.save(tmp_path / "int8")
    found = verify(tmp_path / "int8", speed=False)
    assert found.holds and not found.broken


def test_to_complete_a_model_without_levels_is_to_quantize_it():
    net = Net()
    model = net.model(net.conv(op.relu(net.conv(net.input(1, 3, 12, 12), 8)), 8))
    asked = {"effort": "fast", "target": TARGET, "speed": False}
    plain, completed = (quantize(model, samples(6), complete=complete, **asked) for complete in (False, True))
    assert plain.plan == completed.plan


def test_a_quantizer_of_several_ranges_or_of_other_levels_is_not_read_by_other_layers():
    net = Net()
    x = net.input(1, 3, 12, 12)
    one = op.relu(x)
    one.set_friendly_name("one")
    many = np.array([1, 2, 3], np.float32).reshape(1, 3, 1, 1)
    few = op.fake_quantize(one, np.float32(0), np.float32(1), np.float32(0), np.float32(1), 16)
    model = net.model(op.fake_quantize(one, np.zeros_like(many), many, np.zeros_like(many), many, 256), few)
    assert own_quantizer(GraphView(model), TensorId("one")) is None
    levels = fake(one, -1, 1)
    levels.set_friendly_name("levels")
    found = own_quantizer(GraphView(net.model(levels)), TensorId("one"))
    assert found is not None
    assert (found.node, found.range.low, found.range.high, found.scheme) == ("levels", -1, 1, Scheme.ASYMMETRIC)
