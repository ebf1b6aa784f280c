"""The budget is judged in the precision that the model will run in, and in f32 as well; models are timed in it too.

CPUs whose default is f32 have nothing to tell apart, so most of these tests pretend that the default is bf16, and stand
in for it: whatever the evaluator compiles for bf16 gives outputs that are larger by ``LOSS``. That tests what is made
of two precisions. The last test asks a CPU that has bf16.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cpu_features import needs
from trust_fixtures.louder import LOSS, louder
from trust_fixtures.tiny import convnet, images

import calib
from calib.corrections.candidate import Candidate
from calib.engine.building import Int8Model, executed_in
from calib.engine.evaluators import SampleEvaluator
from calib.engine.fastest import fastest
from calib.engine.measured_here import speed_here
from calib.engine.precisions import not_by_default, one_precision
from calib.engine.prepare import prepare
from calib.engine.promises import promises_budget
from calib.engine.speedup import Outcome, check_speedup
from calib.loading.load import load_model
from calib.progress import silent
from calib.report.digest import headline
from calib.runtime.executed import Executed, Ran
from calib.runtime.session import available_precision, compile_model, core, default_precision, ov
from calib.values.accuracy_facts import AccuracyFacts
from calib.values.drops import drop_text
from calib.values.facts import Report

SAMPLES = list(images(12))
SETTINGS: dict[str, Any] = {"effort": "fast", "estimator": "minmax", "speed": False, "target": "cpu-no-vnni"}


@pytest.fixture
def compiled_in(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Pretend that the default is bf16; return the precisions that the evaluator compiled models for, in order."""
    seen: list[str] = []

    def compiling(model: ov.Model, config: Mapping[str, Any], **more: Any) -> ov.CompiledModel:
        seen.append(config["INFERENCE_PRECISION_HINT"])
        return compile_model(louder(model) if seen[-1] == "bf16" else model, config, **more)

    for module in ("calib.runtime.session", "calib.engine.job"):
        monkeypatch.setattr(f"{module}.default_precision", lambda: "bf16")
    monkeypatch.setattr("calib.engine.evaluators.compile_model", compiling)
    return seen


def quantized(max_drop: float | None, **settings: Any) -> tuple[Report, AccuracyFacts]:
    report = calib.quantize(
        convnet(), SAMPLES, validation=SAMPLES, metric="relative-l2", max_drop=max_drop, **SETTINGS, **settings
    ).report
    assert report.accuracy is not None
    return report, report.accuracy


def test_a_budget_is_judged_where_the_model_runs_and_fp32_and_f32_stand_beside_it(compiled_in: list[str]):
    report, accuracy = quantized(0.5)
    assert report.status == "within_budget"
    assert (accuracy.precision, accuracy.other_precision) == ("bf16", "f32")
    assert accuracy.fp32_drop == pytest.approx(LOSS, rel=1e-4) and accuracy.other_drop is not None
    assert accuracy.drop > LOSS > accuracy.other_drop > 0
    assert compiled_in == ["bf16", "bf16", "f32"]  # FP32 (its f32 pass gives the references), INT8, INT8 as well


def test_a_budget_kept_in_f32_only_has_a_status_of_its_own(compiled_in: list[str]):
    _, free = quantized(None)
    assert free.other_drop is not None
    budget = (max(LOSS, free.other_drop) + free.drop) / 2
    report, accuracy = quantized(budget, max_evaluations=1)
    assert report.status == "within_budget_in_f32_only"
    lost, own = (drop_text(accuracy.drop_kind, accuracy.unit, drop) for drop in (accuracy.drop, LOSS))
    assert f"loses {lost}, and FP32 itself {own}" in report.status_reason
    assert accuracy.drop > budget >= (accuracy.other_drop or 1)


def test_fp32_that_breaks_the_budget_itself_is_told_before_the_search_which_then_judges_in_f32(
    compiled_in: list[str], tmp_path: Path
):
    said: list[str] = []

    class Listening:
        def __call__(self, name: str, total: int | None) -> Any:
            self.name = name
            return self

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def update(self, count: int = 1, note: str = "") -> None:
            return None

        def say(self, text: str) -> None:
            said.append(f"{self.name}: {text}")

    report, accuracy = quantized(0.9 * LOSS, progress=Listening(), store=tmp_path / "run.sqlite")
    lost, budget = (drop_text(accuracy.drop_kind, accuracy.unit, drop) for drop in (LOSS, 0.9 * LOSS))
    (own,) = [text for text in said if text.startswith("baseline: FP32 itself")]
    assert own.startswith(f"baseline: FP32 itself loses {lost} in bf16, over the budget of {budget}, so")
    assert any(own == f"baseline: {warning}" for warning in report.warnings)
    assert said.index(own) < next(number for number, text in enumerate(said) if text.startswith("search: "))
    assert report.status == "within_budget_in_f32_only" and accuracy.precision == "bf16"
    assert accuracy.drop > 0.9 * LOSS >= (accuracy.other_drop or 1)
    count = len(compiled_in)
    again, facts = quantized(0.9 * LOSS, store=tmp_path / "run.sqlite", resume=True)
    assert again.status == report.status and facts.fp32_drop == accuracy.fp32_drop
    assert compiled_in[count:].count("bf16") == 2  # INT8 of the end, and with marks: FP32's results were kept


