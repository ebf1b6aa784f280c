"""Layers return to floating point up to the knee, without labels and without a budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from building import Net, op

import calib
from calib.accuracy.knee import KneePoint
from calib.accuracy.prediction import RankedUnit
from calib.engine.building import Int8Model
from calib.engine.knee import Knee, knee_facts, take_knee
from calib.errors import UsageError
from calib.report import charts, digest
from calib.runtime.session import Session, ov
from calib.values.facts import SpeedFacts

SPEED = SpeedFacts(
    latency_f32_ms=2.8, latency_default_ms=2.0, latency_int8_ms=1.0, speedup_f32=2.0, speedup_default=2.0
)
GIVEN: dict[str, Any] = {"effort": "fast", "estimator": "minmax", "target": "cpu-no-vnni"}


def one_bad_layer() -> tuple[ov.Model, list[np.ndarray]]:
    """Return a network whose last, small layer reads a huge row of pixels that no output shows, and samples."""
    net = Net(3)
    x = op.relu(net.conv(net.input(1, 4, 8, 8), 8))
    x = op.relu(net.conv(op.relu(net.conv(x, 8)), 8))
    huge = np.ones((1, 1, 8, 1), np.float32)
    huge[:, :, 0] = 300
    weights = np.random.default_rng(0).normal(size=(2, 8, 1, 1)).astype(np.float32)
    bad = op.convolution(op.multiply(x, op.constant(huge)), op.constant(weights), [1, 1], [0, 0], [0, 0], [1, 1])
    bad.set_friendly_name("bad")
    shown = op.slice(bad, *(op.constant(np.array([value])) for value in (1, 8, 1, 2)))
    rng = np.random.default_rng(1)
    return net.model(shown), [rng.normal(size=(1, 4, 8, 8)).astype(np.float32) for _ in range(16)]


@pytest.fixture(scope="module")
def taken():
    model, samples = one_bad_layer()
    return model, samples, calib.quantize(model, samples, knee=True, **GIVEN, speed=False)


def test_the_layer_that_costs_most_for_its_work_returns_and_the_report_says_so(taken):
    model, samples, result = taken
    knee = result.report.knee
    assert knee is not None and knee.taken and knee.layers == ["bad"]
    assert [layer.name for layer in result.plan.skipped if layer.reason.startswith("returned by --knee")] == ["bad"]
    assert knee.sentence.startswith("1 layer in floating point: about +") and knee.sentence.endswith("as --knee asks.")
    assert result.report.ranking and result.report.ranking[0].layers == ["bad"]
    rows = [
        np.stack([outputs[0] for outputs in Session(one).each([sample] for sample in samples)])
        for one in (model, result.model)
    ]
    found = -10 * np.log10(float(((rows[1] - rows[0]) ** 2).sum() / (rows[0] ** 2).sum()))
    first, point = knee.points[0], next(one for one in knee.points if one.layers == 1)
    assert first.sqnr_db < 12 and abs(found - point.sqnr_db) < 3
    assert any(fact.detail in knee.sentence for fact in digest.facts(result.report) if fact.name == "Knee")
    rows = charts.report_charts(result.report)["knee"]["data"]["values"]
    assert [row["kind"] for row in rows].count("knee") == 1 and rows[0]["at"] == 0.0


def test_a_run_with_a_budget_draws_the_knee_and_does_not_take_it(taken):
    model, samples, _ = taken
    report = calib.quantize(model, samples, validation=samples, min_sqnr=25, **GIVEN, speed=False).report
    assert report.knee is not None and not report.knee.taken and report.knee.layers == ["bad"]
    assert report.knee.sentence.endswith("which --knee takes.")


def test_a_knee_that_was_asked_for_and_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch):
    model, samples = one_bad_layer()
    given: list[Any] = []

    def noted(*arguments: Any) -> tuple[Int8Model, Knee]:
        given[:] = arguments
        return take_knee(*arguments)

    monkeypatch.setattr("calib.engine.knee.take_knee", noted)
    monkeypatch.setattr("calib.engine.knee.ranked_units", lambda *_: ())
    unknown = calib.quantize(model, samples, knee=True, **GIVEN, speed=False).report
    assert unknown.knee is None
    assert any("since no layer was ranked or no output was scored" in text for text in digest.to_know(unknown)[0])
    units = [RankedUnit(unit, 1.0) for unit in given[1].plan.units()]
    monkeypatch.setattr("calib.engine.knee.ranked_units", lambda *_: units)
    built, none = take_knee(*given)
    assert built is given[1] and none.point is None and not none.taken
    assert any("--knee returned no layers: few layers do not stand out" in text for text in none.warnings)


def test_a_plan_is_applied_as_it_is(taken):
    model, samples, result = taken
    with pytest.raises(UsageError, match="leave out --knee or --plan"):
        calib.quantize(model, samples, plan=result.plan, knee=True, **GIVEN)


@pytest.mark.parametrize(("taken", "said"), [(False, "0.180 ms or 18 %"), (True, "0.200 ms or 25 %")])
def test_milliseconds_lie_on_the_line_through_the_latencies_that_were_measured(taken: bool, said: str):
    points = KneePoint((), 0.0, 20.0), KneePoint(("a",), 0.1, 28.0)
    facts = knee_facts(Knee(points, points[1], (), taken), SPEED)
    assert facts.sentence.startswith(f"1 layer in floating point: about +8.0 dB for 10.0 % of the work, about {said}")
    none = knee_facts(Knee(points, None, ()), SPEED)
    assert none.sentence.startswith("There is no knee") and none.layers == []
