"""A file becomes a normalized model with stable names, and is written back as it came.

covers: calib.loading.onnx_file, calib.loading.quantized_already
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache

import numpy as np
import onnx
import pytest
from building import Net, op
from cpu_features import TARGET
from onnx import TensorProto, helper, numpy_helper
from openvino import opset13 as opset

import calib
from calib.errors import ModelError, OutputError, UsageError
from calib.loading.load import input_specs, load_model, require_float, save_model
from calib.loading.normalize import walk
from calib.runtime.session import Session, core, ov


def _weights(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _network(fp16=False):
    """Two convolutions; with unnamed operations, so that OpenVINO counts them."""
    x = opset.parameter([1, 3, 8, 8], np.float32, name="x")
    x.output(0).get_tensor().set_names({"x"})
    y = opset.convolution(x, opset.constant(_weights(8, 3, 3, 3)), [1, 1], [1, 1], [1, 1], [1, 1])
    y = opset.relu(y)
    y = opset.convolution(y, opset.constant(_weights(8, 8, 3, 3)), [1, 1], [1, 1], [1, 1], [1, 1])
    model = ov.Model([opset.result(y)], [x])
    model.set_rt_info("123.5 116 103", ["model_info", "mean_values"])
    return model


@pytest.fixture
def ir(tmp_path):
    path = tmp_path / "net.xml"
    ov.save_model(_network(), str(path), compress_to_fp16=False)
    return path


@pytest.fixture
def fp16_ir(tmp_path):
    path = tmp_path / "half.xml"
    ov.save_model(_network(), str(path), compress_to_fp16=True)
    return path


def _save_onnx(path, external=False):
    """Conv + BatchNormalization + Relu twice, every second node unnamed, and one named as OpenVINO counts."""
    nodes, initializers, last = [], [], "x"
    for i, channels in enumerate((3, 8)):
        values = {
            f"w{i}": _weights(8, channels, 3, 3),
            f"g{i}": np.full(8, 1.5, np.float32),
            f"b{i}": _weights(8),
            f"m{i}": _weights(8, seed=1),
            f"v{i}": np.full(8, 2, np.float32),
        }
        initializers += [numpy_helper.from_array(value, name) for name, value in values.items()]
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], name=f"conv{i}", pads=[1, 1, 1, 1]))
        parts = [f"c{i}", f"g{i}", f"b{i}", f"m{i}", f"v{i}"]
        nodes.append(helper.make_node("BatchNormalization", parts, [f"n{i}"], name=f"Multiply_{i + 8}"))
        nodes.append(helper.make_node("Relu", [f"n{i}"], [f"r{i}"]))
        last = f"r{i}"
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    if external:
        onnx.save(model, path, save_as_external_data=True, location="weights.data", size_threshold=0)
    else:
        onnx.save(model, path)
    return path


def _names(model):
    return [node.get_friendly_name() for _, nodes in walk(model) for node in nodes]


def test_facts_say_what_came(ir):
    loaded = load_model(ir)
    facts = loaded.facts
    assert (facts.name, facts.format, facts.source) == ("net", "ir", str(ir))
    assert len(facts.fingerprint) == 64 and facts.bytes_before == ir.with_suffix(".bin").stat().st_size
    assert [t.model_dump() for t in facts.inputs] == [{"name": "x", "shape": "[1,3,8,8]", "type": "f32"}]
    assert facts.normalization == [] and not loaded.quantized and not loaded.weight_compressed
    assert loaded.rt_info == {"model_info/mean_values": "123.5 116 103"}
    assert facts.preprocessing == ["model_info asks for mean 123.5 116 103"]
    require_float(loaded)
    (spec,) = input_specs(loaded.model)
    assert (spec.name, spec.names, spec.shape, spec.dtype, spec.layout) == ("x", ("x",), (1, 3, 8, 8), np.float32, "")


def test_a_model_in_memory_is_not_edited_and_counted_names_are_replaced():
    first, second = _network(), _network()
    before = _names(first)
    one, two = load_model(first), load_model(second)
    assert _names(first) == before != _names(second)
    assert _names(one.model) == _names(two.model)
    assert one.facts.fingerprint == two.facts.fingerprint and one.facts.format == "memory"
    assert len(set(_names(one.model))) == len(_names(one.model))


def test_names_given_in_memory_are_kept():
    x = opset.parameter([1, 4], np.float32, name="tokens")
    model = ov.Model([opset.result(opset.relu(x, name="activation"))], [x])
    assert {"tokens", "activation"} <= set(_names(load_model(model).model))


def test_inputs_and_results_of_an_onnx_file_keep_the_names_that_convert_model_gives(tmp_path):
    """There are two outputs, and OpenVINO visits their results in another order than the file's."""
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 3, 8, 8]), ("score", None), ("box", None))
    ]
    nodes = [helper.make_node("Conv", ["x", name], [out], name=name) for name, out in (("a", "score"), ("b", "box"))]
    weights = [numpy_helper.from_array(_weights(8, 3, 3, 3, seed=seed), name) for seed, name in enumerate("ab")]
    graph = helper.make_graph(nodes, "net", infos[:1], infos[1:], weights)
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    given = _ports(ov.convert_model(path))
    assert ("score/sink_port_0", {"score"}) in given
    found = calib.quantize(path, [_weights(1, 3, 8, 8, seed=seed) for seed in range(8)], effort="fast", speed=False)
    found.save(tmp_path / "out")
    assert _ports(found.model) == _ports(core().read_model(tmp_path / "out" / "net.xml")) == given
    assert load_model(path).reference.get_friendly_name() == "net"  # messages name it, not "onnx_Frontend_IR"