def test_f32_that_was_asked_for_decides_and_the_default_is_reported(compiled_in: list[str]):
    report, accuracy = quantized(0.9 * LOSS, float_precision="f32")
    assert report.status == "within_budget"
    assert (accuracy.precision, accuracy.other_precision) == ("f32", "bf16")
    assert accuracy.drop < 0.9 * LOSS < (accuracy.other_drop or 0)
    assert any("not in bf16, which this machine runs by default" in text for text in report.warnings)


def test_where_f32_is_the_default_there_is_one_measurement(monkeypatch: pytest.MonkeyPatch):
    for module in ("calib.runtime.session", "calib.engine.job"):
        monkeypatch.setattr(f"{module}.default_precision", lambda: "f32")
    report, accuracy = quantized(0.5)
    assert report.status == "within_budget" and accuracy.precision == "f32"
    assert (accuracy.other_precision, accuracy.other_drop, accuracy.fp32_drop) == ("", None, None)


def test_fp32_that_is_kept_has_its_own_loss_where_it_runs(compiled_in: list[str]):
    report, accuracy = quantized(0.5, require_speedup=1000.0)
    assert report.status == "fp32_kept"
    assert (accuracy.precision, accuracy.drop, accuracy.other_precision) == ("f32", 0, "bf16")
    assert accuracy.other_drop == accuracy.fp32_drop == pytest.approx(LOSS, rel=1e-4)


def test_f32_alone_is_kept_where_a_run_is_interrupted_before_the_pass_in_bf16(
    compiled_in: list[str], monkeypatch: pytest.MonkeyPatch
):
    run = SampleEvaluator.run

    def interrupted(evaluator: SampleEvaluator, compiled: ov.CompiledModel, indices: Any) -> list[Any]:
        if compiled_in.count("bf16") == 2:  # FP32, then INT8 of the end
            raise KeyboardInterrupt
        return run(evaluator, compiled, indices)

    monkeypatch.setattr(SampleEvaluator, "run", interrupted)
    report, accuracy = quantized(0.9 * LOSS)
    assert report.status == "within_budget_in_f32_only"
    assert (accuracy.precision, accuracy.other_precision, accuracy.other_drop) == ("f32", "bf16", None)
    assert "its drop was not measured" in report.status_reason and "calib verify" in report.status_reason
    assert any("was not measured: the run was interrupted" in text for text in report.warnings)
    assert headline(report) == ("bad", "INT8, within the budget in f32 only, not in bf16")
    assert not promises_budget(report, deployed=True) and promises_budget(report, deployed=False)


def test_layers_are_looked_up_in_the_precision_that_the_model_will_run_in(
    compiled_in: list[str], monkeypatch: pytest.MonkeyPatch
):
    def answer(model: ov.Model, view: Any, plan: Any, config: Mapping[str, Any]) -> dict[str, Ran]:
        asked.append(config["INFERENCE_PRECISION_HINT"])
        low = Executed("head", "FullyConnected", "brgemm_avx512_bf16", "bf16", ("head",))
        return {**executed_in(model, view, plan, config), "head": Ran(low, low)}

    asked: list[str] = []
    monkeypatch.setattr("calib.engine.report.executed_in", answer)
    report, _ = quantized(0.5, ignore="head")
    assert asked == ["bf16"]
    (head,) = [layer for layer in report.layers if layer.name == "head"]
    assert (head.planned, head.executed, head.executed_one_thread) == ("float", "bf16", "")
    assert {layer.executed for layer in report.layers if layer.planned == "int8"} == {"i8"}


HINT = "INFERENCE_PRECISION_HINT"


