"""Which groups of layers go back to floating point is a function of the ratios that were measured, and of no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from building import Net
from trust_fixtures.tiny import images

import calib
import calib.engine.fastest as module
import calib.engine.speedup as speedup
from calib.corrections.candidate import Candidate
from calib.engine.building import Int8Model
from calib.engine.fastest import FP32, different, fastest, gaining, groups_by_time, groups_of
from calib.engine.job import Job
from calib.engine.placing import place_quantizers
from calib.engine.prepare import prepare
from calib.runtime.session import ov

op = ov.opset13
FIRST, DEPTHWISE, LAST = "the first layer", "depthwise layers", "the last layer"


def mobile() -> ov.Model:
    """Return convolution, depthwise convolution, convolution, mean, and a MatMul."""
    net = Net()
    x = op.relu(net.conv(net.input(1, 3, 8, 8), 8))
    x = op.relu(net.conv(op.relu(net.depthwise(x)), 8))
    return net.model(net.dense(op.squeeze(op.reduce_mean(x, [2, 3], True), [2, 3]), 4))


@pytest.fixture(scope="module")
def made() -> Job:
    return prepare(mobile(), list(images(8)), flags={"effort": "fast", "target": "cpu"})


@pytest.fixture(scope="module")
def built(made: Job) -> Int8Model:
    """Everything in INT8."""
    result = calib.quantize(mobile(), list(images(8)), effort="fast", target="cpu")
    return Int8Model(result.model, Candidate(made.loaded.model, made.view, result.plan, result.edits))


def test_the_groups_are_of_a_kind_and_leave_something_in_int8(made: Job):
    plan = place_quantizers(made)
    names = [layer.name for layer in plan.layers]
    groups = groups_of(made.view, plan)
    assert (groups[FIRST], groups[DEPTHWISE]) == ({names[0]}, {names[1]})
    assert {names[3]} in groups.values() and len(set(groups.values())) == len(groups)
    one = plan.without(names[1:])
    assert groups_of(made.view, one) == {}  # a group of all layers is the FP32 model, which is timed anyway


def test_a_layer_between_floating_point_neighbours_is_found(made: Job):
    plan = place_quantizers(made)
    names = [layer.name for layer in plan.layers]
    groups = groups_of(made.view, plan.without(names[1:2]))
    assert groups["layers between floating-point neighbours"] >= {names[0]}


def test_groups_by_time_keep_the_layers_that_bring_most(made: Job):
    plan = place_quantizers(made)
    names = [layer.name for layer in plan.layers]
    times = {names[0]: [1.0, 9.0], names[1]: [1.0, 3.0], names[2]: [1.0, 2.0], names[3]: [2.0, 1.0]}
    groups = groups_by_time(times, plan)  # saved: 8, 2, 1 and -1 of 11 that are saved
    assert groups == {
        "layers that take longer in INT8": {names[3]},
        "all but the 2 layers that bring 80% of what INT8 saves": {names[2], names[3]},
        "all but the 1 layer that brings 50% of what INT8 saves": {names[1], names[2], names[3]},
    }
    assert groups_by_time({}, plan) == {}
    slow = groups_by_time({name: [2.0, 1.0] for name in names}, plan)  # all of them: not another form than FP32
    assert different(slow, plan) == {}


def test_only_what_is_faster_beyond_the_noise_gains():
    ratios = {"a": (1.2, 0.9, 1.5), "b": (1.05, 1.01, 1.1), "c": (1.1, 1.02, 1.2), "d": (0.8, 0.7, 0.9)}
    assert gaining(ratios) == ["c", "b"]
    assert gaining({"little": (1.01, 1.005, 1.02), FP32: (2.0, 1.9, 2.1)}) == []


BOTH = f"{FIRST} and {DEPTHWISE}"


@pytest.mark.parametrize(
    ("alone", "again", "left"),
    [
        ({FIRST: 0.9, DEPTHWISE: 0.95, LAST: 1.0}, {}, set()),
        ({FIRST: 0.9, DEPTHWISE: 1.1, LAST: 1.0}, {DEPTHWISE: 1.05}, {DEPTHWISE}),
        ({FIRST: 0.9, DEPTHWISE: 1.1, LAST: 1.0}, {DEPTHWISE: 1.0}, set()),  # what was by chance is not kept
        ({FIRST: 1.2, DEPTHWISE: 1.1, LAST: 0.9}, {FIRST: 1.2, DEPTHWISE: 1.1, BOTH: 1.3}, {FIRST, DEPTHWISE}),
        ({FIRST: 1.2, DEPTHWISE: 1.1, LAST: 0.9}, {FIRST: 1.2, DEPTHWISE: 1.1, BOTH: 1.05}, {FIRST}),
    ],
)
def test_the_form_of_the_highest_ratio_is_kept(
    made: Job, built: Int8Model, alone: dict[str, float], again: dict[str, float], left: set[str]
):
    groups = groups_of(made.view, built.plan)
    stored = {"layers": {}, "forms": ratios_of(alone), "again": ratios_of(again)}
    form, said = fastest(made, built, lambda name, measure: stored[name], dict)
    expected = {layer for group in left for layer in groups[group]}
    assert {layer.name for layer in form.plan.layers} == {layer.name for layer in built.plan.layers} - expected
    assert ("everything stays in INT8" in said) == (not left)
    assert not left or all(group in said for group in left)
    reasons = [skipped.reason for skipped in form.plan.skipped if skipped.name in expected]
    assert len(reasons) == len(expected)
    assert all(f"the network is {max(again.values()):.2f} times as fast with" in reason for reason in reasons)


def test_fp32_is_recommended_where_it_is_faster_than_what_is_kept(made: Job, built: Int8Model):
    def said(fp32: float) -> str:
        stored = {"layers": {}, "forms": ratios_of({DEPTHWISE: 1.1}, fp32), "again": ratios_of({DEPTHWISE: 1.2}, fp32)}
        return fastest(made, built, lambda name, measure: stored[name], dict)[1]

    assert "FP32 is 1.30 (1.29 to 1.31) times as fast as everything in INT8, so stay with it" in said(1.3)
    assert "stay with it" not in said(1.15)


def ratios_of(forms: dict[str, float], fp32: float = 0.5) -> dict[str, tuple[float, float, float]]:
    return {name: (ratio, ratio - 0.01, ratio + 0.01) for name, ratio in {**forms, FP32: fp32}.items()}


def test_times_are_taken_once_and_kept_for_a_run_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    own, measured, timed = module._ratios, list[int](), list[tuple[int, int]]()
    of_models = module.time_models

    def time_models(*given: Any, **on: Any) -> Any:
        timed.append((on["threads"], on["streams"]))
        return of_models(*given, **on)

    monkeypatch.setattr(module, "SECONDS", 0.05)
    monkeypatch.setattr(speedup, "SECONDS", 0.05)
    monkeypatch.setattr(module, "time_models", time_models)
    monkeypatch.setattr(module, "_ratios", lambda *given: [measured.append(1), own(*given)][1])
    asked: dict[str, Any] = {
        "effort": "fast",
        "target": "cpu",
        "optimize_speed": True,
        "hint": "throughput",
        "threads": 2,
        "store": tmp_path / "run.sqlite",
    }
    first = calib.quantize(mobile(), list(images(8)), **asked)
    (said,) = (text for text in first.report.warnings if text.startswith("Times as fast as everything in INT8"))
    count = len(measured)
    again = calib.quantize(mobile(), list(images(8)), resume=True, **asked)
    assert len(measured) == count >= 1
    assert said in again.report.warnings and again.plan == first.plan and again.report.speed is not None
    assert set(timed) == {(2, 2)} and "2 inferences at a time, one thread each" in first.report.speed.note


@pytest.mark.parametrize(("hint", "on"), [(None, (1, 1)), ("latency", (3, 1)), ("throughput", (3, 3))])
def test_models_are_timed_as_the_hint_says(hint: str | None, on: tuple[int, int]):
    made = prepare(mobile(), None, flags={"threads": 3, **({"hint": hint} if hint else {})})
    assert (made.timed_on.threads, made.timed_on.streams) == on
