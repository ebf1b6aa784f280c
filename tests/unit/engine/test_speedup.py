"""What is reverted is a pure function of the times, and what is kept is what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from trust_fixtures.tiny import convnet, images

import calib
from calib.engine import speedup as module
from calib.engine.speedup import Outcome, check_speedup, slow_layers
from calib.progress import silent
from calib.report import digest
from calib.runtime.timing import Speed
from calib.values.facts import Report, SpeedFacts

UNITS = (frozenset({"conv"}), frozenset({"depthwise"}), frozenset({"left", "right"}), frozenset({"never timed"}))


def facts(f32: float, default: float, *, precision: str = "bf16", noisy: bool = False) -> SpeedFacts:
    return SpeedFacts(
        latency_f32_ms=f32,
        latency_default_ms=default,
        latency_int8_ms=1.0,
        default_precision=precision,
        speedup_f32=f32,
        speedup_default=default,
        noisy=noisy,
    )


def timed(int8: dict[str, float], f32: dict[str, float], default: dict[str, float], **more: Any) -> Speed:
    return Speed(facts(0.5, 0.4, **more), int8, f32, default)


def test_layers_slower_than_the_faster_precision_are_given_back_with_their_times():
    int8 = {"conv": 1.0, "depthwise": 2.0, "left": 1.0, "right": 1.0}
    f32 = {"conv": 3.0, "depthwise": 2.5, "left": 0.5, "right": 4.0}
    default = {"conv": 2.0, "depthwise": 1.5, "left": 0.6, "right": 3.0}
    found = slow_layers(timed(int8, f32, default), UNITS)
    assert found == {"depthwise": "slower in INT8 and reverted: it took 2 ms in INT8 and 1.5 ms in bf16"}


def test_layers_that_change_together_count_as_one():
    int8 = {"left": 1.0, "right": 3.0}
    found = slow_layers(timed(int8, {"left": 2.0, "right": 1.5}, {"left": 9.0, "right": 9.0}), UNITS)
    assert found.keys() == {"left", "right"}
    assert "4 ms in INT8 and 3.5 ms in f32 with the 1 that change with it" in found["left"]


def test_the_choice_depends_on_the_times_alone():
    speed = timed({"conv": 2.0, "depthwise": 2.0}, {"conv": 1.0, "depthwise": 9.0}, {"conv": 1.5, "depthwise": 9.0})
    assert slow_layers(speed, UNITS) == slow_layers(speed, UNITS[::-1]) == slow_layers(speed, UNITS)
    assert slow_layers(speed, ()) == {}


class Stub:
    """Stands for a model: its plan has these layers, and ``build`` of its candidate gives another one."""

    def __init__(self, *layers: str, reasons: tuple[tuple[str, str], ...] = ()):
        self.reasons = reasons
        self.candidate = self
        self.plan = SimpleNamespace(
            layers=[SimpleNamespace(name=name) for name in layers],
            units=lambda: tuple(frozenset({name}) for name in layers),
        )

    def without(self, reasons: dict[str, str]) -> Stub:
        left = [layer.name for layer in self.plan.layers if layer.name not in reasons]
        return Stub(*left, reasons=(*self.reasons, *reasons.items()))


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> list[Speed]:
    """What timing says, one measurement after the other."""
    waiting: list[Speed] = []
    queue: Iterator[Speed] = (waiting.pop(0) for _ in range(9))
    monkeypatch.setattr(module, "_timed", lambda job, built: next(queue))
    monkeypatch.setattr(module, "build", lambda candidate, feeds: candidate)
    monkeypatch.setattr(module, "control_accuracy", lambda job, built, baseline, **more: baseline(built))
    return waiting


SLOW = timed({"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 2.0}, {"a": 2.0, "b": 2.5})  # 0.4 times as fast, because of b
FAST = Speed(facts(1.5, 1.2))


def asked(wanted: float | None) -> Any:
    return SimpleNamespace(settings=SimpleNamespace(require_speedup=wanted, optimize_speed=False), few=list)


def paid(wanted: float | None, built: Any, controlled: Any = None, again: Any = None) -> Outcome:
    with silent("speed") as stage:
        return check_speedup(asked(wanted), Outcome(built, controlled), again, stage=stage)


def test_without_a_wish_slow_int8_is_kept_and_timed(speeds: list[Speed]):
    speeds += [SLOW]
    model = Stub("a", "b")
    assert paid(None, model) == Outcome(model, None, SLOW)  # pyright: ignore[reportArgumentType]


def test_the_slow_layer_goes_back_where_that_reaches_the_wish(speeds: list[Speed]):
    speeds += [SLOW, FAST]
    found = paid(1.0, Stub("a", "b"))
    assert found.built is not None and [layer.name for layer in found.built.plan.layers] == ["a"]
    assert found.built.candidate.reasons == (("b", slow_layers(SLOW, [frozenset({"b"})])["b"]),)  # pyright: ignore
    assert found.speed is FAST and found.refused is None
    assert "INT8 was 0.40× as fast" in found.reason and "without the 1 layer" in found.reason


def test_the_fp32_model_is_kept_where_nothing_helps(speeds: list[Speed]):
    speeds += [SLOW, SLOW]
    found = paid(1.0, Stub("a", "b"))
    assert found.built is None and found.refused is not None and found.speed is SLOW
    assert [layer.name for layer in found.refused.plan.layers] == ["a", "b"]  # the times are those of all of INT8
    assert "0.40× as fast" in found.reason and "the FP32 model was kept" in found.reason


@pytest.mark.parametrize(
    ("layers", "words"), [(("a",), "no layer was slower in INT8"), (("b",), "every layer was slower in INT8")]
)
def test_the_fp32_model_is_kept_where_there_is_nothing_to_choose(speeds: list[Speed], layers: Any, words: str):
    speeds += [SLOW]
    found = paid(1.0, Stub(*layers))
    assert found.built is None and words in found.reason


def test_the_accuracy_is_that_of_the_model_with_layers_given_back(speeds: list[Speed]):
    speeds += [SLOW, FAST]
    again = SimpleNamespace(built=None)

    def measure(model: Any) -> Any:
        again.built = model
        return again

    found = paid(1.0, Stub("a", "b"), "accuracy of another model", measure)
    assert found.controlled is again and found.built is again.built


def test_a_promise_that_costs_the_speedup_keeps_fp32(speeds: list[Speed]):
    speeds += [SLOW, FAST, SLOW]
    found = paid(1.0, Stub("a", "b"), None, lambda model: SimpleNamespace(built=Stub("a")))
    assert found.built is None and "the FP32 model was kept" in found.reason


def quantized(monkeypatch: pytest.MonkeyPatch, speedup: float, **settings: Any) -> Report:
    """Quantize a tiny network for real, with times that are made up."""

    def timed(job: Any, built: Any) -> Speed:
        names = [layer.name for layer in built.plan.layers]
        int8 = {"first": 1.0, "second": 4.0, "head": 1.0}
        return Speed(
            facts(speedup if "second" in names else 2 * speedup, 9.0),
            int8,
            dict.fromkeys(int8, 2.0),
            dict.fromkeys(int8, 3.0),
        )

    monkeypatch.setattr(module, "_timed", timed)
    return calib.quantize(convnet(), list(images(12)), **settings).report


def test_report_holds_times_and_errors_of_all_layers(monkeypatch: pytest.MonkeyPatch):
    report = quantized(monkeypatch, 2.0, speed=True)
    assert [layer.time_int8_ms for layer in report.layers] == [1.0, 4.0, 1.0]
    assert {layer.time_fp32_ms for layer in report.layers} == {2.0}
    assert {layer.time_default_ms for layer in report.layers} == {3.0}
    assert all(layer.sqnr_db is not None and 20 < layer.sqnr_db < 60 for layer in report.layers)


def test_a_layer_that_does_not_pay_goes_back_with_the_reason_in_the_report(monkeypatch: pytest.MonkeyPatch):
    report = quantized(monkeypatch, 0.6, require_speedup=1.0, metric="relative-l2", max_drop=1.0, effort="fast")
    second = next(layer for layer in report.layers if layer.name == "second")
    assert report.status == "within_budget"
    assert second.planned == "float" and "4 ms in INT8 and 2 ms in f32" in second.reason
    assert any("INT8 was 0.60× as fast" in warning for warning in report.warnings)
    assert report.accuracy is not None and report.accuracy.samples == 12


def test_a_kept_fp32_model_still_says_what_was_slow(monkeypatch: pytest.MonkeyPatch):
    report = quantized(monkeypatch, 0.2, require_speedup=1.0, effort="fast")
    assert report.status == "fp32_kept" and "INT8 was 0.20×" in report.status_reason
    assert {layer.planned for layer in report.layers} == {"float"}
    assert all(layer.reason for layer in report.layers)
    assert all(layer.time_int8_ms for layer in report.layers)


def test_report_of_a_kept_fp32_model_speaks_of_that_model_and_names_what_int8_lost(monkeypatch: pytest.MonkeyPatch):
    asked = {"require_speedup": 1.0, "metric": "relative-l2", "max_drop": 1.0, "effort": "fast"}
    report = quantized(monkeypatch, 0.2, **asked)
    accuracy = report.accuracy
    assert report.status == "fp32_kept" and accuracy is not None
    assert accuracy.quantized == accuracy.baseline and accuracy.drop == 0 and accuracy.interval is None
    assert accuracy.given_up_drop is not None and accuracy.given_up_drop > 0
    (drop,) = (fact for fact in digest.facts(report) if fact.name == "drop")
    assert "INT8, which was given up, lost" in drop.detail
    kept = quantized(monkeypatch, 2.0, **asked)
    assert kept.accuracy is not None and kept.accuracy.given_up_drop is None
    assert kept.accuracy.drop == accuracy.given_up_drop


@pytest.mark.parametrize("promised", [{"metric": "relative-l2", "max_drop": 1.0}, {}])
def test_resumed_run_chooses_by_the_times_of_the_first_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, promised: Any
):
    def planned(speedup: float, resume: bool) -> list[str]:
        asked = {"require_speedup": 1.0, "effort": "fast", "store": tmp_path / "run.sqlite", "resume": resume}
        return [layer.planned for layer in quantized(monkeypatch, speedup, **asked, **promised).layers]

    assert planned(0.6, False) == ["int8", "float", "int8"]
    assert planned(9.0, True) == ["int8", "float", "int8"]  # though it would be fast enough as it is now
    assert planned(9.0, False) == ["int8", "int8", "int8"]