def _ports(model):
    both = [*model.inputs, *model.outputs]
    return [(port.get_node().get_friendly_name(), port.get_names()) for port in both]


SCRIPT = """
import hashlib, json, pathlib, sys
from calib.loading.load import load_model, save_model
folder, *paths = sys.argv[1:]
found = []
for path in 2 * paths:
    loaded = load_model(path)
    out = pathlib.Path(folder, "out.xml")
    save_model(loaded.model, out, fp16_constants=loaded.fp16_stored, rt_info={"version": "1"})
    names = [node.get_friendly_name() for node in loaded.model.get_ordered_ops()]
    found.append([names] + [hashlib.sha256(p.read_bytes()).hexdigest() for p in (out, out.with_suffix(".bin"))])
print(json.dumps(found))
"""


def test_the_same_file_gives_the_same_names_and_bytes_twice_and_in_two_processes(ir, fp16_ir, tmp_path):
    paths = [str(path) for path in (ir, fp16_ir, _save_onnx(tmp_path / "net.onnx"))]
    runs = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(folder), *paths],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        found = json.loads(done.stdout)
        runs += [found[: len(paths)], found[len(paths) :]]
    assert len(runs) == 4 and all(run == runs[0] for run in runs)
    for names, *_ in runs[0]:
        assert len(set(names)) == len(names)


def test_an_onnx_file_keeps_its_names_and_both_forms_of_it_are_one(tmp_path):
    path = _save_onnx(tmp_path / "net.onnx")
    raw = tmp_path / "raw.xml"
    ov.save_model(core().read_model(str(path)), str(raw), compress_to_fp16=False)
    from_onnx, from_ir = load_model(path), load_model(raw)
    assert {"conv0", "conv1", "x", "w0"} <= set(_names(from_onnx.model))
    assert "brought to the form that ov.convert_model gives" in from_ir.facts.normalization[0]
    kinds = [[node.get_type_name() for node in m.model.get_ordered_ops()] for m in (from_onnx, from_ir)]
    assert kinds[0] == kinds[1] and "BatchNormInference" not in kinds[0]
    x = _weights(1, 3, 8, 8, seed=5)
    expected = Session(core().read_model(str(path)))([x])[0]
    for loaded in (from_onnx, from_ir):
        np.testing.assert_allclose(Session(loaded.model)([x])[0], expected, rtol=1e-4, atol=1e-5)


def test_the_reference_is_the_file_before_any_transformation(tmp_path):
    path = tmp_path / "net.onnx"
    _save_onnx(path)
    loaded = load_model(path)
    types = [[node.get_type_name() for node in model.get_ops()] for model in (loaded.reference, loaded.model)]
    assert types[0].count("BatchNormInference") == 2 and "BatchNormInference" not in types[1]
    names = [[node.get_friendly_name() for node in model.get_ops()] for model in (loaded.reference, loaded.model)]
    assert not any(name.startswith("\x1f") for name in (*names[0], *names[1]))
    again = load_model(path).reference
    assert [node.get_friendly_name() for node in again.get_ops()] == names[0]


def test_a_file_that_is_normal_already_is_its_own_reference(ir, fp16_ir):
    loaded = load_model(ir)
    assert loaded.reference is loaded.model
    half = load_model(fp16_ir)
    assert half.reference is not half.model
    assert [node.get_type_name() for node in half.reference.get_ops()].count("Convert") == 2


def test_a_reference_shares_the_memory_of_its_constants(tmp_path):
    path = tmp_path / "net.onnx"
    _save_onnx(path)
    raw = core().read_model(path)
    loaded = load_model(raw)
    own, read = (
        {node.data.ctypes.data for node in model.get_ops() if node.get_type_name() == "Constant"}
        for model in (loaded.reference, raw)
    )
    assert own == read


