"""Margins of plans from those of others, on errors that add up and on errors that do not."""

from __future__ import annotations

import numpy as np
import pytest

from calib.accuracy.margin_field import OWN_SHARES, USUAL_SHARE, MarginField

SENSITIVITIES = np.array([0.04, 0.03, 0.02, 0.01])
NEAR = np.ones(200, np.bool_)
# One plan with all four units in INT8, two with ever fewer.
ACTIVE = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])


def _errors(seed=0):
    """Shifts by each unit alone, of the variance that its sensitivity says, ``(units, samples)``."""
    return np.random.default_rng(seed).normal(size=(4, 200)) * np.sqrt(SENSITIVITIES)[:, None]


def test_group_of_units_does_in_one_plan_what_it_did_in_others():
    errors = _errors()
    field = MarginField(SENSITIVITIES, ACTIVE, ACTIVE @ errors, NEAR)
    given_back = np.array([1.0, 0.0, 1.0, 1.0])  # no plan evaluated reverts the second unit alone
    shifts, left = field.at(given_back)
    assert field.own_share == min(OWN_SHARES)
    # Without the regression what is unknown is the whole error, .07; here it is the plan's own share, and little more.
    assert left < 0.1 * 0.07
    assert np.mean((shifts - given_back @ errors) ** 2) < 0.1 * np.mean((given_back @ errors) ** 2)


def test_plan_that_has_nothing_in_common_with_those_evaluated_is_unknown():
    field = MarginField(SENSITIVITIES, ACTIVE[2:], (ACTIVE @ _errors())[2:], NEAR)
    shifts, left = field.at(np.array([1.0, 1.0, 0.0, 0.0]))
    assert not shifts.any() and left == pytest.approx(0.07)


def test_plan_like_one_evaluated_is_as_unknown_as_its_own_share():
    field = MarginField(SENSITIVITIES, ACTIVE[:1], (ACTIVE @ _errors())[:1], NEAR)
    left = field.at(ACTIVE[0])[1]
    # (1 − s)² of the variance of the new plan is explained by one that has all but its own share in common with it.
    assert field.own_share == USUAL_SHARE
    assert left == pytest.approx(0.1 * (1 - (1 - USUAL_SHARE) ** 2))


def test_share_that_is_another_in_each_plan_is_learnt_from_the_plans():
    sums = ACTIVE @ SENSITIVITIES
    fresh = np.random.default_rng(1).normal(size=(3, 200)) * np.sqrt(sums)[:, None]
    half = np.sqrt(0.5) * ACTIVE @ _errors() + np.sqrt(0.5) * fresh
    shares = [
        MarginField(SENSITIVITIES, ACTIVE, shifts, NEAR).own_share for shifts in (ACTIVE @ _errors(), half, fresh)
    ]
    assert shares[0] < shares[1] <= shares[2] == max(OWN_SHARES)


def test_samples_that_tell_nothing_are_left_out_of_the_share():
    errors = ACTIVE @ _errors()
    near = NEAR.copy()
    near[:50] = False
    broken = errors.copy()
    broken[:, :50] = np.random.default_rng(2).normal(size=(3, 50)) * 10
    assert MarginField(SENSITIVITIES, ACTIVE, broken, near).own_share == min(OWN_SHARES)
    assert MarginField(SENSITIVITIES, ACTIVE, broken, NEAR).own_share > min(OWN_SHARES)
