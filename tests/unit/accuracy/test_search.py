"""The search keeps its budget, spends no more than it may, and says what it did.

covers: calib.accuracy.bisect, calib.accuracy.proposals, calib.accuracy.result,
calib.accuracy.screening
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from calib.accuracy.budget import Budget
from calib.accuracy.ledger import Ledger, Trial
from calib.accuracy.prediction import RankedUnit
from calib.accuracy.problem import Limits, Problem, bound, bound_images, bound_of, reversions
from calib.accuracy.proposals import Proposals
from calib.accuracy.search import fastest, search


class Mean:
    higher_is_better = True

    def aggregate(self, parts):
        return float(np.mean(parts))

    def per_sample(self, parts):
        return np.asarray(parts, float)


class Whole(Mean):
    """No mean over samples: plans are judged on all of them only."""

    def per_sample(self, parts):
        return None


def _units(sensitivities) -> tuple[RankedUnit, ...]:
    found = [RankedUnit(frozenset({f"l{i}"}), sensitivity) for i, sensitivity in enumerate(sensitivities)]
    return tuple(sorted(found, key=lambda unit: -unit.sensitivity))


def _ranking(ranked):
    """Return what a problem begins with: the units, and the function that ranks them."""
    return tuple(unit.layers for unit in ranked), lambda: ranked


def _problem(ranked, lost, samples=300, **settings) -> Problem:
    """``lost(reverted) → how many samples the plan loses``, the same ones first."""
    settings.setdefault("budget", Budget(0.01))

    def evaluate(reverted, indices):
        return [float(i >= lost(reverted)) for i in indices]

    return Problem(*_ranking(ranked), [1.0] * samples, Mean(), evaluate=evaluate, **settings)


def _additive(weights):
    return lambda reverted: round(sum(w for name, w in weights.items() if name not in reverted))


def test_int8_that_fits_is_taken_after_all_samples_were_seen_once():
    result = search(_problem(_units([0.1, 0.2]), lambda reverted: 3))
    assert result.status == "within_budget" and result.reverted == frozenset()
    assert (result.evaluations, result.compilations, result.images_evaluated) == (2, 1, 600)
    assert result.figure is not None and result.figure.drop == pytest.approx(0.01)
    assert [(step.kind, step.samples) for step in result.steps] == [("int8", 30), ("int8", 300)]


def test_culprit_is_reverted_and_the_rest_stays_in_int8():
    result = search(_problem(_units([1e-6] * 7 + [1.0]), lambda reverted: 0 if "l7" in reverted else 200))
    assert result.reverted == frozenset({"l7"})
    assert result.images_evaluated <= 4.3 * 300


def test_culprit_that_the_ranking_missed_is_still_found():
    # An output error that the metric does not mind: only l6 matters, and it is next to last.
    sensitivities = [0.1 * 0.9**i for i in range(8)]
    lost = lambda reverted: 0 if "l6" in reverted else 200  # noqa: E731
    result = search(_problem(_units(sensitivities), lost, limits=Limits(images=20)))
    assert result.status == "within_budget" and result.reverted == frozenset({"l6"})


def test_what_was_not_needed_goes_back_to_int8():
    # The third unit is needed, so the second is reverted with it along the ranking.
    lost = _additive({"l0": 60, "l2": 10})
    result = search(_problem(_units([0.5, 0.011, 0.01, 1e-9, 1e-9]), lost, limits=Limits(images=30)))
    assert result.status == "within_budget" and result.reverted == {"l0", "l2"}


def test_missed_budget_gives_the_quantized_model_with_the_smallest_drop():
    result = search(_problem(_units([0.3, 0.2, 0.1]), lambda reverted: 100 - 10 * len(reverted)))
    assert result.status == "over_budget"
    assert len(result.reverted) == 2 and result.figure is not None and result.figure.drop == pytest.approx(80 / 300)
    assert "0.267" in result.reason
    assert result.figure.drop == min(step.drop for step in result.steps if step.samples == 300)


def test_reasons_have_the_unit_of_the_metric():
    problem = _problem(_units([0.3, 0.2, 0.1]), lambda reverted: 100 - 10 * len(reverted))
    result = search(replace(problem, budget=replace(problem.budget, unit="fraction")))
    assert "keeps the budget of 1.00 points; the best loses 26.67 points" in result.reason
    reasons = {step.reason for step in result.steps if "drop" in step.reason}
    assert "the drop of 26.67 points is over the budget of 1.00 points" in reasons


def test_fp32_is_kept_only_where_nothing_can_be_quantized():
    nothing = search(_problem((), lambda reverted: 0))
    assert nothing.status == "fp32_kept" and nothing.evaluations == 0 and "no layer" in nothing.reason
    assert nothing.figure is not None and nothing.figure.drop == 0


def test_over_budget_figure_is_that_of_every_sample():
    result = search(_problem(_units([0.3]), lambda reverted: 600, samples=2000))
    assert result.status == "over_budget" and result.figure is not None
    assert result.figure.samples == 2000 and result.figure.drop == pytest.approx(0.3)
    assert [step.kind for step in result.steps] == ["int8", "confirm"]


def test_interval_and_note_come_with_the_figure():
    result = search(_problem(_units([0.3]), lambda reverted: 3))
    assert result.figure is not None and result.figure.interval is not None
    assert result.figure.interval.low < 3 / 300 < result.figure.interval.high
    assert "300 samples" in result.note


def test_limit_of_evaluations_gives_the_best_so_far():
    lost = _additive({"l0": 100, "l1": 100, "l2": 1})
    result = search(_problem(_units([0.3, 0.2, 0.1]), lost, limits=Limits(max_evaluations=1)))
    assert result.evaluations == 1
    assert result.status == "over_budget" and "1 evaluation" in result.stopped and result.stopped in result.reason


def test_time_limit_gives_the_best_so_far():
    looks = iter(range(100))
    result = search(_problem(_units([0.3, 0.2]), lambda r: 100 - len(r), expired=lambda: next(looks) >= 2))
    assert result.status == "over_budget" and "time limit" in result.stopped
    assert result.figure is not None and len(result.steps) == 1


def test_search_stopped_before_anything_says_so():
    result = search(_problem(_units([0.3]), lambda r: 0, expired=lambda: True))
    assert result.status == "over_budget" and result.figure is None and "No model was evaluated" in result.reason


def test_ctrl_c_gives_the_best_so_far():
    # Reverting the first two keeps the budget, reverting the second alone does too: it is looked for after the former.
    problem = _problem(_units([0.3, 0.2, 0.1, 0.1]), lambda reverted: 0 if "l1" in reverted else 100)
    problem = replace(problem, metric=Whole())
    seen: list = []

    def interrupted(reverted, indices):
        if any(step.within for step in seen):
            raise KeyboardInterrupt
        return problem.evaluate(reverted, indices)

    result = search(replace(problem, evaluate=interrupted, progress=seen.append))
    assert "interrupted" in result.stopped and result.stopped in result.reason
    assert result.status == "within_budget" and frozenset({"l1"}) < result.reverted


def test_a_search_interrupted_before_a_plan_was_judged_on_all_samples_says_that_the_budget_is_undecided():
    problem, seen = _problem(_units([0.3, 0.2]), lambda reverted: 5, samples=2000), []

    def interrupted(reverted, indices):
        seen.append(len(indices))
        if len(seen) > 1:
            raise KeyboardInterrupt
        return problem.evaluate(reverted, indices)

    result = search(replace(problem, evaluate=interrupted, budget=replace(problem.budget, unit="fraction")))
    assert result.undecided and result.status == "over_budget" and result.figure is not None
    assert (
        result.reason.startswith("No plan was judged on all 2000 samples yet") and "neither kept nor" in result.reason
    )
    complete = _problem(_units([0.3, 0.2, 0.1]), lambda reverted: 100, limits=Limits(max_evaluations=1))
    assert not search(replace(complete, metric=Whole())).undecided


def test_fastest_finalist_wins_and_near_ties_go_to_fewer_reverts():
    def trial(units):
        return Trial(frozenset(f"l{i}" for i in range(units)), units, {}, 0.9, 0.001 * units, True, True)

    one, two, three = trial(1), trial(2), trial(3)
    assert fastest([one, two, three], [2.0, 1.0, 1.5]) is two
    assert fastest([one, two, three], [1.01, 1.0, 1.5]) is one
    assert fastest([one, two, three], [math.nan, 5.0, 0.0]) is two
    assert fastest([three, two], [math.nan, math.inf]) is two


def test_finalists_are_timed_together_and_reported():
    races = []

    def latency(plans):
        races.append([sorted(p) for p in plans])
        return [20.0 - len(p) for p in plans]  # scattered reverts can make fewer reverts slower

    sensitivities = [0.5 * 0.7**i for i in range(12)]
    lost = _additive({f"l{i}": 60 * 0.6**i for i in range(12)})
    result = search(replace(_problem(_units(sensitivities), lost, latency=latency), metric=Whole()))
    assert len(races) == 1 and 2 <= len(races[0]) <= 4
    assert result.reverted == frozenset(max(races[0], key=len))
    assert [f.chosen for f in result.finalists].count(True) == 1


def test_held_out_samples_confirm_the_choice_or_send_the_search_on():
    held_out = np.arange(300, 400)

    def evaluate(reverted, indices):
        # The first two units are enough for what the search sees; the held-out samples need the third.
        seen = 0 if {"l0", "l1"} <= reverted else 150
        return [float(i >= seen and (i < 300 or "l2" in reverted or i >= 350)) for i in indices]

    problem = Problem(
        *_ranking(_units([0.5, 0.4, 0.3, 0.001, 0.001, 0.001])),
        [1.0] * 400,
        Mean(),
        Budget(0.01),
        evaluate,
        held_out=held_out,
    )
    result = search(problem)
    assert result.status == "within_budget" and frozenset({"l0", "l1", "l2"}) <= result.reverted
    assert result.held_out is not None and result.held_out.samples == 100 and result.held_out.drop == 0
    assert result.headline is result.held_out
    confirmations = [s for s in result.steps if s.kind == "confirm"]
    assert [s.within for s in confirmations] == [*[False] * (len(confirmations) - 1), True]
    assert [bool(s.reason) for s in confirmations] == [not s.within for s in confirmations]


def test_plan_that_only_the_searched_samples_allow_is_not_called_within():
    held_out = np.arange(300, 400)
    problem = Problem(
        *_ranking(_units([0.5, 0.4, 0.3])),
        [1.0] * 400,
        Mean(),
        Budget(0.01),
        lambda reverted, indices: [float(i < 300) for i in indices],
        held_out=held_out,
    )
    result = search(problem)
    assert result.status == "over_budget" and "held-out" in result.reason
    assert result.held_out is not None and result.held_out.drop == 1
    assert result.evaluations <= bound_of(problem)


def test_bound_grows_with_the_logarithm():
    assert bound(0) == 0
    for units in (1, 2, 10, 50, 1000, 100_000):
        assert bound(units) <= 13 + math.log2(units) + math.log(2 * units, 3)
        assert bound(units) < bound(units, screened=True) <= 44 + math.log2(units) + math.log(2 * units, 3)
        assert reversions(units) <= max(0, math.ceil(math.log(2 * units, 3)))
    assert bound(1000, Limits(max_evaluations=5)) == 5
    assert bound(50, held_out=True) > bound(50)


def test_images_have_a_bound_that_is_known_before():
    def lost(reverted):
        return 100

    for settings in ({}, {"limits": Limits(max_evaluations=2)}, {"held_out": np.arange(0, 300, 4)}):
        problem = _problem(_units([0.5 * 0.8**i for i in range(20)]), lost, **settings)
        assert search(problem).images_evaluated <= bound_images(problem)
    few = _problem(_units([0.1, 0.2]), lost, limits=Limits(max_evaluations=1))
    assert bound_images(few) == 600


def test_metric_without_scores_of_each_sample_gets_a_bootstrap_interval():
    result = search(replace(_problem(_units([0.1]), lambda reverted: 2), metric=Whole()))
    assert result.figure is not None and result.figure.interval is not None
    assert "bootstrap" in result.figure.interval.method and result.figure.interval.high >= 0.005


def _doubtful(samples=1000, right=0.9) -> np.ndarray:
    """Margins of a classifier: the first samples are the doubtful ones, some of them wrong in FP32."""
    margins = np.linspace(0.001, 5.0, samples)
    return np.where(np.arange(samples) % 10 < 10 * right, margins, -margins)


def _screened(weights, **settings):
    """Each unit in INT8 flips its weight's number of the most doubtful right samples."""
    margins = _doubtful()
    right = np.flatnonzero(margins > 0)

    def evaluate(reverted, indices):
        lost = round(sum(w for name, w in weights.items() if name not in reverted))
        return [float(margins[i] > 0 and i not in set(right[:lost].tolist())) for i in indices]

    units = _units([w / 1000 for w in weights.values()])
    return Problem(
        *_ranking(units),
        (margins > 0).astype(float).tolist(),
        Mean(),
        Budget(0.01),
        evaluate,
        margins=margins,
        **settings,
    )