def test_half_precision_constants_are_folded_and_stored_in_half_precision_again(fp16_ir, tmp_path):
    loaded = load_model(fp16_ir)
    assert "Convert" not in {node.get_type_name() for node in loaded.model.get_ops()}
    assert len(loaded.fp16_stored) == 2
    out = tmp_path / "out.xml"
    save_model(loaded.model, out, fp16_constants=loaded.fp16_stored)
    assert out.with_suffix(".bin").stat().st_size <= fp16_ir.with_suffix(".bin").stat().st_size
    x = _weights(1, 3, 8, 8, seed=5)
    assert np.array_equal(Session(core().read_model(str(out)))([x])[0], Session(loaded.model)([x])[0])
    again = load_model(out)
    assert again.fp16_stored == loaded.fp16_stored and _names(again.model) == _names(loaded.model)


def test_weights_that_fusing_changed_stay_in_half_precision_where_they_are_large(tmp_path):
    x = opset.parameter([1, 64, 4, 4], np.float32, name="x")
    y = opset.convolution(x, opset.constant(_weights(64, 64, 3, 3) * 0.1), [1, 1], [1, 1], [1, 1], [1, 1])
    y = opset.multiply(y, opset.constant(_weights(1, 64, 1, 1)))
    path = tmp_path / "half.xml"
    ov.save_model(ov.Model([opset.result(y)], [x]), str(path), compress_to_fp16=True)
    loaded = load_model(path)
    assert "rounded to half precision" in loaded.facts.normalization[-1] and len(loaded.fp16_stored) == 1
    out = tmp_path / "out.xml"
    save_model(loaded.model, out, fp16_constants=loaded.fp16_stored)
    assert out.with_suffix(".bin").stat().st_size <= path.with_suffix(".bin").stat().st_size
    feed = [_weights(1, 64, 4, 4, seed=5)]
    got, want = Session(loaded.model)(feed)[0], Session(core().read_model(str(path)))(feed)[0]
    assert np.linalg.norm(got - want) / np.linalg.norm(want) < 2**-11  # half an ulp of f16, averaged over 576 products


def test_int8_weights_are_saved_as_they_are_and_refused_as_input(tmp_path):
    x = opset.parameter([1, 3, 8, 8], np.float32, name="x")
    w = opset.convert(opset.constant(np.ones((4, 3, 3, 3), np.int8)), "f32")
    w = opset.multiply(w, opset.constant(np.full((4, 1, 1, 1), 0.1, np.float32)))
    y = opset.convolution(x, w, [1, 1], [0, 0], [0, 0], [1, 1])
    compressed, out = ov.Model([opset.result(y)], [x]), tmp_path / "i8.xml"
    save_model(compressed, out)
    loaded = load_model(out)
    assert loaded.weight_compressed and not loaded.quantized
    assert out.with_suffix(".bin").stat().st_size < 200
    assert "i8" in {n.get_output_element_type(0).get_type_name() for n in loaded.model.get_ops() if n.get_output_size()}
    with pytest.raises(ModelError, match="compressed to integers already"):
        require_float(loaded)


def test_a_quantized_model_loads_for_inspection_and_is_refused_for_quantization(tmp_path):
    x = opset.parameter([1, 4], np.float32, name="x")
    y = opset.fake_quantize(x, *[np.float32(v) for v in (0, 1, 0, 1)], 256)
    path = tmp_path / "q.xml"
    save_model(ov.Model([opset.result(y)], [x]), path)
    loaded = load_model(path)
    assert loaded.quantized
    with pytest.raises(ModelError, match="already quantized"):
        require_float(loaded)


def test_names_in_the_bodies_of_an_if_are_unique_and_say_in_which():
    x, flag = opset.parameter([1, 4], np.float32, name="x"), opset.parameter([], np.bool_, name="flag")
    inner = [opset.parameter([1, 4], np.float32) for _ in range(2)]
    bodies = [ov.Model([op(p)], [p]) for op, p in zip((opset.relu, opset.sigmoid), inner, strict=True)]
    node = opset.if_op(flag)
    node.set_then_body(bodies[0])
    node.set_else_body(bodies[1])
    node.set_input(x.output(0), inner[0], inner[1])
    y = node.set_output(bodies[0].results[0], bodies[1].results[0])
    loaded = load_model(ov.Model([opset.result(y)], [x, flag]))
    names = _names(loaded.model)
    assert len(names) == 10 and len(set(names)) == 10
    assert {"If_0/then/Relu_0", "If_0/else/Sigmoid_0"} <= set(names)
    assert set(_names(load_model(loaded.model).model)) == set(names)  # and not twice, where it is read again


def test_a_folder_with_one_model_is_that_model(ir):
    assert load_model(ir.parent).path == ir


