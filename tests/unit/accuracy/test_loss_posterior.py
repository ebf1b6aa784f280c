from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from calib.accuracy.loss_posterior import MOST_RIVALS, LossPosterior
from calib.accuracy.prediction import RankedUnit

RANKED = tuple(
    RankedUnit(frozenset({name}), sensitivity) for name, sensitivity in (("a", 0.04), ("b", 0.01), ("c", 0.0025))
)
ALL = frozenset({"a", "b", "c"})
MARGINS = np.sort(np.abs(np.random.default_rng(0).normal(size=400)))  # all of them right in FP32


def _sigma(*sensitivities: float) -> float:
    return float(np.sqrt(2 * sum(sensitivities)))


def _moved(sigma, seed=1):
    """Margins of the first 100 samples under an error, and what they lose."""
    after = MARGINS[:100] + np.random.default_rng(seed).normal(size=100) * sigma
    return [(after < 0).astype(float)], after


def test_before_anything_was_seen_samples_are_lost_as_their_margins_and_the_sensitivities_say():
    posterior = LossPosterior(RANKED, MARGINS, (100, 400))
    assert posterior.lost(ALL) == (0.0, 0.0)
    # Away from the boundary, where many classes are rivals, twice as many.
    flips = ndtr(-MARGINS / _sigma(0.0125))
    expected = float(flips[:100].sum() + MOST_RIVALS * flips[100:].sum())
    assert posterior.lost(frozenset("a"))[0] == pytest.approx(expected)
    assert posterior.lost(frozenset())[0] > posterior.lost(frozenset("b"))[0] > posterior.lost(frozenset("a"))[0]


def test_samples_wrong_in_fp32_are_gained():
    right, wrong = (LossPosterior(RANKED, sign * MARGINS, (100, 400)).lost(frozenset()) for sign in (1, -1))
    assert wrong == pytest.approx((-right[0], right[1]))


def test_plan_evaluated_on_all_samples_loses_what_was_seen():
    posterior = LossPosterior(RANKED, MARGINS, (100, 400))
    losses = np.repeat([1.0, -1.0, 0.0], [7, 2, 391])
    posterior.observe(frozenset("a"), [losses[:100], losses[100:]], MARGINS)
    assert posterior.lost(frozenset("a")) == (5.0, 0.0)


def test_errors_larger_than_the_sensitivities_said_are_expected_of_other_plans_too():
    posterior, plain = LossPosterior(RANKED, MARGINS, (100, 400)), LossPosterior(RANKED, MARGINS, (100, 400))
    posterior.observe(frozenset(), *_moved(3 * _sigma(0.0525)))
    assert posterior.lost(frozenset("a"))[0] > 1.5 * plain.lost(frozenset("a"))[0]
    # Without margins the samples that changed say the same, if less sharply.
    counted = LossPosterior(RANKED, MARGINS, (100, 400))
    counted.observe(frozenset(), _moved(3 * _sigma(0.0525))[0], None)
    assert counted.lost(frozenset("b"))[0] > 1.3 * plain.lost(frozenset("b"))[0]


def test_neighbour_of_a_plan_is_expected_to_end_like_it():
    lucky, unlucky = LossPosterior(RANKED, MARGINS, (100, 400)), LossPosterior(RANKED, MARGINS, (100, 400))
    sigma = _sigma(0.0125)
    losses, after = _moved(sigma)
    lucky.observe(frozenset("a"), [np.zeros(100)], np.abs(after))
    unlucky.observe(frozenset("a"), losses, after)
    neighbour = frozenset("ac")
    assert unlucky.lost(neighbour)[0] > lucky.lost(neighbour)[0] + losses[0].sum() / 2
    # Their difference is one small unit, so that they are known better than a plan that nothing is known of.
    assert lucky.lost(neighbour)[1] < LossPosterior(RANKED, MARGINS, (100, 400)).lost(frozenset("a"))[1]


def test_changes_behind_the_doubtful_samples_that_nobody_expected_are_expected_from_then_on():
    posterior = LossPosterior(RANKED, MARGINS, (100, 400))
    losses, after = _moved(_sigma(0.0125))
    posterior.observe(frozenset("a"), losses, after)
    before = posterior.lost(frozenset("ab"))[0]
    for plan in ("a", "b"):  # what one plan changes may be its error; what both do is not
        posterior.observe(frozenset(plan), losses, after)
        posterior.observe(frozenset(plan), [*losses, np.repeat([1.0, 0.0], [60, 240])], None)
    posterior.observe(frozenset("ab"), [np.zeros(100)], MARGINS[:100])
    # Even a plan of the smallest error is not expected to leave the others alone.
    assert posterior.change_ratio > 2 and posterior.lost(frozenset("ab"))[0] > before + 20


def test_model_that_gives_no_numbers_loses_everything():
    posterior = LossPosterior(RANKED, MARGINS, (100, 400))
    posterior.observe(frozenset(), [np.full(100, np.nan)], None)
    assert posterior.lost(frozenset())[0] >= 100
    assert np.isfinite(posterior.lost(frozenset("a"))).all()


def test_sample_that_can_not_change_never_does():
    posterior = LossPosterior(RANKED, np.append(MARGINS, np.inf), (100, 401))
    assert posterior.lost(frozenset()) == pytest.approx(LossPosterior(RANKED, MARGINS, (100, 400)).lost(frozenset()))
    posterior.observe(frozenset(), [np.zeros(100), np.zeros(300)], np.append(MARGINS, np.inf))
    assert posterior.lost(frozenset()) == (0.0, 0.0)


def test_reverting_more_is_expected_to_heal_what_the_reverted_units_broke():
    # All of what "a" kept in INT8 lost is known; a plan with less of the same errors moves margins back to FP32.
    posterior, sigma = LossPosterior(RANKED, MARGINS, (100, 400)), _sigma(0.0125)
    after = MARGINS + np.random.default_rng(2).normal(size=400) * sigma
    lost = (after < 0).astype(float)
    posterior.observe(frozenset("a"), [lost[:100], lost[100:]], after)
    # Of the error .0125, .0025 is left: margins are a fifth of the way from FP32's.
    expected = float(ndtr(-(MARGINS + 0.2 * (after - MARGINS)) / (sigma * np.sqrt(0.2 * 0.8))).sum())
    assert posterior.lost(frozenset("ab"))[0] == pytest.approx(expected, rel=0.05)
    assert posterior.lost(frozenset("ab"))[0] < lost.sum()


def test_loss_of_a_sample_that_is_right_in_part_is_as_large_as_those_seen():
    whole, part = LossPosterior(RANKED, MARGINS, (100, 400)), LossPosterior(RANKED, MARGINS, (100, 400))
    (losses,), after = _moved(_sigma(0.0125))
    whole.observe(frozenset("a"), [losses], after)
    part.observe(frozenset("a"), [losses / 20], after)
    assert part.lost(frozenset("b"))[0] < whole.lost(frozenset("b"))[0] / 5