@pytest.fixture
def timed_in(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the precisions that models were compiled for to be timed, in order; "none" for those without a hint."""
    seen: list[str] = []

    def compiling(model: ov.Model, config: Mapping[str, Any], **more: Any) -> ov.CompiledModel:
        compiled = compile_model(model, config, **more)
        seen.append(config.get(HINT, "none"))
        if seen[-1] in ("f32", "none"):  # the CPU may have no other
            assert compiled.get_property(HINT) == (ov.Type.f32 if seen[-1] == "f32" else own)
        return compiled

    own = core().get_property("CPU", HINT)
    monkeypatch.setattr("calib.runtime.timing.compile_model", compiling)
    for module in ("speedup", "fastest", "measured_here"):
        monkeypatch.setattr(f"calib.engine.{module}.SECONDS", 0.01)
    return seen


@pytest.fixture(scope="module")
def int8() -> calib.Result:
    return calib.quantize(convnet(), SAMPLES, **SETTINGS)


@pytest.mark.parametrize(
    ("default", "asked", "hint"), [("bf16", None, "none"), ("bf16", "f32", "f32"), ("f32", "bf16", "bf16")]
)
def test_models_are_timed_in_the_precision_that_they_will_run_in(
    timed_in: list[str], monkeypatch: pytest.MonkeyPatch, int8: calib.Result, default: str, asked: str | None, hint: str
):
    """Without a hint in the machine's default, as users run them, else with the one of ``float_precision``."""
    for module in ("runtime.timing", "engine.speedup", "engine.fastest"):
        monkeypatch.setattr(f"calib.{module}.default_precision", lambda: default)
    monkeypatch.setattr("calib.engine.job.available_precision", lambda asked: asked or default)
    wanted: dict[str, Any] = {"require_speedup": 1e-6, **({"float_precision": asked} if asked else {}), **SETTINGS}
    job = prepare(convnet(), SAMPLES, flags=wanted, calibrates=True)
    built = Int8Model(int8.model, Candidate(job.loaded.model, job.view, int8.plan, int8.edits))

    with silent("speed") as stage:
        required = check_speedup(job, Outcome(built), None, stage=stage).speed
    _, verified, _ = speed_here(job, load_model(int8.model), None, Path("model.xml"))
    beside = [] if hint == "none" else ["none"]  # and what INT8 takes in the default
    assert timed_in == 2 * [hint, "f32", "none", *beside]  # INT8, FP32 in f32, and FP32 in the default
    said = f"INT8 was run with its floating-point layers in {asked}; in {default}, this machine's default, it takes"
    for speed in (required and required.facts, verified):
        assert speed is not None and speed.default_precision == default
        assert (said in speed.note) == bool(beside)

    timed_in.clear()
    fastest(job, built, lambda _, measure: {key: [1.0] * 3 for key in measure()}, dict)  # as --optimize-speed
    assert len(timed_in) > 1 and set(timed_in) == {hint}


def facts(drop: float, other: float, precision: str = "bf16") -> AccuracyFacts:
    return AccuracyFacts(
        metric="top-1",
        higher_is_better=True,
        baseline=0.9,
        quantized=0.9 - drop,
        drop=drop,
        budget=0.01,
        precision=precision,
        other_precision="f32" if precision == "bf16" else "bf16",
        other_drop=other,
        fp32_drop=0.004,
    )


@pytest.mark.parametrize(
    ("drop", "other", "status"),
    [
        (0.005, 0.02, "within_budget_not_in_f32"),
        (0.02, 0.005, "within_budget_in_f32_only"),
        (0.005, 0.005, ""),
        (0.02, 0.02, ""),
    ],
)
def test_one_of_two_precisions_that_keeps_the_budget_is_named(drop: float, other: float, status: str):
    found = one_precision(facts(drop, other))
    assert (found[0] if found else "") == status
    both = facts(drop, other)
    assert found is None or f"loses {drop_text(both.drop_kind, both.unit, max(drop, other))}" in found[1]
    assert one_precision(facts(drop, other, "f32")) is None
    assert bool(not_by_default(facts(drop, other, "f32"))) == (drop < 0.01 < other)


def test_a_precision_that_the_cpu_can_not_run_is_not_judged_in():
    able = "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert available_precision("bf16") == ("bf16" if able else "f32")
    assert available_precision("f32") == "f32" and available_precision(None) == default_precision()
    report, accuracy = quantized(0.5, float_precision="bf16")
    assert any("takes it as a hint and runs f32" in text for text in report.warnings) == (not able)
    assert accuracy.precision == ("bf16" if able else "f32")


@needs("bf16")
def test_bf16_of_a_cpu_that_has_it_loses_and_both_drops_are_measured():
    assert default_precision() == "bf16"
    _, accuracy = quantized(0.5)
    assert (accuracy.precision, accuracy.other_precision) == ("bf16", "f32")
    assert accuracy.fp32_drop is not None and 0 < accuracy.fp32_drop < 0.05
    assert accuracy.other_drop is not None and accuracy.other_drop != accuracy.drop
