"""What was evaluated is remembered, and hopeless plans are stopped early."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calib.accuracy.budget import ALPHA, LOOKS, Budget, blocks, least_loss
from calib.accuracy.ledger import Ledger, Stopped
from calib.accuracy.prediction import RankedUnit
from calib.accuracy.problem import Limits, Problem
from calib.errors import MetricError, UsageError

RANKED = tuple(
    RankedUnit(frozenset({name}), sensitivity) for name, sensitivity in (("a", 0.5), ("b", 0.1), ("c", 0.01))
)
UNITS = tuple(unit.layers for unit in RANKED)


class Mean:
    higher_is_better = True

    def aggregate(self, parts):
        return float(np.mean(parts))

    def per_sample(self, parts):
        return np.asarray(parts, float)


class Median(Mean):
    def aggregate(self, parts):
        return float(np.median(parts))

    def per_sample(self, parts):
        return None


def _problem(samples, wrong_of, *, metric=None, **settings) -> Problem:
    """A plan gets the first ``wrong_of(reverted)`` samples of a fixed shuffle wrong."""
    order = np.random.default_rng(7).permutation(samples)

    def evaluate(reverted, indices):
        return [0.0 if order[i] < wrong_of(reverted) else 1.0 for i in indices]

    settings.setdefault("budget", Budget(0.01))
    return Problem(UNITS, lambda: RANKED, [1.0] * samples, metric or Mean(), evaluate=evaluate, **settings)


def test_blocks_cover_every_sample_once_in_an_order_that_depends_on_their_count_only():
    indices = np.arange(1003)
    portions = blocks(indices, True)
    assert [len(p) for p in portions] == [101, 100, 151, 150, 251, 250]
    assert sorted(np.concatenate(portions)) == list(range(1003))
    assert all((np.diff(p) > 0).all() for p in portions)
    assert all((p == q).all() for p, q in zip(portions, blocks(indices, True), strict=True))
    # A listing sorted by class must not make the first look a look at the first classes.
    assert portions[0].max() > 900


def test_few_samples_and_metrics_over_the_whole_set_are_evaluated_in_one_go():
    assert len(blocks(np.arange(399), True)) == 1
    assert len(blocks(np.arange(5000), False)) == 1


@pytest.mark.parametrize(("total", "budget", "discordant"), [(400, 0.0, 4), (500, 0.01, 50), (2000, 0.01, 60)])
def test_plan_exactly_at_the_budget_is_rejected_less_often_than_promised(total, budget, discordant):
    random = np.random.default_rng(0)
    lost, draws = round(budget * total), 300
    losses = np.zeros(total)
    losses[:lost] = 1
    losses[lost : lost + discordant] = np.tile([1, -1], discordant // 2)
    wrong = 0
    for _ in range(draws):
        random.shuffle(losses)
        wrong += any(least_loss(losses[: math.ceil(total * share)], total) > budget + 1e-12 for share in LOOKS)
    # Three standard errors of the count on top of what is promised.
    assert wrong <= ALPHA * draws + 3 * math.sqrt(ALPHA * (1 - ALPHA) * draws)


def test_plan_far_over_the_budget_is_rejected_early_and_only_its_looks_are_charged():
    ledger = Ledger(_problem(2000, lambda reverted: 600))
    trial = ledger.run(frozenset(), "int8")
    assert not trial.within and not trial.complete
    assert len(trial.parts) == 200 and ledger.images == 2200
    assert trial.drop == pytest.approx(0.3, abs=0.1) and "at least" in trial.reason


def test_plan_within_the_budget_is_always_evaluated_on_every_sample():
    ledger = Ledger(_problem(2000, lambda reverted: 20))
    trial = ledger.run(frozenset(), "int8")
    assert trial.within and trial.complete and trial.drop == pytest.approx(0.01)
    assert ledger.images == 4000


def test_nothing_is_stopped_early_without_scores_of_each_sample():
    ledger = Ledger(_problem(2000, lambda reverted: 1500, metric=Median()))
    trial = ledger.run(frozenset(), "int8")
    assert trial.complete and trial.drop == 1.0


def test_plan_is_put_to_the_test_once():
    ledger = Ledger(_problem(100, lambda reverted: 0))
    assert ledger.run(frozenset(), "int8") is ledger.run(frozenset(), "confirm", to_the_end=True)
    assert (ledger.evaluations, ledger.compilations, len(ledger.steps)) == (1, 1, 1)


def test_completing_a_rejected_plan_looks_at_the_rest_only():
    ledger = Ledger(_problem(2000, lambda reverted: 600))
    ledger.run(frozenset(), "int8")
    trial = ledger.run(frozenset(), "confirm", to_the_end=True)
    assert trial.complete and trial.drop == pytest.approx(0.3)
    assert ledger.images == 4000 and ledger.compilations == 1


def test_each_distinct_plan_costs_a_compilation():
    ledger = Ledger(_problem(100, lambda reverted: 50))
    for reverted in (frozenset(), frozenset("a"), frozenset("ab")):
        ledger.run(reverted, "prefix")
    assert ledger.compilations == 3


def test_held_out_samples_are_never_shown():
    seen = []
    problem = _problem(100, lambda reverted: 0, held_out=np.arange(0, 100, 3))
    inner = problem.evaluate
    object.__setattr__(problem, "evaluate", lambda r, i: (seen.extend(i.tolist()), inner(r, i))[1])
    Ledger(problem).run(frozenset(), "int8")
    assert set(seen) == set(range(100)) - set(range(0, 100, 3))


def test_limit_and_time_stop_before_an_evaluation_is_spent():
    ledger = Ledger(_problem(100, lambda reverted: 50, limits=Limits(max_evaluations=1)))
    ledger.run(frozenset(), "int8")
    with pytest.raises(Stopped, match="1 evaluation "):
        ledger.run(frozenset("a"), "prefix")
    late = Ledger(_problem(100, lambda reverted: 50, expired=lambda: True))
    with pytest.raises(Stopped, match="time"):
        late.run(frozenset(), "int8")
    assert late.evaluations == 0 and not late.trials


def test_interrupted_plan_keeps_what_was_seen_of_it():
    calls = []

    def interrupted(reverted, indices):
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return [1.0] * len(indices)

    problem = _problem(2000, lambda reverted: 0)
    object.__setattr__(problem, "evaluate", interrupted)
    ledger = Ledger(problem)
    with pytest.raises(KeyboardInterrupt):
        ledger.run(frozenset(), "int8")
    trial = ledger.trials[frozenset()]
    assert len(trial.parts) == 200 and not trial.complete and not trial.within


def test_model_without_a_number_is_not_within_any_budget():
    problem = _problem(100, lambda reverted: 0, budget=Budget(1e9))
    object.__setattr__(problem, "evaluate", lambda r, i: [float("nan")] * len(i))
    trial = Ledger(problem).run(frozenset(), "int8")
    assert trial.drop == np.inf and not trial.within


def test_relative_budget_is_judged_against_the_whole_baseline():
    parts = [1.0] * 50 + [0.0] * 50
    problem = Problem(
        UNITS,
        lambda: RANKED,
        parts,
        Mean(),
        Budget(0.05, "relative"),
        lambda r, i: [float(parts[k] and k >= 4) for k in i],
    )
    assert Ledger(problem).run(frozenset(), "int8").drop == pytest.approx(0.04 / 0.5)


def test_problems_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="no sample"):
        _problem(10, lambda r: 0, held_out=np.arange(10))
    with pytest.raises(UsageError, match="disagree"):
        _problem(10, lambda r: 0, budget=Budget(0.1, higher_is_better=False))
    with pytest.raises(UsageError, match="max_evaluations"):
        Limits(max_evaluations=0)
    with pytest.raises(MetricError, match="absolute"):
        Ledger(Problem(UNITS, lambda: RANKED, [0.0] * 5, Mean(), Budget(0.1, "relative"), lambda r, i: [0.0] * len(i)))
