"""Levels of weights on a CPU whose sums saturate: what outputs say, and what layers in floating point have to give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from building import Net
from cpu_features import EXACT_INT8

import calib
from calib.corrections import half_range
from calib.corrections.candidate import Candidate
from calib.corrections.half_range import suited
from calib.corrections.scoring import Scored
from calib.graph.insert import Edits
from calib.graph.placement import planned
from calib.graph.view import GraphView
from calib.runtime.session import ov
from calib.values.plan import FULL_RANGE, HALF_RANGE, THREE_QUARTERS

op = ov.opset13


@dataclass
class Stand:
    """Stands for a scorer: an SQNR for weights of full range, half range, that with fewer layers, three quarters."""

    full: float
    half: float
    fewer: float = float("-inf")
    between: float = float("-inf")
    on = "2 samples"

    def shipped(self, candidate: Candidate) -> Scored:
        return Scored(candidate.model, None, {}, {}, self._score(candidate))

    def _score(self, candidate: Candidate) -> float:
        if all(w.levels == FULL_RANGE for w in candidate.plan.weights):
            return self.full
        if all(w.levels == THREE_QUARTERS for w in candidate.plan.weights):
            assert self.between > float("-inf"), "it was scored for nothing"
            return self.between
        return self.half if len(candidate.plan.layers) == LAYERS else self.fewer


def candidate() -> Candidate:
    """Return two MatMuls by weights and one of their outputs by each other, with its plan."""
    net = Net()
    x = net.input(1, 8, 16)
    model = net.model(op.matmul(net.dense(x, 16), net.dense(x, 16), False, True))
    view = GraphView(model)
    return Candidate(model, view, planned(view), Edits())


LAYERS = len(candidate().plan.layers)


def chosen(scores: Stand) -> tuple[int, set[int], Any]:
    """Return the number of layers, the levels of their weights, and the result."""
    made = candidate()
    found = suited(made, made, scores)  # type: ignore[arg-type]
    return len(found.plan.layers), {w.levels for w in found.plan.weights}, found


def test_the_network_has_a_product_of_activations():
    assert LAYERS == 3


@pytest.mark.parametrize(
    ("scores", "layers", "levels"),
    [
        (Stand(33.0, 29.0, 29.9, 33.9), 3, FULL_RANGE),
        (Stand(33.0, 29.0, 29.9, 34.0), 3, THREE_QUARTERS),
        (Stand(22.1, 25.0, 25.9, 26.0), 3, THREE_QUARTERS),
        (Stand(22.1, 25.0, 27.0, 26.0), 2, HALF_RANGE),
        (Stand(20.0, 25.0, 25.9), 3, HALF_RANGE),
        (Stand(20.0, 25.0, 26.0), 2, HALF_RANGE),
        (Stand(25.0, 25.0, 25.0, 25.9), 3, HALF_RANGE),  # level on these samples; with half of the range on any
        (Stand(30.0, 25.0, 31.1, 30.0), 2, HALF_RANGE),
    ],
)
def test_the_highest_score_counts_and_layers_have_to_be_worth_a_decibel(scores: Stand, layers: int, levels: int):
    assert chosen(scores)[:2] == (layers, {levels})


def test_half_range_that_is_behind_is_kept_with_its_score_unless_the_network_is_large(monkeypatch: pytest.MonkeyPatch):
    *_, found = chosen(Stand(33.0, 29.0, between=33.5))
    known, scored = found.half
    assert known.plan.activations == found.candidate.plan.activations and known.plan.weights == found.halved.weights
    assert scored.score == 29.0 and scored.compiled is None
    assert chosen(Stand(20.0, 25.0))[2].half is None
    monkeypatch.setattr(half_range, "LARGE", 0)
    assert chosen(Stand(33.0, 29.0, between=33.5))[2].half is None


def test_the_report_gets_the_figures_of_both_and_the_reason_of_what_is_left_out():
    *_, found = chosen(Stand(20.1, 25.2, 36.6))
    assert all(
        part in found.sentence
        for part in ("36.6 dB on 2 samples in place of 20.1 dB", "all the same (1)", "--target cpu")
    )
    (skipped,) = found.plan.skipped
    assert found.is_of(replace(found.candidate, plan=found.plan))  # what ran has no reasons yet
    assert "25.2 dB on 2 samples with it and its like in INT8, 36.6 dB without" in skipped.reason
    *_, found = chosen(Stand(33.3, 29.4, between=34.2))
    assert "at 33.3 dB on 2 samples, with half of them at 29.4 dB" in found.sentence
    *_, found = chosen(Stand(33.3, 29.4, between=34.4))
    assert "at 34.4 dB on 2 samples, with all of them at 33.3 dB, with half at 29.4 dB" in found.sentence


def loud(weight: float) -> ov.Model:
    """Return a MatMul whose products all have one sign, so that pairs of 8-bit ones don't fit into 16 bits."""
    net = Net()
    weights = np.full((64, 16), weight, np.float32)
    return net.model(op.matmul(op.relu(net.input(1, 64)), op.constant(weights), False, False))


@pytest.mark.parametrize("effort", ["fast", "balanced"])
def test_the_default_target_gives_what_is_right_on_this_cpu(effort: str):
    model, rng = loud(0.5), np.random.default_rng(2)
    samples = [rng.uniform(0.5, 1, (1, 64)).astype(np.float32) for _ in range(30)]
    result = calib.quantize(model, samples, effort=effort, speed=False)
    assert result.report.output_sqnr_db and min(result.report.output_sqnr_db.values()) > 30
    said = [sentence for sentence in result.report.warnings if "INT8 sums" in sentence]
    assert len(said) == (not EXACT_INT8) and all("weights take half of their levels" in one for one in said)
