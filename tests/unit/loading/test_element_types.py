"""A network of another floating-point type computes the same numbers in f32, and keeps the types of its ports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from building import op
from cpu_features import TARGET
from onnx import TensorProto, helper, numpy_helper

from calib import quantize
from calib.errors import ModelError
from calib.loading.inputs import embed
from calib.loading.load import input_specs, load_model, normalized_again
from calib.loading.normalize import walk
from calib.runtime.session import Session, core, ov
from calib.samples.preprocess import Preprocess
from calib.values.sqnr import decibel, squared_error

OTHERS = [ov.Type.f16, ov.Type.f64]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def number(kind: ov.Type, values: np.ndarray) -> ov.Node:
    return ov.op.Constant(ov.Tensor(values.astype(kind.to_dtype())))


def convolution(x: ov.Node, kind: ov.Type, channels: int, out: int, name: str) -> ov.Node:
    weights = number(kind, normal(out, channels, 3, 3) / np.sqrt(4.5 * channels))
    return op.convolution(x, weights, [1, 1], [1, 1], [1, 1], [1, 1], name=name)


def convolutions(kind: ov.Type) -> ov.Model:
    x = op.parameter([1, 3, 12, 12], kind, name="x")
    x.output(0).set_names({"image"})
    middle = op.relu(convolution(op.relu(convolution(x, kind, 3, 64, "first")), kind, 64, 64, "second"))
    last = convolution(middle, kind, 64, 8, "third")
    last.output(0).set_names({"scores", "more"})
    return ov.Model([op.result(last, name="out")], [x], "net")


def with_state(kind: ov.Type) -> ov.Model:
    x = op.parameter([1, 4], kind, name="x")
    state = op.read_value(number(kind, np.zeros((1, 4))), "state", kind, ov.PartialShape([1, 4]))
    total = op.add(op.matmul(x, number(kind, normal(4, 4)), False, False), state)
    return ov.Model([op.result(total), op.result(x)], [op.assign(total, "state")], [x], "net")


def loop(kind: ov.Type) -> ov.Model:
    x, carried, index = op.parameter([1, 4], kind), op.parameter([1, 4], kind), op.parameter([], np.int64)
    product = op.result(op.matmul(carried, number(kind, normal(4, 4)), False, False))
    goes_on = op.result(op.constant(np.array(True)))
    found = op.loop(op.constant(np.int64(3)), op.constant(np.array(True)))
    found.set_function(ov.Model([goes_on, product], [index, carried], "body"))
    found.set_special_body_ports([0, 0])
    found.set_merged_input(carried, x.output(0), product.output(0))
    return ov.Model([op.result(found.get_iter_value(product.output(0), -1))], [x], "net")


def iterator(kind: ov.Type) -> ov.Model:
    x, slice_, carried = op.parameter([1, 5, 4], kind), op.parameter([1, 1, 4], kind), op.parameter([1, 1, 4], kind)
    total = op.result(op.add(op.matmul(slice_, number(kind, normal(4, 4)), False, False), carried))
    found = op.tensor_iterator()
    found.set_body(ov.Model([total], [slice_, carried], "body"))
    found.set_sliced_input(slice_, x.output(0), 0, 1, 1, -1, 1)
    found.set_merged_input(carried, number(kind, np.zeros((1, 1, 4))).output(0), total.output(0))
    return ov.Model([op.result(found.get_concatenated_slices(total.output(0), 0, 1, 1, -1, 1))], [x], "net")


def branch(kind: ov.Type) -> ov.Model:
    x, bodies = op.parameter([1, 4], kind), []
    for seed in (1, 2):
        inner = op.parameter([1, 4], kind)
        result = op.result(op.matmul(inner, number(kind, normal(4, 4, seed=seed)), False, False))
        bodies.append((ov.Model([result], [inner], "body"), inner, result))
    condition = op.greater(op.reduce_sum(x, np.array([0, 1])), number(kind, np.array(0)))
    found = op.if_op(condition.output(0))
    found.set_then_body(bodies[0][0])
    found.set_else_body(bodies[1][0])
    found.set_input(x.output(0), bodies[0][1], bodies[1][1])
    return ov.Model([op.result(found.set_output(bodies[0][2], bodies[1][2]))], [x], "net")


def stated_types(kind: ov.Type) -> ov.Model:
    """Return a network of operations that state their type and do not take it from what they read."""
    name, x = kind.get_type_name(), op.parameter([1, 4], kind, name="x")
    row = op.range(number(kind, np.array(0)), number(kind, np.array(4)), number(kind, np.array(1)), name)
    unit = op.eye(op.constant(4), op.constant(4), op.constant(0), name)
    y = op.add(op.matmul(op.convert(op.convert(x, "i32"), name), unit, False, False), row)
    return ov.Model([op.result(op.convert_like(op.convert(y, "i32"), x))], [x], "net")


NETWORKS = [convolutions, with_state, loop, iterator, branch, stated_types]


def computing(model: ov.Model) -> set[str]:
    """Return the floating-point types of what is no port, no state, no constant and no conversion for these."""
    found = set()
    for _, nodes in walk(model):
        for node in nodes:
            if node.get_type_name() not in ("Parameter", "Result", "ReadValue", "Assign", "Constant", "Convert"):
                found |= {port.get_element_type().get_type_name() for port in node.outputs()}
    return found & {"f16", "bf16", "f32", "f64"}


def ports(model: ov.Model) -> list[tuple[str, ov.Type, set[str]]]:
    both = [*model.inputs, *model.outputs]
    return [(port.get_node().get_friendly_name(), port.get_element_type(), port.get_names()) for port in both]


# The CPU plug-in of OpenVINO 2026.4 can't run a state of f64.
PAIRS = [(build, kind) for build in NETWORKS for kind in OTHERS if (build, kind) != (with_state, ov.Type.f64)]


@pytest.mark.parametrize(("build", "kind"), PAIRS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_the_f32_form_computes_the_same_and_keeps_the_ports(build, kind):
    loaded = load_model(build(kind))
    assert computing(loaded.model) == {"f32"} and kind.get_type_name() in computing(loaded.reference)
    assert ports(loaded.model) == ports(loaded.reference)
    shape = loaded.model.inputs[0].get_shape()
    feeds = [[(3 * normal(*shape, seed=seed)).astype(kind.to_dtype())] for seed in range(4)]
    expected, found = (list(Session(model).each(feeds)) for model in (loaded.reference, loaded.model))
    for before, after in zip(expected, found, strict=True):
        for y, other in zip(before, after, strict=True):
            assert y.dtype == other.dtype and np.array_equal(y, other)
    (said,) = [text for text in loaded.facts.normalization if "were brought to f32" in text]
    assert kind.get_type_name() in said


@pytest.mark.parametrize("kind", [*OTHERS, ov.Type.bf16], ids=str)
def test_a_part_of_another_type_is_brought_to_f32(kind):
    x = op.parameter([1, 3, 12, 12], np.float32, name="x")
    wide = op.convolution(op.convert(x, kind), op.convert(number(ov.Type.f32, normal(8, 3, 3, 3)), kind), *[[1, 1]] * 4)
    loaded = load_model(ov.Model([op.result(op.relu(op.convert(op.relu(wide), "f32")))], [x], "net"))
    assert computing(loaded.model) == {"f32"} and kind.get_type_name() in computing(loaded.reference)
    assert not any(node.get_type_name() == "Convert" for node in loaded.model.get_ops())
    feed = [normal(1, 3, 12, 12).astype(np.float32)]
    assert np.array_equal(Session(loaded.model)(feed)[0], Session(loaded.reference)(feed)[0])


def test_constants_of_bf16_keep_their_values():
    values = np.array([1.5, -3e-5, 2**100], np.float32)  # of numbers that bf16 holds, one in f16 too
    wide = ov.op.Constant(ov.Type.bf16, ov.Shape([3]), values.tolist())
    x = op.parameter([3], np.float32, name="x")
    loaded = load_model(ov.Model([op.result(op.convert(op.multiply(op.convert(x, "bf16"), wide), "f32"))], [x], "net"))
    (constant,) = [node for node in loaded.model.get_ops() if node.get_type_name() == "Constant"]
    assert constant.data.tolist() == wide.get_data(dtype=np.float32).tolist()


def test_weights_stored_in_half_of_a_network_that_computes_in_f32_are_nothing_to_bring(tmp_path):
    x = op.parameter([1, 8], np.float32, name="x")
    weights = op.convert(number(ov.Type.f16, normal(8, 4)), "f32")
    loaded = load_model(ov.Model([op.result(op.matmul(x, weights, False, False))], [x], "net"))
    assert not any("brought to f32" in text for text in loaded.facts.normalization)


def test_without_the_common_transformations_types_are_brought_to_f32_all_the_same():
    plain = normalized_again(load_model(convolutions(ov.Type.f16)), None)
    assert computing(plain.model) == {"f32"} and len(plain.fp16_stored) == 3


@pytest.mark.parametrize("kind", OTHERS, ids=str)
def test_all_layers_run_in_int8_and_a_float_layer_keeps_half_weights_in_the_file(kind, tmp_path: Path):
    model, dtype = convolutions(kind), kind.to_dtype()
    feeds = [normal(1, 3, 12, 12, seed=seed).astype(dtype) for seed in range(12)]
    whole = quantize(model, feeds, effort="fast", speed=False, target=TARGET)
    assert [layer.executed for layer in whole.report.layers] == ["i8"] * 3
    pairs = [
        (x, y)
        for [x], [y] in zip(*(Session(one).each([feed] for feed in feeds) for one in (model, whole.model)), strict=True)
    ]
    errors = np.sum([squared_error(*pair) for pair in pairs], axis=0)
    assert decibel(*errors) > 30  # 8 bits for three layers: 36 dB with sums that do not saturate
    part = quantize(model, feeds, effort="fast", speed=False, target=TARGET, ignore=["second"])
    part.save(tmp_path / "out")
    written = core().read_model(tmp_path / "out" / "net.xml")
    assert ports(written) == ports(load_model(model).reference)
    big = [
        n for n in written.get_ops() if n.get_type_name() == "Constant" and n.get_shape() == ov.Shape([64, 64, 3, 3])
    ]
    assert [node.get_element_type() for node in big] == [ov.Type.f16 if kind == ov.Type.f16 else ov.Type.f32]
    assert np.array_equal(Session(written)(feeds[:1])[0], Session(part.model)(feeds[:1])[0])


def test_preprocessing_embedded_in_a_network_of_half_precision_leaves_its_first_layer_in_int8(tmp_path: Path):
    model = convolutions(ov.Type.f16)
    images = [np.random.default_rng(seed).integers(0, 256, (1, 12, 12, 3), np.uint8) for seed in range(12)]
    asked = ["preprocessing.embed=true", "preprocessing.mean=[120]", "preprocessing.scale=[60]"]
    found = quantize(model, images, effort="fast", speed=False, target=TARGET, sets=asked)
    assert [layer.executed for layer in found.report.layers] == ["i8"] * 3
    assert [port.get_element_type() for port in (*found.model.inputs, *found.model.outputs)] == [
        ov.Type.u8,
        ov.Type.f16,
    ]
    whole = embed(model, Preprocess(mean=(120.0,), scale=(60.0,)), input_specs(model)[0]).model
    pairs = [
        (x, y)
        for [x], [y] in zip(
            *(Session(one).each([image] for image in images) for one in (whole, found.model)), strict=True
        )
    ]
    assert decibel(*np.sum([squared_error(*pair) for pair in pairs], axis=0)) > 30


@pytest.mark.parametrize("port", [TensorProto.FLOAT, TensorProto.FLOAT16], ids=["f32", "f16"])
def test_an_onnx_file_made_by_a_half_precision_converter_is_quantized(port, tmp_path: Path):
    shapes, names = {"first": (8, 3, 3, 3), "second": (8, 8, 3, 3)}, ("x16", "y16")
    nodes = [
        helper.make_node("Conv", ["x16", "first"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["y16"], pads=[1] * 4),
    ]
    if port == TensorProto.FLOAT:
        casts = [helper.make_node("Cast", [a], [b], to=to) for a, b, to in (("x", "x16", 10), ("y16", "y", 1))]
        nodes, names = [casts[0], *nodes, casts[1]], ("x", "y")
    weights = [numpy_helper.from_array((normal(*shape) / 6).astype(np.float16), name) for name, shape in shapes.items()]
    infos = [
        [helper.make_tensor_value_info(name, port, [1, size, 12, 12])] for name, size in zip(names, (3, 8), strict=True)
    ]
    graph = helper.make_graph(nodes, "half", *infos, weights)
    path = tmp_path / "half.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    dtype = np.float32 if port == TensorProto.FLOAT else np.float16
    feeds = [normal(1, 3, 12, 12, seed=seed).astype(dtype) for seed in range(12)]
    found = quantize(path, feeds, effort="fast", speed=False, target=TARGET)
    assert [layer.executed for layer in found.report.layers] == ["i8"] * 2
    assert {p.get_element_type().to_dtype() for p in (*found.model.inputs, *found.model.outputs)} == {np.dtype(dtype)}
    reference = core().read_model(path)
    pairs = [
        (x, y)
        for [x], [y] in zip(
            *(Session(one).each([feed] for feed in feeds) for one in (reference, found.model)), strict=True
        )
    ]
    assert decibel(*np.sum([squared_error(*pair) for pair in pairs], axis=0)) > 30
    assert not any("onnxruntime" in text for text in found.report.warnings)


@pytest.mark.parametrize("side", ["image", "scores"])
def test_inputs_and_outputs_of_bf16_are_refused_with_the_way_out(side):
    """numpy would take their bits for those of f16: other numbers, without a word."""
    x = op.parameter([1, 3, 12, 12], ov.Type.bf16 if side == "image" else ov.Type.f32, name="x")
    x.output(0).set_names({"image"})
    y = op.relu(convolution(op.convert(x, "f32"), ov.Type.f32, 3, 8, "first"))
    last = op.convert(y, "bf16" if side == "scores" else "f32")
    last.output(0).set_names({"scores"})
    with pytest.raises(ModelError, match=f"{side!r} is bf16.*PrePostProcessor"):
        quantize(ov.Model([op.result(last)], [x], "net"), [normal(1, 3, 12, 12)] * 8)
