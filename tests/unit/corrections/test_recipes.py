"""Which estimator and corrections are chosen, by the error on held-out samples, and what of it the lower efforts make.

covers: calib.corrections.tried
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calib.corrections import recipes, rounding, tried
from calib.corrections.candidate import Candidate, identity_of
from calib.corrections.recipes import AsFast, Recipe, choose_corrections, choose_recipe, recipe_of
from calib.corrections.scoring import Scorer
from calib.corrections.tried import HEAD_START_DB
from calib.graph.finder import find
from calib.graph.insert import Edits
from calib.graph.placement import place
from calib.graph.view import GraphView
from calib.ranges import get_estimator
from calib.ranges.assign import assign
from calib.runtime.session import ov
from calib.statistics.collect import Need, collect
from calib.values.summary import Collected

op = ov.opset13
rng = np.random.default_rng(3)


def network():
    """Two convolutions, the weights of the first with a mean, so that there is a shift to correct."""
    x = op.parameter([1, 4, 8, 8], np.float32)
    y = op.convolution(
        x, op.constant(rng.normal(0.5, 1, (8, 4, 3, 3)).astype(np.float32)), [1, 1], [1, 1], [1, 1], [1, 1]
    )
    y = op.relu(y)
    z = op.convolution(
        y, op.constant(rng.normal(0.2, 1, (6, 8, 1, 1)).astype(np.float32)), [1, 1], [0, 0], [0, 0], [1, 1]
    )
    model = ov.Model([z], [x], "two")
    for index, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(f"n{index}")
    return model


@pytest.fixture(scope="module")
def ready():
    model = network()
    view = GraphView(model)
    plan = place(view, find(view))
    samples = [[np.abs(rng.normal(size=(1, 4, 8, 8))).astype(np.float32)] for _ in range(24)]
    needs = {q.tensor: Need(histogram=True, channels=q.per_channel) for q in plan.activations}
    held = [[np.abs(rng.normal(0, 1.2, (1, 4, 8, 8))).astype(np.float32)] for _ in range(8)]
    feeds = [(str(i), str(i), sample) for i, sample in enumerate([*samples, *held])]
    summaries = collect(model, needs, feeds, held=[str(i) for i in range(24, 32)])
    return Candidate(model, view, plan, Edits()), summaries, samples, Scorer(model, held)


@pytest.fixture(scope="module")
def balanced(ready):
    base, summaries, samples, scorer = ready
    return choose_recipe(base, summaries, recipe_of("balanced"), samples[:16], scorer)


def test_the_chosen_candidate_is_the_one_that_was_scored(ready, balanced):
    scorer, chosen = ready[-1], balanced
    (best,) = [candidate for candidate in chosen.candidates if candidate.chosen]
    assert chosen.scored is not None
    assert scorer(chosen.candidate) == pytest.approx(best.sqnr_db, abs=1e-3)
    assert scorer.errors(chosen.scored.model) == chosen.scored.errors


def test_the_ranges_are_those_of_all_samples_and_the_errors_those_of_the_ranges_before(ready, balanced):
    base, summaries, _, scorer = ready
    (best,) = [candidate for candidate in balanced.candidates if candidate.chosen]
    estimator = get_estimator(best.name.split(" on all samples")[0])
    final, before = balanced.candidate.plan, balanced.before
    assert final.activations == assign(base.plan, summaries.whole, estimator).activations
    assert before is not None and before.plan.activations == assign(base.plan, summaries.kept, estimator).activations
    assert final.corrections == ("rounding and bias",)
    of_before = scorer.score(before.executable()).energies
    assert of_before.keys() == balanced.energies.keys()
    for name, energies in balanced.energies.items():
        assert np.array_equal(energies, of_before[name])
        assert not np.array_equal(energies, balanced.scored.energies[name])
    assert best.detail == "its ranges have seen these samples"


def widened(summaries: Collected, factor: float) -> Collected:
    """Return the summaries as if a held-out sample had reached further by a factor, and others no less than half."""
    wide = {
        tensor: replace(summary, low=summary.low * factor, high=summary.high * factor)
        for tensor, summary in summaries.whole.items()
    }
    return Collected(summaries.kept, wide)


@pytest.mark.parametrize(("factor", "kept"), [(1.01, True), (20.0, False)])
def test_the_ranges_before_are_kept_where_those_of_all_samples_score_clearly_lower(ready, factor, kept):
    base, summaries, samples, scorer = ready
    chosen = choose_recipe(base, widened(summaries, factor), Recipe(("minmax",)), samples, scorer)
    before, after = chosen.candidates
    assert (after.name, after.chosen, before.chosen) == ("minmax on all samples", kept, not kept)
    assert (after.sqnr_db >= before.sqnr_db - HEAD_START_DB) == kept
    of_before = scorer.score((chosen.before or chosen.candidate).executable()).energies
    assert all(np.array_equal(chosen.energies[name], energies) for name, energies in of_before.items())


def test_an_outlier_sample_that_is_held_out_does_not_widen_the_ranges(ready):
    base, summaries, samples, scorer = ready
    wide, usual = widened(summaries, 50.0).whole, summaries.whole
    whole = {t: replace(s, trimmed_low=usual[t].low, trimmed_high=usual[t].high) for t, s in wide.items()}
    recipe = Recipe(("minmax", "trimmed-minmax"))
    chosen = choose_recipe(base, Collected(summaries.kept, whole), recipe, samples, scorer)
    # the two make the same ranges of the samples kept, so that one of them is scored there, and each with all samples
    names = [candidate.name for candidate in chosen.candidates]
    assert names == ["minmax", "minmax on all samples", "trimmed-minmax on all samples"]
    assert chosen.candidates[-1].chosen


def test_a_plan_that_names_its_corrections_gets_them_again_to_the_same_bytes(ready, balanced):
    *_, samples, scorer = ready
    assert balanced.before is not None
    named = replace(balanced.before.plan, corrections=balanced.candidate.plan.corrections)
    given = replace(balanced.before, plan=named, edits=Edits())
    again = choose_corrections(given, recipe_of("balanced"), samples[:16], scorer)
    assert identity_of(again.candidate) == identity_of(replace(balanced.before, plan=named))
    assert again.candidate.edits.rounded and again.candidate.plan == named
    none = replace(given, plan=replace(given.plan, corrections=()))
    assert [c.name for c in choose_corrections(none, recipe_of("balanced"), samples[:16], scorer).candidates] == [
        "plan"
    ]


@pytest.mark.parametrize(("held", "share"), [(2, 1.0), (8, 0.5)])
def test_the_last_estimators_have_to_win_by_more_the_fewer_samples_there_are(ready, monkeypatch, held, share):
    base, summaries, samples, scorer = ready
    alone, judge = Collected(summaries.kept, summaries.kept), Scorer(base.model, scorer.held[:held])

    def chosen(margin, *names):
        monkeypatch.setattr(tried, "MARGIN_DB", margin / share)
        return choose_recipe(base, alone, Recipe(names[:2], names[2:]), samples, judge).candidates

    worse, better = sorted(chosen(0.0, "minmax", "percentile-99.9"), key=lambda c: c.sqnr_db)
    names = (worse.name, better.name, "mean-minmax")
    first, second, last = chosen(0.0, *names)
    ahead = last.sqnr_db - max(first.sqnr_db + HEAD_START_DB, second.sqnr_db)
    assert chosen(ahead - 0.01, *names)[-1].chosen and not chosen(ahead + 0.01, *names)[-1].chosen


def test_a_clipping_estimator_has_to_win_by_more_than_its_head_start(ready):
    base, summaries, samples, scorer = ready
    recipe = Recipe(("minmax", "percentile-99.9"))
    alone = Collected(summaries.kept, summaries.kept)
    plain, clipped = choose_recipe(base, alone, recipe, samples, scorer).candidates
    assert clipped.chosen == (clipped.sqnr_db > plain.sqnr_db + HEAD_START_DB)
    assert plain.chosen != clipped.chosen


def test_the_third_estimator_is_left_out_where_the_second_lost(ready):
    base, summaries, samples, scorer = ready
    alone = Collected(summaries.kept, summaries.kept)
    recipe = Recipe(("minmax", "percentile-99.9"), ("kl",))
    names = [c.name for c in choose_recipe(base, alone, recipe, samples, scorer).candidates]
    assert names == ["minmax", "percentile-99.9"]
    thorough = Recipe(("minmax", "percentile-99.9"), ("kl",), ("mean-minmax",))
    more = [c.name for c in choose_recipe(base, alone, thorough, samples, scorer).candidates]
    assert more[:2] == names and more[-1] == "mean-minmax"


def test_the_third_estimator_is_tried_where_the_second_scored_higher_by_however_little(ready):
    base, summaries, samples, scorer = ready

    def scored(*names):
        alone = Collected(summaries.kept, summaries.kept)
        return choose_recipe(base, alone, Recipe(names[:2], names[2:]), samples, scorer).candidates

    worse, better = sorted(scored("minmax", "percentile-99.9"), key=lambda c: c.sqnr_db)
    assert better.sqnr_db > worse.sqnr_db
    assert [c.name for c in scored(worse.name, better.name, "mean-minmax")] == [worse.name, better.name, "mean-minmax"]
    assert [c.name for c in scored(better.name, worse.name, "mean-minmax")] == [better.name, worse.name]


def test_thorough_scores_all_that_balanced_does_and_is_not_worse_where_it_was_scored(ready, balanced):
    base, summaries, samples, scorer = ready
    assert recipe_of("thorough").estimators == recipe_of("balanced").estimators
    whole = recipe_of("thorough")
    one_more = replace(whole, more=whole.more[:1])  # the others are one compilation each
    assert (whole.first, whole.samples) == (16, 32) and recipe_of("balanced").first == 0
    thorough = choose_recipe(base, summaries, one_more, samples, scorer)
    # corrections that learned from more samples are candidates beside those of balanced
    assert {c.name: c.sqnr_db for c in balanced.candidates}.items() <= {
        c.name: c.sqnr_db for c in thorough.candidates
    }.items()
    assert "minmax + rounding and bias from 24 samples" in {c.name for c in thorough.candidates}
    scores = [next(c.sqnr_db for c in one.candidates if c.chosen) for one in (balanced, thorough)]
    assert scores[1] >= scores[0]


def test_corrections_learn_from_the_same_samples_once_ranges_are_fitted_to_all(ready, monkeypatch):
    base, summaries, samples, scorer = ready
    learned = []
    real = rounding.correct
    monkeypatch.setattr(
        rounding, "correct", lambda one, some, *rest: learned.append(len(some)) or real(one, some, *rest)
    )
    recipe = Recipe(("minmax",), first=16, corrections={"rounding and bias": 1})
    for margin, count, title in ((100.0, 16, ""), (-100.0, 24, " from 24 samples")):
        monkeypatch.setattr(tried, "MARGIN_DB", margin)
        monkeypatch.setattr(tried, "ALIKE", 0.0)  # corrections are computed again for any other range
        names = [one.name for one in choose_recipe(base, summaries, recipe, samples, scorer).candidates]
        assert names[-1] == f"minmax on all samples + rounding and bias{title}"
        assert learned[-3:] == [16, 24, count]


@pytest.mark.parametrize(("factor", "times"), [(1.0, 1), (1.4, 2)])
def test_corrections_are_computed_once_where_ranges_of_all_samples_are_nearly_the_same(
    ready, monkeypatch, factor: float, times: int
):
    base, summaries, samples, scorer = ready
    found = []
    real = rounding.correct
    monkeypatch.setattr(rounding, "correct", lambda *given: found.append(real(*given)) or found[-1])
    monkeypatch.setattr(recipes, "HEAD_START_DB", 100.0)
    recipe = Recipe(("minmax",), corrections={"rounding and bias": 1})
    chosen = choose_recipe(base, widened(summaries, factor), recipe, samples[:16], scorer)
    assert [c.name for c in chosen.candidates if c.chosen] == ["minmax on all samples + rounding and bias"]
    assert len(found) == times
    edits, facts = found[-1][0].edits, found[-1][1]
    assert edits.rounded and chosen.candidate.edits.rounded == edits.rounded
    assert [fact for fact in chosen.corrections if fact.layer] == facts


def test_what_fast_makes_is_not_scored_where_it_is_far_behind_without_the_held_out_samples(ready, monkeypatch):
    base, summaries, samples, scorer = ready
    recipe = Recipe(("minmax", "auto"), corrections={"rounding and bias": 1})
    name = "auto on all samples, as the effort fast"
    for far in (0.0, 100.0):
        monkeypatch.setattr(recipes, "FAR_DB", far)
        found = choose_recipe(base, summaries, recipe, samples, scorer, fast=AsFast(base, summaries))
        assert (name in [one.name for one in found.candidates]) == (far > 0)


def test_an_estimator_that_only_thorough_tries_is_not_chosen_where_something_speaks_against_it(ready):
    base, summaries, samples, scorer = ready
    wide = widened(summaries, 20.0).whole  # with as many levels for what no sample has: whatever clips is ahead
    found = {}
    for reason in ("", "not chosen: a reason"):
        chosen = choose_recipe(
            base,
            Collected(wide, wide),
            Recipe(("minmax",), more=("percentile-99.9",)),
            samples,
            scorer,
            doubt=lambda ahead, usual, reason=reason: reason and f"{reason} ({ahead.name}, {usual.name})",
        )
        found[reason] = {c.name: (c.chosen, c.detail) for c in chosen.candidates}
    assert found[""] == {"minmax": (False, ""), "percentile-99.9": (True, "")}
    said = "not chosen: a reason (percentile-99.9, minmax)"
    assert found["not chosen: a reason"] == {"minmax": (True, ""), "percentile-99.9": (False, said)}


def _narrowed(summaries: Collected, factor: float) -> Collected:
    """Return the summaries as if no sample reached farther than a share of what it does: ranges clip the rest."""
    parts = (
        {t: replace(s, low=s.low * factor, high=s.high * factor) for t, s in some.items()}
        for some in (summaries.kept, summaries.whole)
    )
    return Collected(*parts)


class _Counted(Scorer):
    """A scorer that counts the models it compiles."""

    compiled = 0

    def _compile(self, model):
        self.compiled += 1
        return super()._compile(model)


def test_what_fast_makes_is_chosen_where_it_is_ahead_of_every_candidate(ready):
    base, summaries, samples, scorer = ready
    fast = AsFast(base, summaries)
    bad = choose_recipe(base, _narrowed(summaries, 0.3), Recipe(("minmax",)), samples, scorer)
    ours = {**base.__dict__, "model": base.model.clone()}  # a network of its own, as one with scales is
    good = choose_recipe(Candidate(**ours), _narrowed(summaries, 0.3), Recipe(("minmax",)), samples, scorer, fast=fast)
    scores = {one.name: one.sqnr_db for one in good.candidates}
    name = "minmax on all samples, as the effort fast"
    assert [one.name for one in good.candidates if one.chosen] == [name]
    assert scores[name] > max(one.sqnr_db for one in bad.candidates) + HEAD_START_DB
    assert good.candidate.plan.activations == assign(base.plan, summaries.whole, get_estimator("minmax")).activations
    assert good.candidate.plan.corrections == () and good.summaries is summaries.whole
    # The figure that is stated is from ranges that have not seen the held-out samples.
    assert good.before is not None
    assert good.before.plan.activations == assign(base.plan, summaries.kept, get_estimator("minmax")).activations
    of_before = scorer.score(good.before.executable()).energies
    assert all(np.array_equal(good.energies[name], energies) for name, energies in of_before.items())


def test_what_fast_makes_has_to_be_ahead_on_what_it_clips_if_it_is_by_less_than_the_head_start(ready, monkeypatch):
    base, summaries, samples, scorer = ready
    monkeypatch.setattr(recipes, "HEAD_START_DB", 100.0)
    name, asked = "minmax on all samples, as the effort fast", []
    for said in ("", "not chosen: for this"):

        def doubt(ahead, usual, said=said):
            asked.append((ahead.name, usual.name))
            return said

        ours = Candidate(**{**base.__dict__, "model": base.model.clone()})
        more = {"fast": AsFast(base, summaries), "doubt": doubt}
        found = choose_recipe(ours, _narrowed(summaries, 0.9), Recipe(("minmax",)), samples, scorer, **more)
        (own,) = (one for one in found.candidates if one.name == name)
        assert (own.chosen, own.detail) == (not said, said or "its ranges have seen these samples")
    assert asked == [(name, "minmax on all samples")] * 2


def test_what_fast_makes_is_not_chosen_where_it_is_behind(ready, balanced):
    base, summaries, samples, scorer = ready
    recipe = recipe_of("balanced")
    chosen = choose_recipe(base, summaries, recipe, samples[:16], scorer, fast=AsFast(base, summaries))
    scores = {one.name: one.sqnr_db for one in chosen.candidates}
    (best,) = (one for one in chosen.candidates if one.chosen)
    assert scores["auto on all samples, as the effort fast"] <= best.sqnr_db
    assert identity_of(chosen.candidate) == identity_of(balanced.candidate) and chosen.summaries is None


def test_what_fast_makes_costs_no_compilation_where_a_candidate_makes_the_same(ready):
    base, summaries, samples, scorer = ready
    counts = []
    for recipe in (Recipe(("minmax",)), Recipe(("minmax",), corrections={"rounding and bias": 1})):
        for fast in (None, AsFast(base, summaries)):
            counted = _Counted(base.model, scorer.held)
            choose_recipe(base, summaries, recipe, samples[:16], counted, fast=fast)
            counts.append(counted.compiled)
    assert counts[1] == counts[0]  # ranges of all samples without corrections are those of fast
    assert counts[3] == counts[2] + 1


def test_what_balanced_chooses_is_fitted_to_all_samples_too_where_thorough_chooses_another(ready, monkeypatch):
    base, summaries, samples, scorer = ready
    monkeypatch.setattr(tried, "MARGIN_DB", -100.0)  # what balanced would not try wins
    recipe = Recipe(("minmax",), more=("percentile-99.9",))
    names = [one.name for one in choose_recipe(base, summaries, recipe, samples, scorer).candidates]
    assert names == ["minmax", "percentile-99.9", "minmax on all samples", "percentile-99.9 on all samples"]


def test_corrections_of_a_given_plan_keep_its_ranges(ready):
    base, summaries, samples, scorer = ready
    found = choose_recipe(base, summaries, Recipe(("minmax",)), samples, scorer).candidate
    given = replace(found, plan=replace(found.plan, corrections=None))  # as in a plan that was made by hand
    chosen = choose_corrections(given, recipe_of("balanced"), samples[:16], scorer)
    assert replace(chosen.candidate.plan, corrections=None) == given.plan
    assert [c.name for c in chosen.candidates] == ["plan", "plan + rounding and bias"]


def test_what_corrections_do_to_the_network_is_in_the_report_beside_what_they_do_to_layers(balanced):
    scores = {c.name: c.sqnr_db for c in balanced.candidates}
    (network,) = [fact for fact in balanced.corrections if not fact.layer]
    name = next(c.name for c in balanced.candidates if c.chosen)
    name = name.replace(" on all samples", "")  # samples that the ranges have not seen tell what corrections do
    assert (network.sqnr_before_db, network.sqnr_after_db) == (scores[name.split(" + ")[0]], scores[name])
    biases = [fact for fact in balanced.corrections if fact.correction == "bias"]
    assert biases and all(fact.sqnr_before_db is not None and fact.sqnr_after_db is not None for fact in biases)
    assert biases[0].sqnr_after_db > biases[0].sqnr_before_db + 1  # weights with a mean: there is a shift to correct


def test_corrections_that_harm_the_network_on_held_out_samples_are_dropped_whole(ready, monkeypatch):
    base, summaries, samples, scorer = ready
    real = rounding.correct

    def misled(candidate, *rest):
        corrected, facts = real(candidate, *rest)
        biases = {layer: delta + np.float32(5) for layer, delta in corrected.edits.biases.items()}
        return replace(corrected, edits=Edits(corrected.edits.rounded, biases)), facts

    monkeypatch.setattr(rounding, "correct", misled)
    recipe = Recipe(("minmax",), corrections={"rounding and bias": 1})
    chosen = choose_recipe(base, Collected(summaries.kept, summaries.kept), recipe, samples[:16], scorer)
    assert [c.chosen for c in chosen.candidates] == [True, False]
    assert chosen.candidate.edits == Edits() and not chosen.corrections


def test_a_compiled_candidate_is_kept_only_of_networks_without_large_weights(ready, monkeypatch: pytest.MonkeyPatch):
    base, summaries, samples, scorer = ready
    recipe = Recipe(("minmax",), samples=16, corrections={"rounding and bias": 1})
    usual = choose_recipe(base, summaries, recipe, samples, scorer)
    assert tried.weights_in(base) == 8 * 4 * 9 + 6 * 8
    monkeypatch.setattr(tried, "LARGE", 0)
    large = choose_recipe(base, summaries, recipe, samples, scorer)
    assert usual.scored and usual.scored.compiled is not None
    assert large.scored and large.scored.compiled is None
    assert identity_of(large.candidate) == identity_of(usual.candidate)


def test_what_was_scored_before_is_let_go_of_once_it_was_looked_at(ready):
    base, summaries, samples, scorer = ready
    first = replace(base, plan=assign(base.plan, summaries.kept, get_estimator("minmax")))
    known = [(first, scorer.shipped(first))]
    score = known[0][1].score
    chosen = choose_recipe(base, summaries, Recipe(("minmax",)), samples, scorer, known=known)
    assert not known and chosen.candidates[0].sqnr_db == round(score, 3)


def test_candidates_that_clip_rank_behind_the_first_where_the_one_ahead_is_behind_on_what_it_clips(ready):
    base, summaries, samples, scorer = ready
    # one sample of those kept reaches 30 times as far as all others, and min-max makes room for it
    far = {
        tensor: replace(one, low=30 * one.low, high=30 * one.high, trimmed_low=one.low, trimmed_high=one.high)
        for tensor, one in summaries.kept.items()
    }
    recipe, asked = Recipe(("minmax", "trimmed-minmax")), []

    def chosen(said):
        def doubt(ahead, usual):
            asked.append((ahead.name, usual.name))
            return said

        return choose_recipe(base, Collected(far, far), recipe, samples[:8], scorer, doubt=doubt).candidates

    plain, clipped = chosen("")
    assert clipped.chosen and not clipped.detail and clipped.sqnr_db > plain.sqnr_db + HEAD_START_DB
    plain, clipped = chosen("not chosen: for this")
    assert plain.chosen and clipped.detail == "not chosen: for this"
    assert asked == [("trimmed-minmax", "minmax")] * 2
    choose_recipe(base, summaries, Recipe(("minmax",)), samples[:8], scorer, doubt=pytest.fail)  # nothing to ask
