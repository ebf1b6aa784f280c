"""What the fast effort would make of an equalized network competes too: its statistics, and the choice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from building import Net, max_pool, op
from numpy.typing import NDArray

import calib
from calib.corrections.candidate import Candidate
from calib.corrections.half_range import Levels
from calib.corrections.recipes import Chosen, choose_recipe
from calib.corrections.scoring import Scored
from calib.engine.correcting import FloatNetwork, choose_ranges, collect_statistics, rescaled
from calib.engine.job import Job
from calib.engine.placing import place_quantizers
from calib.engine.prepare import prepare
from calib.graph.insert import Edits
from calib.progress import silent
from calib.ranges import get_estimator
from calib.ranges.assign import assign
from calib.runtime.session import Session, ov
from calib.values.facts import CorrectionFacts
from calib.values.plan import FULL_RANGE, HALF_RANGE, QuantizationPlan, Scaling, TensorId
from calib.values.summary import Collected

CHANNELS = 8


@pytest.fixture(scope="module")
def job() -> Job:
    net = Net(3)
    x = op.relu(net.conv(net.input(1, 4, 8, 8), CHANNELS))
    x.set_friendly_name("relu")
    model = net.model(net.conv(max_pool(x), 4))
    return prepare(model, calibration_images(), flags={"speed": False, "target": "cpu-no-vnni"})


def calibration_images() -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-1, 1, (40, 4, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def plan(job: Job) -> QuantizationPlan:
    return place_quantizers(job)


def _collected(job: Job, base: FloatNetwork, plan: QuantizationPlan) -> Collected:
    with silent("statistics") as stage:
        return collect_statistics(job, base, plan, stage)


def _harmed(job: Job, plan: QuantizationPlan) -> FloatNetwork:
    """Return the network with one channel 500 times as large as the others, which leaves these a single level."""
    (tensor,) = [q.tensor for q in plan.activations if q.tensor.node not in {p.node for p in _inputs(job)}]
    fact = CorrectionFacts(correction="equalization", layer=str(tensor), kept=True, detail="on purpose")
    scaling = Scaling(tensor, (1 / 500, *[1.0] * (CHANNELS - 1)))
    return replace(rescaled(job, (scaling,)), facts=(fact,))


def _inputs(job: Job) -> list[TensorId]:
    return [TensorId(node.get_friendly_name()) for node in job.loaded.model.get_parameters()]


def test_statistics_without_equalization_are_those_of_the_network_without(job: Job, plan: QuantizationPlan):
    found = _collected(job, _harmed(job, plan), plan)
    expected = _collected(job, FloatNetwork(job.loaded.model, job.view), plan)
    assert expected.plain is None and found.plain is not None
    for ours, theirs in ((found.plain.whole, expected.whole), (found.plain.kept, expected.kept)):
        assert set(ours) == set(theirs)
        for tensor, summary in theirs.items():
            one = ours[tensor]
            assert (one.tensor, one.samples) == (tensor, summary.samples)
            assert (one.low, one.high, one.next_high) == pytest.approx(
                (summary.low, summary.high, summary.next_high), rel=1e-5
            )
            assert one.histogram is not None and summary.histogram is not None
            assert one.histogram.total == summary.histogram.total
    assert any(found.whole[tensor].high > 10 * found.plain.whole[tensor].high for tensor in found.whole)


def test_what_fast_would_give_is_chosen_where_equalization_harms(job: Job, plan: QuantizationPlan):
    base = _harmed(job, plan)
    summaries = _collected(job, base, plan)
    chosen = choose_ranges(job, base, plan, summaries, lambda note: None)
    names = [one.name for one in chosen.candidates]
    assert any(name.startswith("auto without equalization") for name in names), names
    assert chosen.candidate.plan.scalings == () and chosen.candidate.model is job.loaded.model
    fact = next(fact for fact in chosen.corrections if fact.correction == "equalization")
    assert not fact.kept and "smaller error without equalization" in fact.detail
    assert chosen.before is not None  # fitted to all samples, as fast does
    without = FloatNetwork(job.loaded.model, job.view)
    fast = assign(plan, _collected(job, without, plan).whole, get_estimator("auto"))
    ends = [[(q.range.low, q.range.high) for q in one.activations if q.range] for one in (chosen.candidate.plan, fast)]
    assert np.array(ends[0]) == pytest.approx(np.array(ends[1]), rel=0.01)  # histograms are of other values
    assert summaries.of(chosen.candidate.plan) is summaries.plain.whole  # type: ignore[union-attr]


def test_scales_in_front_that_harm_are_left_out_by_the_error_of_the_outputs(job: Job, plan: QuantizationPlan):
    (x,) = [q for q in plan.activations if q.tensor in _inputs(job)]
    scaling = Scaling(x.tensor, (1 / 500, 1.0, 1.0, 1.0), tuple(sorted(x.consumers)))
    fact = CorrectionFacts(correction="inserted scales", layer=str(x.tensor), kept=True, detail="on purpose")
    base = replace(rescaled(job, (scaling,)), facts=(fact,))
    summaries = _collected(job, base, plan)
    chosen = choose_ranges(job, base, plan, summaries, lambda note: None)
    assert any(name.startswith("auto without inserted scales") for name in [one.name for one in chosen.candidates])
    assert chosen.candidate.plan.scalings == () and {q.tensor for q in plan.activations} == {
        q.tensor for q in chosen.candidate.plan.activations
    }
    assert [one.kept for one in chosen.corrections if one.correction == "inserted scales"] == [False]
    assert set(summaries.of(chosen.candidate.plan)) >= {q.tensor for q in plan.activations}


def outlier_channels(count: int) -> tuple[ov.Model, list[np.ndarray]]:
    """Return a layer of which two channels of the input are 80 times the others, and samples."""
    net = Net(5)
    scale = np.ones(16, np.float32)
    scale[[3, 8]] = 80
    weights = (net.rng.standard_normal((16, 16)) / scale[:, None]).astype(np.float32)
    model = net.model(op.matmul(net.input(1, 200, 16), op.constant(weights), False, False))
    samples = [net.rng.standard_normal((1, 200, 16)).astype(np.float32) * scale for _ in range(count)]
    return model, samples


def test_fast_puts_scales_in_front_of_layers_that_read_outlier_channels():
    model, samples = outlier_channels(40)
    result = calib.quantize(model, samples, effort="fast", target="cpu-no-vnni", speed=False)
    (fact,) = result.report.corrections
    assert fact.correction == "inserted scales" and fact.kept
    (layer,) = result.report.layers
    assert layer.executed == "i8"
    rows = [
        np.concatenate([y.ravel() for [y] in Session(one).each([sample] for sample in samples)])
        for one in (model, result.model)
    ]
    noise = float(((rows[1] - rows[0]) ** 2).mean() / (rows[0] ** 2).mean())
    assert -10 * np.log10(noise) > 30  # 8 without: the outliers leave the others a level or two
    (quantizer,) = result.plan.activations
    assert result.plan.scalings[0].scaled == quantizer.tensor and quantizer.range is not None
    assert quantizer.range.estimator == "minmax"


def test_the_scales_of_fast_compete_with_those_that_balanced_measures():
    model, samples = outlier_channels(20)
    asked = {"target": "cpu-no-vnni", "speed": False}
    job = prepare(model, samples, flags=asked)
    plan = place_quantizers(job)
    base = FloatNetwork(job.loaded.model, job.view)  # as if equalization had found nothing
    summaries = _collected(job, base, plan)
    chosen = choose_ranges(job, base, plan, summaries, lambda note: None)
    assert [one.name for one in chosen.candidates if one.chosen] == ["auto on all samples, as the effort fast"]
    fast = calib.quantize(model, samples, effort="fast", **asked)
    assert chosen.candidate.plan.scalings == fast.plan.scalings
    assert [fact.correction for fact in chosen.corrections if fact.kept] == ["inserted scales"]
    ends = [[(q.tensor, q.range) for q in one.activations] for one in (chosen.candidate.plan, fast.plan)]
    assert ends[0] == ends[1] and chosen.summaries is not None and set(chosen.summaries) >= {ends[0][0][0]}
    assert chosen.before is not None and chosen.before.plan.scalings == fast.plan.scalings


@pytest.mark.parametrize(("halved_db", "levels"), [(99.0, HALF_RANGE), (-99.0, FULL_RANGE)])
def test_weights_take_half_their_range_where_only_there_corrections_help(
    monkeypatch: pytest.MonkeyPatch, job: Job, halved_db: float, levels: int
):
    """On a CPU whose sums saturate corrections may help with half of the levels only: that is tried as well."""
    auto = prepare(job.loaded.model, calibration_images(), flags={"speed": False, "target": "cpu"})
    plan = place_quantizers(auto)
    halved = replace(plan, weights=tuple(replace(one, levels=HALF_RANGE) for one in plan.weights))
    monkeypatch.setattr(Job, "chooses_levels", True)
    other = Candidate(auto.loaded.model.clone(), auto.view, plan, Edits())  # what was scored is no candidate
    tried = Levels(plan, "", other, Scored(other.model, None, {}, {}, 0.0), halved)
    monkeypatch.setattr(
        "calib.engine.correcting._suited", lambda job, base, plan, *rest: (_with_warning(base), plan, tried)
    )

    def chosen(base: Candidate, *arguments: Any, **settings: Any) -> Chosen:
        found = choose_recipe(base, *arguments, **settings)
        assert found.scored is not None
        half = {one.levels for one in base.plan.weights} == {HALF_RANGE}
        scored = replace(found.scored, score=halved_db if half else 0.0)
        corrected = found.candidate if half else replace(found.candidate, plan=_uncorrected(found.candidate.plan))
        return replace(found, scored=scored, candidate=corrected)

    monkeypatch.setattr("calib.engine.correcting.choose_recipe", chosen)
    base = FloatNetwork(auto.loaded.model, auto.view)
    found = choose_ranges(auto, base, plan, _collected(auto, base, plan), lambda note: None)
    assert {one.levels for one in found.candidate.plan.weights} == {levels}
    said = "corrected the outputs are at 99.0 dB" if levels == HALF_RANGE else "all levels are kept"
    assert len(found.warnings) == 1 and said in found.warnings[0]


def _with_warning(base: FloatNetwork) -> FloatNetwork:
    return replace(base, warnings=("all levels are kept",))


def _uncorrected(plan: QuantizationPlan) -> QuantizationPlan:
    return replace(plan, corrections=())


def test_fast_makes_ranges_without_a_sample_that_is_far_beyond_the_others_in_most_tensors():
    net = Net(3)
    x = op.relu(net.conv(net.input(1, 4, 8, 8), CHANNELS))
    model, samples = net.model(net.conv(x, 4)), list(calibration_images()[:, None])
    samples[7] = samples[7] * np.float32(50)
    result = calib.quantize(model, samples, effort="fast", target="cpu-no-vnni", speed=False)
    others = samples[:7] + samples[8:]
    rows = [np.concatenate([Session(one)([sample])[0].ravel() for sample in others]) for one in (model, result.model)]
    noise = float(((rows[1] - rows[0]) ** 2).mean() / (rows[0] ** 2).mean())
    assert -10 * np.log10(noise) > 25  # 3 dB with ranges of all
    (said,) = [text for text in result.report.warnings if text.startswith("Ranges are trimmed-minmax, not auto")]
    assert "1 sample" in said and "item 7 " in said
