"""Operations are marked to run in f32 where that keeps a budget that is missed without, and nowhere else.

Most CPUs here have no bf16, so the default is pretended to be bf16, and a stand-in makes the outputs of all models that
are compiled for it larger, but for those that hold marks. That tests the decision; the attribute is tested by itself.
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
from calib.runtime.session import compile_model, default_precision, ov

SAMPLES = list(images(12))
SETTINGS: dict[str, Any] = {"effort": "fast", "estimator": "minmax", "speed": False, "target": "cpu-no-vnni"}


def holds_marks(model: ov.Model) -> bool:
    return any("DisablePrecisionConversion_0" in node.get_rt_info() for node in model.get_ordered_ops())


@pytest.fixture(params=[True, False], ids=["marks help", "marks do not help"])
def helps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Pretend that the default is bf16, with or without an effect of the marks."""

    def compiling(model: ov.Model, config: Mapping[str, Any], **more: Any) -> ov.CompiledModel:
        lossy = config["INFERENCE_PRECISION_HINT"] == "bf16" and not (request.param and holds_marks(model))
        return compile_model(louder(model) if lossy else model, config, **more)

    for module in ("calib.runtime.session", "calib.engine.job"):
        monkeypatch.setattr(f"{module}.default_precision", lambda: "bf16")
    monkeypatch.setattr("calib.engine.evaluators.compile_model", compiling)
    return request.param


def quantized(max_drop: float) -> calib.Result:
    more: dict[str, Any] = {"validation": SAMPLES, "metric": "relative-l2", "max_drop": max_drop}
    return calib.quantize(convnet(), SAMPLES, **more, **SETTINGS)


def test_what_fp32_itself_loses_is_kept_off_by_marks_if_they_help(helps: bool, tmp_path: Path):
    result = quantized(0.9 * LOSS)
    report, accuracy = result.report, result.report.accuracy
    assert accuracy is not None and accuracy.precision == "bf16"
    assert report.status == ("within_budget" if helps else "within_budget_in_f32_only")
    assert bool(accuracy.kept_in_f32) == helps and (accuracy.drop <= 0.9 * LOSS) == helps
    said = "will run in f32 whatever the default precision" if helps else "would not keep the budget in bf16 either"
    assert sum(said in warning for warning in report.warnings) == 1
    result.save(tmp_path)
    file = (tmp_path / f"{report.model.name}.xml").read_text()
    assert file.count("DisablePrecisionConversion") == len(accuracy.kept_in_f32)
    int8 = {layer.name for layer in report.layers if layer.planned == "int8"}
    assert int8 and not int8 & set(accuracy.kept_in_f32)


def test_nothing_is_marked_where_the_budget_is_kept(helps: bool):
    report = quantized(0.5).report
    assert report.status == "within_budget" and report.accuracy is not None
    assert report.accuracy.kept_in_f32 == [] and not any("precise" in warning for warning in report.warnings)


@needs("bf16")
def test_marks_bring_the_drop_of_a_cpu_with_bf16_nearer_to_that_in_f32():
    assert default_precision() == "bf16"
    accuracy = quantized(0.5).report.accuracy
    assert accuracy is not None and accuracy.fp32_drop is not None
    again = quantized(0.5 * accuracy.fp32_drop + 0.5 * (accuracy.other_drop or 0.0)).report
    assert again.accuracy is not None
    if again.accuracy.kept_in_f32:
        assert again.accuracy.drop < accuracy.drop and again.status == "within_budget"
    else:
        assert any("precise" in warning for warning in again.warnings) or again.status != "within_budget_in_f32_only"