def test_doubtful_samples_tell_plans_apart_before_all_are_spent():
    weights = {f"l{i}": 60 * 0.6**i for i in range(12)}
    problem = _screened(weights)
    result = search(problem)
    screenings = [step for step in result.steps if "doubtful" in step.reason]
    assert result.status == "within_budget" and len(screenings) >= 3
    assert all(step.samples >= len(problem.screened) and not step.within for step in screenings)
    assert [step.samples for step in screenings].count(len(problem.screened)) >= 3 and len(problem.screened) <= 200
    assert {tuple(step.reverted) for step in result.steps if step.within} <= {tuple(s.reverted) for s in screenings}
    # The fewest that keep it, for a fraction of what evaluating them one after the other takes.
    fewest = next(k for k in range(12) if round(sum(list(weights.values())[k:])) <= 10)
    assert len(result.reverted) <= fewest + 1 and result.images_evaluated <= 4.3 * 1000


def test_screening_that_is_wrong_is_not_believed():
    # The doubtful samples never change: it is the others that are lost.
    margins = _doubtful(right=1.0)

    def evaluate(reverted, indices):
        return [float(i < 200 or i > 200 + 700 * 0.6 ** len(reverted)) for i in indices]

    units = _units([0.5 * 0.8**i for i in range(12)])
    problem = Problem(*_ranking(units), [1.0] * 1000, Mean(), Budget(0.01), evaluate, margins=margins)
    result = search(problem)
    assert result.status == "within_budget" and result.figure is not None and result.figure.samples == 1000
    assert result.evaluations <= bound_of(problem) and result.images_evaluated <= bound_images(problem)


