"""What every correction of the table promises; a new line of it is tested by these before it has a test of its own.

The samples are in one order, that of their ids: no correction has to give the same bytes for another.

covers: calib.config.efforts, calib.corrections, calib.corrections.candidate
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from calib.config.efforts import EFFORTS
from calib.corrections import CORRECTIONS, get_correction
from calib.corrections.candidate import Arrays, Candidate, identity_of
from calib.corrections.recipes import Recipe, choose_corrections, recipe_of
from calib.corrections.scoring import Scorer
from calib.graph.finder import find
from calib.graph.insert import Edits
from calib.graph.placement import place
from calib.graph.view import GraphView
from calib.ranges import ESTIMATORS, get_estimator
from calib.ranges.assign import assign
from calib.runtime.session import Session, ov
from calib.statistics.collect import Need, collect
from calib.values.facts import CorrectionFacts

op = ov.opset13
CHANNELS = {"first": 8, "second": 8, "third": 6}


def network() -> ov.Model:
    """Three layers whose weights have a mean, so that rounding them shifts every output."""
    rng = np.random.default_rng(7)

    def convolution(x: Any, *shape: int, pad: int, name: str) -> Any:
        weights = op.constant(rng.normal(0.4, 1, shape).astype(np.float32))
        node = op.convolution(x, weights, [1, 1], [pad, pad], [pad, pad], [1, 1])
        node.set_friendly_name(name)
        return node

    x = op.parameter([1, 4, 8, 8], np.float32, name="x")
    y = op.relu(convolution(x, 8, 4, 3, 3, pad=1, name="first"))
    y = op.relu(convolution(y, 8, 8, 3, 3, pad=1, name="second"))
    return ov.Model([convolution(y, 6, 8, 1, 1, pad=0, name="third")], [x], "three")


@dataclass(frozen=True)
class Given:
    candidate: Candidate
    samples: Sequence[Arrays]
    held: Sequence[Arrays]

    def scorer(self, streams: int = 1) -> Scorer:
        return Scorer(self.candidate.model, self.held, streams)


@pytest.fixture(scope="module")
def given() -> Given:
    rng, model = np.random.default_rng(8), network()
    samples = [[np.abs(rng.normal(size=(1, 4, 8, 8))).astype(np.float32)] for _ in range(24)]
    view = GraphView(model)
    plan = place(view, find(view))
    needs = {quantizer.tensor: Need(channels=quantizer.per_channel) for quantizer in plan.activations}
    summaries = collect(model, needs, [(str(i), str(i), sample) for i, sample in enumerate(samples[:16])]).whole
    plan = assign(plan, summaries, get_estimator("minmax"))
    return Given(Candidate(model, view, plan, Edits()), samples[:16], samples[16:])


def contents(model: ov.Model) -> list[Any]:
    """What a model is made of: operations, names and constants."""
    nodes = [(node.get_type_name(), node.get_friendly_name()) for node in model.get_ordered_ops()]
    constants = [node for node in model.get_ordered_ops() if node.get_type_name() == "Constant"]
    return [nodes, [node.data.tobytes() for node in constants]]  # pyright: ignore[reportAttributeAccessIssue]


def corrected(name: str, given: Given, streams: int = 1) -> tuple[Candidate, list[CorrectionFacts]]:
    found = get_correction(name)(given.candidate, given.samples, given.scorer(streams))
    assert found is not None, "the network is as plain as can be: every correction applies to it"
    return found


def edited(candidate: Candidate) -> set[str]:
    return {port.node for port in candidate.edits.rounded} | set(candidate.edits.biases)


@pytest.fixture(scope="module", params=CORRECTIONS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def result(name: str, given: Given) -> tuple[Candidate, list[CorrectionFacts]]:
    return corrected(name, given)


def test_a_row_is_tried_by_efforts_of_the_table_that_score_and_by_the_most_thorough(name: str):
    row = CORRECTIONS[name]
    assert row.tried_on.keys() <= {effort for effort, facts in EFFORTS.items() if facts.held_out}
    assert "thorough" in row.tried_on and all(count > 0 for count in row.tried_on.values())


def test_it_changes_weights_or_biases_of_layers_of_the_plan_and_nothing_else(result: Any, given: Given):
    candidate, _ = result
    assert candidate.model is given.candidate.model and candidate.view is given.candidate.view
    assert candidate.plan == given.candidate.plan
    assert edited(candidate)  # of this network every correction finds something to correct
    assert edited(candidate) <= {layer.name for layer in given.candidate.plan.layers}
    for port, (weights, scale) in candidate.edits.rounded.items():
        assert weights.dtype == np.int8 and scale.dtype == np.float32 and np.isfinite(scale).all(), port
    for layer, delta in candidate.edits.biases.items():
        assert delta.dtype == np.float32 and np.isfinite(delta).all(), layer


def test_the_candidate_given_stays_as_it_is(name: str, given: Given):
    known = identity_of(given.candidate), contents(given.candidate.model)
    samples = [[array.copy() for array in sample] for sample in given.samples]
    corrected(name, given)
    assert (identity_of(given.candidate), contents(given.candidate.model)) == known
    for before, after in zip(samples, given.samples, strict=True):
        np.testing.assert_array_equal(before, after)


def test_it_says_what_it_did_to_each_layer(result: Any, given: Given):
    candidate, facts = result
    layers = {layer.name for layer in given.candidate.plan.layers}
    assert {fact.layer for fact in facts} <= layers and all(fact.correction and fact.detail for fact in facts)
    assert edited(candidate) == {fact.layer for fact in facts if fact.kept}


def test_bytes_do_not_depend_on_streams_or_on_the_run(name: str, result: Any, given: Given):
    for streams in (1, 2):
        again, facts = corrected(name, given, streams)
        assert identity_of(again) == identity_of(result[0]) and facts == result[1]


def test_a_layer_that_leaves_the_plan_takes_its_edits_along(result: Any, given: Given):
    for layer in CHANNELS:
        left = result[0].without({layer: "reverted"})
        assert layer not in edited(left)
        assert edited(left) <= {one.name for one in left.plan.layers}
        assert np.isfinite(Session(left.quantized())(given.held[0])[0]).all()


def test_in_floating_point_nothing_is_left_of_it(result: Any, given: Given):
    left = result[0].without(dict.fromkeys(CHANNELS, "reverted"))
    expected, found = Session(given.candidate.model)(given.held[0]), Session(left.quantized())(given.held[0])
    np.testing.assert_array_equal(found[0], expected[0])


def test_its_candidate_takes_the_place_of_the_one_given_only_where_held_out_samples_gain(name: str, given: Given):
    scorer = given.scorer()
    chosen = choose_corrections(given.candidate, Recipe(corrections={name: 1}), given.samples, scorer)
    plain, better = chosen.candidates
    assert (plain.name, better.name) == ("plan", f"plan + {name}")
    assert better.chosen == (scorer(chosen.candidate) > scorer(given.candidate))
    assert better.chosen or chosen.candidate.edits is given.candidate.edits


def test_a_candidate_that_it_spoils_is_dropped_whole(name: str, given: Given, monkeypatch: pytest.MonkeyPatch):
    module = importlib.import_module(CORRECTIONS[name].module)
    honest = module.correct

    def spoilt(*arguments: Any) -> tuple[Candidate, list[CorrectionFacts]]:
        candidate, facts = honest(*arguments)
        biases = {layer: np.full(CHANNELS[layer], 50, np.float32) for layer in CHANNELS}
        return replace(candidate, edits=Edits(candidate.edits.rounded, biases)), facts

    monkeypatch.setattr(module, "correct", spoilt)
    chosen = choose_corrections(given.candidate, Recipe(corrections={name: 1}), given.samples, given.scorer())
    assert [one.chosen for one in chosen.candidates] == [True, False]
    assert chosen.candidate.edits is given.candidate.edits and not chosen.corrections


def test_it_applies_to_what_those_before_it_in_the_table_made(name: str, given: Given):
    before = list(CORRECTIONS)[: list(CORRECTIONS).index(name)]
    start = given
    for earlier in before:
        start = replace(start, candidate=corrected(earlier, start)[0])
    candidate, _ = corrected(name, start)
    assert candidate.plan == given.candidate.plan and edited(candidate)


def test_thorough_tries_every_estimator_and_every_correction():
    recipe = recipe_of("thorough")
    assert sorted((*recipe.estimators, *recipe.if_clipping_pays, *recipe.more)) == sorted(ESTIMATORS)
    assert list(recipe.corrections) == list(CORRECTIONS)


@pytest.mark.parametrize("effort", EFFORTS)
def test_an_estimator_that_is_asked_for_takes_the_place_of_several(effort: str):
    own, usual = ESTIMATORS["mse"], recipe_of(effort)
    for asked in ("mse", own):
        assert recipe_of(effort, asked) == replace(usual, estimators=(asked,), if_clipping_pays=(), more=())


def test_an_effort_that_scores_holds_samples_out_and_one_that_learns_has_samples():
    for name, effort in EFFORTS.items():
        several = bool(effort.estimators)
        assert several == bool(effort.held_out) == bool(effort.samples), name
        assert effort.does and effort.activations_held > 0
        assert {*effort.estimators, *effort.if_clipping_pays} <= ESTIMATORS.keys()
