"""What is listed of a model, what of it executes in INT8 with one thread and with two, and what is taken out.

covers: calib.graph.twins
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from building import Net, op
from cpu_features import TARGET

from calib import inspect, quantize
from calib.engine import building
from calib.engine.building import aliases, for_two_threads, listed
from calib.errors import UsageError
from calib.graph.twins import twins
from calib.graph.view import GraphView
from calib.loading.load import Loaded, load_model
from calib.runtime.executed import Executed, Ran, executed_precision
from calib.runtime.session import Session, compile_model, core, ov
from calib.values.plan import QuantizableNode, QuantizationPlan


def loaded(*, quantized: bool = False, weights: bool = False, compressed: bool = False) -> Loaded:
    """Return a model of a convolution "first" and a MatMul "last"; levels are in front of the first alone.

    Args:
        quantized: Whether the data that the convolution reads have levels.
        weights: Whether its weights have levels too.
        compressed: Whether the weights of the MatMul are integers.
    """
    net = Net()
    x = net.input(1, 3, 8, 8)
    if quantized:
        x = op.fake_quantize(x, *[np.float32(v) for v in (0, 1, 0, 1)], 256)
    y = net.conv(x, 8)
    y.set_friendly_name("first")
    if weights:
        levels = op.fake_quantize(y.input_value(1), *[np.float32(v) for v in (-1, 1, -1, 1)], 255)
        y.input(1).replace_source_output(levels.output(0))
    factor = net.weights(8, 5)
    if compressed:
        stored = op.convert(op.constant(np.arange(40, dtype=np.int8).reshape(8, 5)), np.float32)
        factor = op.multiply(stored, np.float32(0.1))
    z = op.matmul(op.reduce_mean(op.relu(y), np.array([2, 3])), factor, False, False)
    z.set_friendly_name("last")
    return load_model(net.model(z))


@pytest.mark.parametrize(
    ("model", "layers", "skipped"),
    [
        (loaded(), ["first", "last"], []),
        (loaded(quantized=True), [], ["first", "last"]),  # the weights of the first have no levels
        (loaded(quantized=True, weights=True), ["first"], ["last"]),
        (loaded(compressed=True), [], ["first", "last"]),
    ],
    ids=["floating point", "data quantized", "quantized", "compressed"],
)
def test_a_layer_is_listed_as_quantized_where_it_is_or_would_be(model: Loaded, layers: list[str], skipped: list[str]):
    view = GraphView(model.model)
    plan = listed(model, view)
    assert [layer.name for layer in plan.layers] == layers and [layer.name for layer in plan.skipped] == skipped
    assert not plan.activations and not plan.weights
    assert set(aliases(view, plan)) == {"first", "last"}


def test_what_is_ignored_is_listed_as_left_out_of_a_model_in_floating_point():
    model = loaded()
    plan = listed(model, GraphView(model.model), ["first"])
    assert [layer.name for layer in plan.layers] == ["last"] and plan.skipped[0].reason == "ignored by 'first'"
    with pytest.raises(UsageError, match="'other' matches none"):
        listed(model, GraphView(model.model), ["other"])


def sample_of(*shape: int, count: int = 10) -> list[np.ndarray]:
    return list(np.random.default_rng(1).standard_normal((count, *shape)).astype(np.float32))


def quantized(model: ov.Model, samples: list[np.ndarray], **settings):
    return quantize(model, samples, **{"effort": "fast", "speed": False, "target": TARGET, **settings})


def primitives(model: ov.Model, threads: int) -> list[str]:
    """Return what executed for the layers of a model, asked of OpenVINO without calib."""
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    infos = [op.get_rt_info() for op in core().compile_model(model, "CPU", config).get_runtime_model().get_ops()]
    kinds = ("Convolution", "FullyConnected", "MatMul", "Deconvolution")
    return [info["primitiveType"].astype(str) for info in infos if info["layerType"].astype(str) in kinds]


def multilayer(net: Net, *, biases: bool, rows: int = 1) -> ov.Model:
    y = net.input(rows, 32)
    for size in (32, 32, 10):
        y = op.matmul(op.relu(y), net.weights(size, 32), False, True)
        y = op.add(y, net.weights(1, size, fan_in=10)) if biases else y
    return net.model(y)


@pytest.mark.parametrize("biases", [True, False], ids=["biases", "no biases"])
@pytest.mark.parametrize("rows", [1, 4])
def test_small_matmuls_stay_where_they_run_in_int8_with_one_thread_or_two_and_compute_the_same(biases, rows):
    model = multilayer(Net(), biases=biases, rows=rows)
    found = quantized(model, sample_of(rows, 32), target=TARGET if biases else "this-cpu")
    kept = [layer for layer in found.report.layers if layer.planned == "int8"]
    assert all(layer.in_int8 for layer in kept)
    two = [primitive for primitive in primitives(found.model, 2) if primitive.lower().endswith("i8")]
    assert len(two) == sum(layer.executed == "i8" for layer in found.report.layers)
    if biases:  # whatever one thread does: without them it may give zeros
        assert len(kept) == 3
    for sample in sample_of(rows, 32)[:3]:
        exact, *others = (
            compile_model(one, threads=threads)([sample])[0].copy()
            for one, threads in ((model, 1), (found.model, 1), (found.model, 2))
        )
        assert all(np.linalg.norm(other - exact) < 0.1 * np.linalg.norm(exact) for other in others)


def test_twins_that_openvino_executes_as_one_count_as_executed():
    net = Net()
    x = op.fake_quantize(op.relu(net.input(1, 8, 8, 8)), *[np.float32(v) for v in (0, 2.5, 0, 2.5)], 256)
    stored = [op.constant(net.rng.integers(-127, 128, (8, 8, 3, 3)).astype(np.int8)) for _ in range(2)]
    scale = np.full((8, 1, 1, 1), 0.01, np.float32)
    weights, other = (op.multiply(op.convert(constant, np.float32), scale) for constant in stored)
    first, second, third = (op.convolution(x, w, *[[1, 1]] * 4) for w in (weights, weights, other))
    model = net.model(op.relu(first), op.sigmoid(second), op.relu(third))
    assert len(primitives(model, 1)) == 2
    found = twins(model, [node.get_friendly_name() for node in (first, second, third)])
    assert list(map(len, found.values())) == [1, 1, 0]
    assert [layer.executed for layer in inspect(model).layers] == ["i8"] * 3


def test_a_model_none_of_whose_layers_runs_in_int8_is_kept_in_fp32_with_the_reason(tmp_path):
    net = Net()
    model = net.model(net.deconv(op.relu(net.input(1, 8, 6, 6)), 8, 4, 4, 0))
    found = quantize(model, sample_of(1, 8, 6, 6), metric="relative-l2", max_drop=0.1)
    (layer,) = found.report.layers
    assert found.report.status == "fp32_kept" and "No layer runs in INT8" in found.report.status_reason
    assert layer.planned == "float" and "although its inputs were quantized" in layer.reason
    accuracy = found.save(tmp_path / "out").accuracy
    assert accuracy is not None and accuracy.drop == 0


INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.bool_]


@pytest.mark.parametrize("kind", [*INTEGERS, np.float16, np.float64])
def test_a_network_of_numbers_of_any_type_is_all_in_int8(kind):
    net = Net()
    shifted = op.subtract(op.convert(net.input(1, 3, 8, 8, dtype=kind), np.float32), op.constant(np.float32(3)))
    model = net.model(net.conv(op.relu(net.conv(shifted, 8)), 4))
    samples = [np.abs(10 * sample).astype(kind) for sample in sample_of(1, 3, 8, 8)]
    found = quantize(model, samples, effort="fast", speed=False, target=TARGET)
    assert [layer.executed for layer in found.report.layers] == ["i8", "i8"]
    expected, outputs = (
        [outputs[0] for outputs in Session(one).each([sample] for sample in samples)] for one in (model, found.model)
    )
    assert building.median_db([[y] for y in expected], [[y] for y in outputs]) > 30


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.uint32, np.float64])
@pytest.mark.parametrize("effort", ["fast", "balanced"])
def test_a_layer_whose_int8_form_does_not_compile_is_left_out_with_the_reason_at_any_effort(kind, effort, monkeypatch):
    """OpenVINO still fuses a conversion from these types into a FakeQuantize that nothing keeps it from."""
    monkeypatch.setattr("calib.graph.insert.NO_PRIMITIVE", ())
    net = Net()
    stem = op.relu(net.conv(op.convert(net.input(1, 3, 8, 8, dtype=kind), np.float32), 8))
    samples = [np.abs(10 * sample).astype(kind) for sample in sample_of(1, 3, 8, 8)]
    found = quantize(net.model(net.conv(stem, 4)), samples, effort=effort, speed=False, target=TARGET)
    first, second = found.report.layers
    assert first.planned == "float" and "could not compile it in INT8: CPU plugin does not support" in first.reason
    assert (second.planned, second.executed) == ("int8", "i8")


def ran(primitive: str) -> Executed:
    return Executed("node", "FullyConnected", primitive, executed_precision(primitive, ""), ("layer",))


@pytest.mark.parametrize(("factor", "gone"), [(1.0, False), (1.001, False), (0.0, True), (-1.0, True)])
def test_layers_that_differ_between_threads_go_if_the_outputs_do(factor, gone):
    """On a CPU where they are one Subgraph with one thread; here two models stand for the two forms."""
    net = Net()
    x = net.input(1, 4)
    one, two = net.model(op.multiply(op.relu(x), np.float32(factor))), net.model(op.relu(x))
    made = building._Compiled(two, compile_model(one), compile_model(two))
    plan = QuantizationPlan(tuple(QuantizableNode(name, "MatMul", (0,), (1,)) for name in ("a", "b")), (), ())
    executed = {
        "a": Ran(ran("jit_avx512_f32"), ran("brgemm_avx512_I8")),
        "b": Ran(ran("brgemm_avx512_I8"), ran("brgemm_avx512_I8")),
    }
    found = building._unlike(
        plan, executed, building._agreement(made, lambda: [[sample] for sample in sample_of(1, 4)])
    )
    assert list(found) == (["a"] if gone else [])
    assert not gone or "another result with one thread than with two" in found["a"]
    same = {"a": executed["b"], "b": executed["b"]}
    assert not building._unlike(plan, same, -1.0)  # nothing differs in what runs


def test_a_machine_of_one_thread_is_asked_for_two_without_compiling(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("calib.engine.building.core", lambda: SimpleNamespace(get_property=lambda *_: (1, 1)))
    monkeypatch.setattr("calib.engine.building.compile_model", lambda *_, **__: pytest.fail("compiled"))
    net = Net(0)
    assert for_two_threads(net.model(net.conv(net.input(1, 4, 8, 8), 4))) is None