def test_margins_are_of_no_use_to_a_metric_over_the_whole_set_or_with_few_samples():
    problem = _problem(_units([0.3, 0.2]), lambda reverted: 3, margins=np.ones(300))
    assert problem.by_margins and len(problem.screened) == 60
    whole = replace(problem, metric=Whole())
    assert not whole.by_margins and len(whole.screened) == 0
    few = _problem(_units([0.3]), lambda reverted: 3, samples=20, margins=np.ones(20))
    assert not few.by_margins and len(few.screened) == 4  # at random
    assert len(_problem(_units([0.3]), lambda reverted: 3, samples=7).screened) == 0


def test_int8_far_over_the_budget_is_known_by_the_doubtful_samples_and_nearby_by_all():
    doubtful = len(_screened({"l0": 5, "l1": 5}).screened)
    far, near = search(_screened({"l0": 100, "l1": 1})), search(_screened({"l0": 5, "l1": 5}))
    assert far.steps[0].kind == "int8" and far.steps[0].samples == doubtful < 200
    assert near.status == "within_budget" and not near.reverted
    assert [step.samples for step in near.steps] == [doubtful, 1000] and near.images_evaluated == 2000
    once = search(_screened({"l0": 5, "l1": 5}, limits=Limits(max_evaluations=1)))
    assert once.status == "within_budget" and once.evaluations == 1


