"""What OpenVINO can't compile costs the figure that is taken from it, which is named; the model is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import Net, op
from cpu_features import TARGET

import calib
from calib.engine import bench
from calib.engine.verify import check_written
from calib.errors import ExecutionError
from calib.graph.comparable import compared_outputs
from calib.loading.load import load_model
from calib.runtime import session
from calib.runtime.session import Session, core, ov


def samples(*shape: int, count: int = 12) -> list[np.ndarray]:
    return list(np.random.default_rng(1).standard_normal((count, *shape)).astype(np.float32))


def small() -> ov.Model:
    """Return convolution → ReLU → convolution → mean → MatMul."""
    net = Net()
    y = net.bias(net.conv(op.relu(net.bias(net.conv(net.input(1, 3, 8, 8), 8))), 8))
    return net.model(net.dense(op.reduce_mean(op.relu(y), np.array([2, 3]), False), 5))


class Failing:
    """Stands for the Core of OpenVINO: compiling fails with the properties that ``fails`` says."""

    def __init__(self, fails: Callable[[Mapping[str, Any]], bool]):
        self._real, self._fails = core(), fails

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_property(self, device: str, name: str) -> Any:
        found = self._real.get_property(device, name)
        return [*found, "BF16"] if name == "OPTIMIZATION_CAPABILITIES" else found  # so that bf16 is tried on every CPU

    def compile_model(self, model: ov.Model, device: str, settings: Mapping[str, Any]) -> ov.CompiledModel:
        if self._fails(settings):
            raise RuntimeError("Exception from a/file.cpp:1:\nno such primitive")
        return self._real.compile_model(model, device, dict(settings))


@pytest.mark.parametrize("effort", ["fast", "balanced"])
def test_a_model_with_a_dead_layer_is_saved_though_its_simulation_does_not_compile(effort: str, tmp_path: Path):
    net = Net()
    below = op.constant(np.full((1, 8, 1, 1), -1000, np.float32))
    dead = op.relu(op.add(net.conv(net.input(1, 3, 8, 8), 8), below))
    model = net.model(net.conv(op.relu(net.conv(dead, 8)), 4, 1))
    report = calib.quantize(model, samples(1, 3, 8, 8), effort=effort, speed=False, target=TARGET).save(tmp_path)
    assert any(warning.startswith("INT8 execution was not compared with its simulation") for warning in report.warnings)
    written = core().read_model(tmp_path / f"{report.model.name}.xml")
    for sample in samples(1, 3, 8, 8)[:2]:
        np.testing.assert_allclose(Session(written)([sample])[0], Session(model)([sample])[0], atol=1e-6)


ASKED = count()  # for bf16
KINDS = {
    "a simulation": (
        lambda config: config.get("LP_TRANSFORMS_MODE") == "NO",
        ["The correction 'sequential bias'", "The layers were not ranked", "INT8 execution was not compared with its"],
    ),
    "what is timed": (lambda config: "PERF_COUNT" in config, ["Speed was not measured"]),
    "what shows the SQNR": (lambda config: "SNIPPETS_MODE" in config, ["The SQNR of the layers was left out"]),
    "a precision": (
        lambda config: config.get("INFERENCE_PRECISION_HINT") == "bf16",
        ["The loss of FP32 itself in bf16 is unknown, and everything was judged in f32, since OpenVINO can't run it"],
    ),
    "a precision of INT8": (
        lambda config: config.get("INFERENCE_PRECISION_HINT") == "bf16" and next(ASKED) > 0,  # FP32 is the first
        ["Accuracy was measured in f32, since OpenVINO can't compile it in bf16", "The drop in bf16 was left out"],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_that_openvino_can_not_give_is_missing_and_named(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fails, sentences = KINDS[kind]
    failing = Failing(fails)
    monkeypatch.setattr(session, "core", lambda: failing)
    more: dict[str, Any] = {"float_precision": "bf16"} if kind.startswith("a precision") else {}
    asked: dict[str, Any] = {"effort": "thorough", "metric": "relative-l2", "max_drop": 1e-9, "max_evaluations": 3}
    report = calib.quantize(small(), samples(1, 3, 8, 8), **asked, **more).save(tmp_path)
    assert (tmp_path / "report.json").exists() and report.accuracy is not None and report.output_sqnr_db
    for sentence in sentences:
        named = [warning for warning in report.warnings if warning.startswith(sentence)]
        assert named and all(warning.endswith("no such primitive.") for warning in named), (sentence, report.warnings)


def test_a_file_that_computes_something_else_with_two_threads_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """On a CPU where one thread and two run other kernels; here another model stands for what two threads run."""
    found = calib.quantize(small(), samples(1, 3, 8, 8), effort="fast", speed=False, target=TARGET)
    found.save(tmp_path)
    net = Net(seed=5)
    other = net.model(net.dense(op.reduce_mean(net.input(1, 3, 8, 8), np.array([2, 3]), False), 5))
    monkeypatch.setattr("calib.engine.verify.for_two_threads", lambda model: session.compile_model(other))
    feeds = [(sample,) for sample in samples(1, 3, 8, 8)[:3]]
    form = compared_outputs(small())
    with pytest.raises(ExecutionError, match="net, run with two threads: INT8 execution differs from its simulation"):
        check_written(tmp_path / "net.xml", found.model, feeds, "net", (form, form), found.plan)


def test_commands_that_look_at_models_leave_out_and_name_what_does_not_run(monkeypatch: pytest.MonkeyPatch):
    quantized = calib.quantize(small(), samples(1, 3, 8, 8), effort="fast", speed=False, target=TARGET).model
    failing = Failing(lambda config: "PERF_COUNT" in config)
    monkeypatch.setattr(session, "core", lambda: failing)
    compared = calib.compare(small(), quantized, samples(1, 3, 8, 8))
    assert all(layer.sqnr_db > 10 and layer.time_after_ms is None for layer in compared.layers)
    assert sum("were not timed, since OpenVINO can't run it: no such primitive" in note for note in compared.notes) == 2
    failing = Failing(lambda config: True)  # which the lambda above returns from now on
    seen = calib.inspect(quantized)
    assert len(seen.layers) == 3 and not any(layer.executed for layer in seen.layers)
    assert "can't compile the model: no such primitive." in seen.notes[-1]


def test_a_model_that_does_not_compile_is_left_out_of_the_timing_and_named(monkeypatch: pytest.MonkeyPatch):
    models = [small(), small()]
    runs = bench._runs([load_model(model) for model in models])
    second = runs[-1].timed.model
    real = bench.compile_model

    def compiling(model: ov.Model, config: Mapping[str, Any]) -> ov.CompiledModel:
        if model is second:
            raise RuntimeError("no such primitive")
        return real(model, config)

    monkeypatch.setattr(bench, "compile_model", compiling)
    kept, missing = bench._compiling(runs)
    assert len(kept) == len(runs) - len([run for run in runs if run.timed.model is second]) > 0
    assert missing and all("was left out, since OpenVINO can't run it: no such primitive." in one for one in missing)
