"""Biases are corrected layer by layer, and found again where layers go back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from trust_fixtures.tiny import convnet, images

from calib.corrections.bias_correction import RefitBiases, local_bias_fact, sequential_correction
from calib.corrections.candidate import Candidate, identity_of
from calib.corrections.compiling import without
from calib.corrections.rounding import round_all
from calib.corrections.scoring import Scorer
from calib.engine.accuracy_control import control_accuracy
from calib.engine.baseline import measure_baseline
from calib.engine.building import build
from calib.engine.evaluation import open_evaluator
from calib.engine.prepare import prepare
from calib.graph.finder import find
from calib.graph.insert import Edits
from calib.graph.placement import place
from calib.graph.view import GraphView
from calib.progress import silent
from calib.runtime.session import Session
from calib.values.plan import Range


def test_a_bias_that_samples_held_out_in_turn_speak_against_is_not_kept():
    fp32 = np.ones((4, 1))
    for shifts, kept in (([3.0, 1.0, -0.5, 0.0], False), ([3.0, 1.0, 1.5, 2.0], True)):
        fact = local_bias_fact("layer", np.ones(1, np.float32), fp32, fp32 - np.array(shifts)[:, None])
        assert fact.sqnr_before_db is not None and fact.sqnr_after_db is not None
        assert fact.kept == kept == (fact.sqnr_after_db > fact.sqnr_before_db)


def stacked(count: int, seed: int = 3):
    return [[image[None]] for image in np.abs(images(count, seed))]


@pytest.fixture(scope="module")
def ready():
    """A candidate whose first layer clips, so that the biases behind it have much to make up for."""
    model = convnet()
    view = GraphView(model)
    plan = place(view, find(view))
    ranged = tuple(
        replace(q, range=Range(0.0, 0.8) if "first" in q.layers else Range(0.0, 30.0)) for q in plan.activations
    )
    plain = Candidate(model, view, replace(plan, activations=ranged), Edits())
    alone, _ = round_all(plain, stacked(8))
    return alone, Scorer(model, stacked(6, seed=9))


def sequential(alone: Candidate, scorer: Scorer, samples: list[list[np.ndarray]]) -> Candidate:
    candidate = sequential_correction(replace(alone, edits=Edits(alone.edits.rounded)), samples)
    assert candidate is not None
    return replace(candidate, refit=RefitBiases(samples, scorer, alone.edits))


@pytest.fixture(scope="module")
def candidate(ready) -> Candidate:
    return sequential(*ready, stacked(8))


def test_a_layer_gone_takes_what_others_had_made_up_for_it_along(ready, candidate):
    scorer = ready[1]
    carried = without(replace(candidate, refit=None), ["first"])
    found = without(candidate, ["first"])
    anew = sequential_correction(replace(carried, edits=Edits(carried.edits.rounded)), stacked(8))
    assert anew is not None and found.edits.biases.keys() == {"second", "head"}
    for layer, delta in anew.edits.biases.items():
        np.testing.assert_array_equal(found.edits.biases[layer], delta)
        assert not np.array_equal(found.edits.biases[layer], carried.edits.biases[layer])
    assert scorer(found) > scorer(carried) + 3
    assert {port.node for port in found.edits.rounded} == {"second", "head"}


def test_biases_that_score_lower_on_held_out_samples_give_way_to_those_of_each_layer_alone(ready):
    alone, scorer = ready
    elsewhere = [[10 * sample] for (sample,) in stacked(8)]
    found = without(sequential(alone, scorer, elsewhere), ["first"])
    expected = without(alone, ["first"])
    assert found.edits.biases.keys() == expected.edits.biases.keys()
    assert all(np.array_equal(found.edits.biases[k], v) for k, v in expected.edits.biases.items())
    assert scorer(found) == scorer(expected)


def test_an_order_of_reverts_makes_no_difference_and_nothing_is_left_of_a_plan_without_layers(candidate):
    one, other = without(without(candidate, ["head"]), ["first"]), without(candidate, ["first", "head"])
    assert one.edits.biases.keys() == other.edits.biases.keys() == {"second"}
    assert np.array_equal(one.edits.biases["second"], other.edits.biases["second"])
    none = without(one, ["second"])
    assert not none.edits.biases and not none.edits.rounded


def test_verdicts_know_what_the_biases_of_other_plans_come_from(ready, candidate):
    alone, scorer = ready
    changed = [
        replace(candidate, refit=None),
        replace(candidate, refit=RefitBiases(stacked(8, seed=5), scorer, alone.edits)),
        replace(candidate, refit=RefitBiases(stacked(8), Scorer(alone.model, stacked(6, seed=5)), alone.edits)),
    ]
    again = replace(candidate, refit=RefitBiases(stacked(8), scorer, alone.edits))
    assert identity_of(again) == identity_of(candidate)
    assert len({identity_of(one) for one in (candidate, *changed)}) == 4


def test_the_promised_figure_is_that_of_the_model_whose_biases_were_found_again(ready, candidate, tmp_path):
    validation = np.abs(images(16, seed=4))
    flags = {"metric": "relative-l2", "max_drop": 0.05, "effort": "fast"}
    job = prepare(candidate.model, [np.abs(image) for image in images(8)], flags=flags)
    exam = open_evaluator(job, validation)
    assert exam is not None
    runs, whole = [], build(candidate)
    for resume in (False, True):
        with silent("search") as stage:
            baseline = measure_baseline(exam, store=tmp_path / "s", resume=resume, stage=stage)
            runs.append(control_accuracy(job, whole, baseline, store=tmp_path / "s", stage=stage))
    kept, again = runs
    assert kept.built is not None and kept.result is not None and again.built is not None
    reverted = sorted(kept.result.reverted)
    assert "first" in reverted and len(kept.built.plan.layers) == 3 - len(reverted) > 0
    assert kept.built.candidate.edits.biases.keys() == without(candidate, reverted).edits.biases.keys()
    for layer, delta in without(candidate, reverted).edits.biases.items():
        np.testing.assert_array_equal(kept.built.candidate.edits.biases[layer], delta)
        assert not np.array_equal(delta, candidate.edits.biases[layer])
    plain, int8 = Session(candidate.model), Session(kept.built.model)
    pairs = [(plain([image[None]])[0], int8([image[None]])[0]) for image in validation]
    expected = np.mean([1 - np.linalg.norm(y_q - y) / np.linalg.norm(y) for y, y_q in pairs])
    assert kept.facts.quantized == again.facts.quantized == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(Session(kept.built.model)(ready[1].held[0]), Session(again.built.model)(ready[1].held[0]))