@pytest.mark.parametrize(
    "make", [_screened, lambda weights: _problem(_units([0.1 * 0.9**i for i in range(12)]), _additive(weights))]
)
def test_units_are_ranked_once_and_only_where_everything_in_int8_misses_the_budget(make):
    def asked(lost, late=False, **settings):
        weights = {"l0": lost, "l1": lost} | {f"l{i}": 0 for i in range(2, 12)}
        problem = make(weights)
        calls, inner, evaluated, evaluate = [], problem.rank, [], problem.evaluate
        problem = replace(problem, evaluate=lambda r, i: (evaluated.append(r), evaluate(r, i))[1])
        if late:
            settings["expired"] = lambda: bool(evaluated)
        result = search(replace(problem, rank=lambda: (calls.append(1), inner())[1], **settings))
        assert bool(result.ranking) == bool(calls)
        return len(calls)

    assert asked(1) == 0
    assert asked(100) == 1
    assert asked(100, limits=Limits(max_evaluations=1)) == 0  # nothing is left that it could be used for
    assert asked(100, late=True) == 0


def test_one_unit_needs_no_ranking():
    def never():
        raise AssertionError

    result = search(replace(_problem(_units([0.3]), lambda reverted: 100), rank=never))
    assert result.status == "over_budget" and not result.stopped and result.evaluations == 1


