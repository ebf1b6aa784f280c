"""Which groups of layers go back to floating point is a function of the ratios that were measured, and of no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from building import Net
from trust_fixtures.tiny import images

import calib
import calib.engine.fastest as module
from calib.engine.building import Int8Model
from calib.engine.fastest import fastest, gaining, groups_of
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


def job() -> Job:
    return prepare(mobile(), list(images(8)), flags={"effort": "fast", "target": "cpu"})


def test_the_groups_are_of_a_kind_and_leave_something_in_int8():
    made = job()
    plan = place_quantizers(made)
    names = [layer.name for layer in plan.layers]
    groups = groups_of(made.view, plan)
    assert (groups[FIRST], groups[DEPTHWISE]) == ({names[0]}, {names[1]})
    assert {names[3]} in groups.values() and len(set(groups.values())) == len(groups)
    one = plan.without(names[1:])
    assert groups_of(made.view, one) == {}  # a group of all layers is the FP32 model, which is timed anyway


def test_a_layer_between_floating_point_neighbours_is_found():
    made = job()
    plan = place_quantizers(made)
    names = [layer.name for layer in plan.layers]
    groups = groups_of(made.view, plan.without(names[1:2]))
    assert groups["layers between floating-point neighbours"] >= {names[0]}


def test_only_what_is_faster_beyond_the_noise_gains():
    ratios = {"a": (1.2, 0.9, 1.5), "b": (1.05, 1.01, 1.1), "c": (1.1, 1.02, 1.2), "d": (0.8, 0.7, 0.9)}
    assert gaining(ratios) == ["c", "b"]


@pytest.mark.parametrize(
    ("alone", "together", "left"),
    [
        ({FIRST: 0.9, DEPTHWISE: 0.95, LAST: 1.0}, {}, set()),
        ({FIRST: 0.9, DEPTHWISE: 1.1, LAST: 1.0}, {}, {DEPTHWISE}),
        ({FIRST: 1.2, DEPTHWISE: 1.1, LAST: 0.9}, {f"{FIRST} and {DEPTHWISE}": 1.3}, {FIRST, DEPTHWISE}),
        ({FIRST: 1.2, DEPTHWISE: 1.1, LAST: 0.9}, {f"{FIRST} and {DEPTHWISE}": 1.05}, {FIRST}),
    ],
)
def test_the_form_of_the_highest_ratio_is_kept(alone: dict[str, float], together: dict[str, float], left: set[str]):
    made = job()
    result = calib.quantize(mobile(), list(images(8)), effort="fast", target="cpu")
    groups = groups_of(made.view, result.plan)
    built = Int8Model(result.model, candidate_of(made, result))
    asked: list[str] = []

    def remember(name: str, measure: Callable[[], Any]) -> Any:
        asked.append(name)
        found = alone if name == "alone" else together
        return {group: (ratio, ratio - 0.01, ratio + 0.01) for group, ratio in found.items()}

    form, said = fastest(made, built, remember)
    expected = {layer for group in left for layer in groups[group]}
    assert {layer.name for layer in form.plan.layers} == {layer.name for layer in result.plan.layers} - expected
    assert asked == ["alone", "together"][: 1 + bool(together)]
    assert ("everything stays in INT8" in said) == (not left)
    assert not left or all(group in said for group in left)


def candidate_of(made: Job, result: calib.Result) -> Any:
    from calib.corrections.candidate import Candidate

    return Candidate(made.loaded.model, made.view, result.plan, result.edits)


def test_times_are_taken_once_and_kept_for_a_run_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    own, measured, timed = module._ratios, list[int](), list[tuple[int, int]]()
    of_models = module.time_models

    def time_models(*given: Any, **on: Any) -> Any:
        timed.append((on["threads"], on["streams"]))
        return of_models(*given, **on)

    monkeypatch.setattr(module, "SECONDS", 0.05)
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
