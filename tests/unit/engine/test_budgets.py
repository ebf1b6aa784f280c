"""A budget for each metric: named in the settings, kept by the search, and shown wherever one is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trust_fixtures.tiny import convnet, images, write_ir

import calib
from calib.config.settings import Settings
from calib.engine.budgets import budgets_of, references_of
from calib.errors import UsageError
from calib.metrics.resolve import resolve_metrics
from calib.report.digest import facts
from calib.report.leaderboard import render_leaderboard_csv, render_leaderboard_text
from calib.runtime.session import core
from calib.values.facts import Report
from calib.zoo.jobs import JobRow
from calib.zoo.leaderboard_rows import row_of_job, row_of_report, to_json

FAST: dict[str, Any] = {"effort": "fast", "estimator": "minmax", "speed": False, "target": "cpu-no-vnni"}
MODEL = convnet(imbalance=30.0)


def labelled(count: int = 40) -> list[tuple[Any, Any]]:
    """Samples whose targets are the outputs of FP32 and some noise."""
    run, random = core().compile_model(MODEL, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}), np.random.default_rng(5)
    made = [(image[None], run(image[None])[0]) for image in images(count)]
    return [(image, scores + random.normal(0, 0.05, scores.shape).astype(np.float32)) for image, scores in made]


VALIDATION = labelled()


def quantized(max_drop: Any, metric: Any = "mae,cosine") -> Any:
    return calib.quantize(MODEL, images(24), validation=VALIDATION, metric=metric, max_drop=max_drop, **FAST)


@pytest.mark.parametrize(
    ("max_drop", "message"),
    [
        (0.01, "max_drop 0.01 does not say which of top-1, f1 it is for: .*--max-drop top-1=0.01,f1=0.01"),
        ("top-1=0.01", "no budget for the metric f1"),
        ({"top-1": 0.01, "f1": 0.01, "auc": 0.1}, "a budget for 'auc', which is not measured"),
    ],
)
def test_every_metric_needs_a_budget_of_its_own(max_drop: Any, message: str):
    with pytest.raises(UsageError, match=message):
        budgets_of(Settings(max_drop=max_drop), resolve_metrics(["top-1", "f1"]))


def test_points_are_refused_for_a_metric_that_is_no_fraction():
    with pytest.raises(UsageError, match="percentage points, and the metric mae"):
        budgets_of(Settings(max_drop="top-1=1pt,mae=1pt"), resolve_metrics(["top-1", "mae"]))


def test_units_and_kinds_are_those_of_a_single_budget():
    given = {"top-1": "0.5pt", "mae": "1%rel"}
    first, second = budgets_of(Settings(max_drop=given), resolve_metrics(["top-1", "mae"]))
    assert (first.max_drop, first.kind, first.higher_is_better) == (0.005, "absolute", True)
    assert (second.max_drop, second.kind, second.higher_is_better) == (0.01, "relative", False)
    (alone,) = budgets_of(Settings(max_drop={"top-1": 0.2}), resolve_metrics("top-1"))
    assert alone.max_drop == 0.2


@pytest.fixture(scope="module")
def free() -> Report:
    """The report of everything in INT8, with two metrics and no budget."""
    return quantized(None).report


def test_without_a_budget_each_metric_is_reported_and_nothing_reverted(free: Report):
    assert free.accuracy is not None and free.status == "quantized"
    mae, cosine = free.accuracy.each
    assert (free.accuracy.metric, free.accuracy.drop) == ("mae, cosine", mae.drop)
    assert mae.drop > 0 and cosine.drop > 0 and mae.budget is None and mae.interval is not None


@pytest.mark.parametrize("tight", ["mae", "cosine"])
def test_the_search_keeps_the_tight_budget_whichever_metric_it_is_of(free: Report, tight: str, tmp_path: Path):
    assert free.accuracy is not None
    budgets = {one.metric: (0.5 if one.metric == tight else 50) * one.drop for one in free.accuracy.each}
    result = quantized(budgets)
    report = result.report
    assert report.status in ("within_budget", "mostly_float"), report.status_reason
    assert any(layer.planned == "float" for layer in report.layers), "the budget takes a layer back"
    assert report.accuracy is not None and 0 < report.accuracy.drop <= 1
    before = calib.evaluate(MODEL, VALIDATION, ["mae", "cosine"])
    result.save(tmp_path)
    after = calib.evaluate(tmp_path / "model.xml", VALIDATION, ["mae", "cosine"])
    for one, old, new in zip(report.accuracy.each, before.each, after.each, strict=True):
        drop = (old.value - new.value) if one.higher_is_better else (new.value - old.value)
        assert drop == pytest.approx(one.drop, abs=1e-6) and drop <= budgets[one.metric] + 1e-9
    shares = [one.drop / budgets[one.metric] for one in report.accuracy.each]
    assert report.accuracy.drop == pytest.approx(max(shares))


def test_a_missed_budget_is_named_with_all_of_them(free: Report):
    report = quantized({"mae": 1000, "cosine": 0}).report
    assert report.status == "over_budget"
    assert "of mae and 0" in report.status_reason and "× the budget" in report.status_reason


def test_each_metric_stands_in_the_summary_the_leaderboard_and_after_verification(free: Report, tmp_path: Path):
    model = write_ir(MODEL, tmp_path / "model.xml")
    result = calib.quantize(
        model, images(24), validation=VALIDATION, metric="mae,cosine", max_drop="mae=1000,cosine=10", **FAST
    )
    named = {fact.name: fact for fact in facts(result.report)}
    assert {"mae", "cosine", "budgets"} <= set(named) and "× the budget" in named["budgets"].value
    result.save(tmp_path / "int8")
    found = calib.verify(tmp_path / "int8", VALIDATION)
    assert [one.metric for one in found.accuracy if one.deployed] == ["mae", "cosine"]
    assert [one.budget for one in found.accuracy if one.deployed] == [1000, 10]
    assert found.holds, found.broken
    row = row_of_report("model", result.report, 1.0)
    assert [cells.metric for cells in row.each] == ["mae", "cosine"]
    text = render_leaderboard_text([row], 200)
    assert all(f"{cells.int8:.4g}" in text for cells in row.each)
    assert "cosine: " in render_leaderboard_csv([row])
    kept = JobRow("k", "model", "f", "{}", row.status, "", 1, "", 0.0, json.dumps(to_json(row)))
    assert row_of_job(kept, "").each == row.each


def test_a_published_value_vouches_for_the_metric_that_it_names_and_no_other():
    metric = resolve_metrics(["mae", "cosine"])
    assert references_of(Settings(reference="cosine=0.9"), metric) == {"cosine": 0.9}
    assert references_of(Settings(reference={"mae": 0, "cosine": 0.9}), metric) == {"mae": 0.0, "cosine": 0.9}
    assert references_of(Settings(reference="0.5"), metric.metrics[0]) == {"mae": 0.5}
    assert references_of(Settings(), metric) == {}
    with pytest.raises(UsageError, match="does not say which of mae, cosine it is of: --reference mae=0"):
        references_of(Settings(reference=0), metric)
    with pytest.raises(UsageError, match="'top-1', which is not measured"):
        references_of(Settings(reference="top-1=0.5"), metric)