@pytest.mark.parametrize("units", [2, 3, 4, 5])
def test_networks_of_few_units_are_searched_with_margins_too(units):
    result = search(_screened({f"l{i}": 100 if i == 1 else 1 for i in range(units)}))
    assert result.status == "within_budget" and result.reverted == frozenset({"l1"})


class Margins(Mean):
    """Top-1 over margins: a part is the margin of a sample."""

    def aggregate(self, parts):
        return float(np.mean(np.asarray(parts) > 0))

    def per_sample(self, parts):
        return (np.asarray(parts) > 0).astype(float)

    def margins(self, parts):
        return np.asarray(parts, float)


def test_group_of_units_that_did_nothing_between_two_plans_goes_back_to_int8_at_once():
    # Four units of each of three groups: the first and the third shift margins, the second does not.
    margins, names = np.linspace(0.01, 2.0, 200), [f"l{i}" for i in range(13)]
    scale = np.sqrt(2 * 0.01) * np.repeat([5.0, 0.0, 0.5, 0.0], [4, 4, 4, 1])
    shifts = np.random.default_rng(0).normal(size=(200, 13)) * scale
    units = _units([(0.25 if i < 4 else 0.01) * 0.999**i for i in range(13)])

    def evaluate(reverted, indices):
        active = np.array([name not in reverted for name in names])
        return (margins[indices] + shifts[indices] @ active).tolist()

    problem = Problem(*_ranking(units), margins.tolist(), Margins(), Budget(0.01), evaluate, margins=margins)
    ledger = Ledger(problem)
    ledger.rank()
    proposals = Proposals(ledger)
    for count in (0, 4, 8):
        assert not ledger.run(proposals.prefixes[count], "prefix", to_the_end=True).within
    best = ledger.run(proposals.prefixes[12], "prefix")
    assert best.within
    plan = proposals.shorter(best)
    assert plan == best.reverted - frozenset(names[4:8])