def test_paths_that_are_no_model_are_refused_with_the_way_out(ir, tmp_path):
    other = tmp_path / "b.xml"
    other.write_bytes(ir.read_bytes())
    with pytest.raises(ModelError, match=r"2 models: b\.xml, net\.xml\. Name one"):
        load_model(tmp_path)
    with pytest.raises(ModelError, match="no such file"):
        load_model(tmp_path / "missing.xml")
    with pytest.raises(UsageError, match="there is no model: it is None"):
        load_model(None)
    with pytest.raises(UsageError, match="its path is empty"):
        load_model("")
    with pytest.raises(ModelError, match=r"Give the \.xml next to it"):
        load_model(ir.with_suffix(".bin"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match=r"holds no \.xml, \.onnx, .* or \.pdmodel file"):
        load_model(empty)


def test_onnx_files_that_are_damaged_or_reach_outside_are_refused(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"")
    with pytest.raises(ModelError, match="empty file"):
        load_model(path)
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(ModelError, match="no ONNX model"):
        load_model(path)
    _save_onnx(path, external=True)
    assert load_model(path).facts.bytes_before > (tmp_path / "weights.data").stat().st_size
    data = tmp_path / "weights.data"
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(ModelError, match="truncated"):
        load_model(path)
    data.unlink()
    with pytest.raises(ModelError, match=r"weights\.data: not found"):
        load_model(path)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "../../etc/passwd"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="own folder"):
        load_model(path)


def test_an_enormous_tensor_is_refused_before_anything_is_computed():
    x = opset.parameter([1, 1], np.float32, name="x")
    y = opset.broadcast(x, opset.constant(np.array([1 << 30, 1 << 30], np.int64)), name="bomb")
    with pytest.raises(ModelError, match=r"'bomb' has an output of shape \[1073741824,1073741824\]"):
        load_model(ov.Model([opset.result(y)], [x]))


def test_a_failed_write_leaves_nothing_behind_and_keeps_what_was_there(ir, tmp_path):
    resource = pytest.importorskip("resource")
    loaded = load_model(ir)
    folder = tmp_path / "out"
    folder.mkdir()
    out = folder / "net.xml"
    save_model(loaded.model, out)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for limit in (1000, 2500):  # in the middle of the .bin, and of the .xml
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
            with pytest.raises(OutputError, match=r"net\.xml: the model can't be written"):
                save_model(loaded.model, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    with pytest.raises(OutputError, match="does not exist"):
        save_model(loaded.model, tmp_path / "nowhere" / "net.xml")


def test_settings_and_fingerprint_travel_with_the_file(ir, tmp_path):
    loaded = load_model(ir)
    out = tmp_path / "out.xml"
    save_model(loaded.model, out, rt_info={"version": "1.0", "input": loaded.facts.fingerprint})
    assert load_model(out).rt_info == {
        "calib/input": loaded.facts.fingerprint,
        "calib/version": "1.0",
        "model_info/mean_values": "123.5 116 103",
    }
    assert not loaded.model.has_rt_info(["calib"])


class Twice(ov.Op):
    """An operation of the user's own, in Python."""

    def __init__(self, inputs=None):
        super().__init__(self, inputs) if inputs is not None else super().__init__(self)

    def validate_and_infer_types(self):
        self.set_output_type(0, self.get_input_element_type(0), self.get_input_partial_shape(0))

    def clone_with_new_inputs(self, inputs):
        return Twice(inputs)

    def has_evaluate(self):
        return True

    def evaluate(self, outputs, inputs):
        outputs[0].data[:] = 2 * inputs[0].data
        return True

    def visit_attributes(self, visitor):
        return True


def with_own_operation() -> ov.Model:
    net = Net()
    return net.model(net.conv(Twice([op.relu(net.conv(net.input(1, 3, 8, 8), 8)).output(0)]), 4))


def test_a_file_with_an_operation_of_an_extension_says_how_to_give_it(tmp_path, monkeypatch):
    monkeypatch.setattr("calib.runtime.session.core", cache(ov.Core))  # which has no extension
    ov.save_model(with_own_operation(), tmp_path / "model.xml")
    with pytest.raises(ModelError, match="an operation of your own, give its library: --extension LIBRARY"):
        load_model(tmp_path / "model.xml")


def test_a_model_with_an_operation_of_the_users_own_is_quantized_and_saved(tmp_path):
    samples = list(np.random.default_rng(0).standard_normal((10, 1, 3, 8, 8)).astype(np.float32))
    found = calib.quantize(with_own_operation(), samples, speed=False, target=TARGET)
    report = found.save(tmp_path / "out")
    assert [layer.executed for layer in report.layers] == ["i8", "i8"]
    assert min(report.output_sqnr_db.values()) > 20
