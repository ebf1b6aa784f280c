from __future__ import annotations

import math

import numpy as np
import pytest

from calib.accuracy.drop_posterior import DropPosterior
from calib.accuracy.prediction import RankedUnit, root_forecast

RANKED = tuple(
    RankedUnit(frozenset({name}), sensitivity)
    for name, sensitivity in zip("abcd", (0.4, 0.04, 0.004, 0.0004), strict=True)
)
INT8, ALL = frozenset[str](), frozenset("abcd")


def _posterior(*observed, samples=100):
    """Return a posterior that has seen plans on all samples, of which only the drop is known."""
    posterior = DropPosterior(RANKED, root_forecast, samples)
    for reverted, drop in observed:
        posterior.observe(frozenset(reverted), drop, [], complete=True)
    return posterior


def test_before_anything_was_seen_the_drop_is_what_the_sensitivities_say():
    drop, deviation = _posterior().drop(frozenset("a"))
    assert drop == pytest.approx(math.sqrt(0.0444)) and deviation > drop / 2
    assert _posterior().drop(ALL) == (0.0, 0.0)


def test_one_plan_seen_says_what_others_lose_by_the_root_law():
    posterior = _posterior((INT8, 0.2), samples=10_000)
    assert posterior.drop(INT8) == (0.2, 0.0)
    for reverted, left in (("a", 0.0444), ("ab", 0.0044), ("abc", 0.0004)):
        drop, deviation = posterior.drop(frozenset(reverted))
        assert drop == pytest.approx(0.2 * math.sqrt(left / 0.4444), rel=0.01) and 0 < deviation < drop


def test_curve_that_bends_is_followed_between_the_plans_seen():
    posterior = _posterior((INT8, 0.9), ("a", 0.03))
    plain = _posterior((INT8, 0.9))
    assert posterior.drop(frozenset("ab"))[0] < 0.03 < plain.drop(frozenset("ab"))[0]
    # Nearer to what was seen, more is known.
    near, far = posterior.drop(frozenset("ad")), posterior.drop(frozenset("abc"))
    assert near[1] / near[0] < far[1] / far[0]


def test_part_of_the_samples_is_held_against_a_plan_seen_on_all():
    # Samples differ tenfold in their loss, but in the same way under each plan: ten of them say it all.
    weights = np.linspace(0.2, 2.0, 100)[np.random.default_rng(0).permutation(100)]
    losses = 0.5 * weights
    known, unknown = (DropPosterior(RANKED, root_forecast, 100) for _ in range(2))
    known.observe(INT8, float(losses.mean()), [losses[:10], losses], complete=True)
    part = 0.1 * weights[:10]
    for posterior in (known, unknown):
        posterior.observe(frozenset("a"), float(part.mean()), [part], complete=False)
    drop, deviation = known.drop(frozenset("a"))
    assert drop == pytest.approx(0.1 * weights.mean(), rel=0.02)
    assert deviation < 0.02 * drop < unknown.drop(frozenset("a"))[1]


def test_drop_of_few_changed_samples_comes_in_steps_and_by_chance():
    losses = np.zeros(100)
    losses[:4], losses[4:6] = 1.0, -1.0
    posterior = DropPosterior(RANKED, root_forecast, 100)
    posterior.observe(frozenset("a"), 0.02, [losses], complete=True)
    assert posterior.step == pytest.approx(0.01)
    # Six samples changed: the next plan differs by about the root of six, whatever its error.
    assert math.sqrt(6) / 100 < posterior.drop(frozenset("ad"))[1] < 1.5 * math.sqrt(6) / 100
    smooth = DropPosterior(RANKED, root_forecast, 100)
    smooth.observe(frozenset("a"), 0.02, [np.full(100, 0.02)], complete=True)
    assert smooth.step == 0.0 and smooth.drop(frozenset("ad"))[1] < 0.005


def test_model_that_gives_no_number_tells_of_itself_only():
    posterior = _posterior((INT8, math.inf))
    assert posterior.drop(INT8) == (math.inf, 0.0)
    assert posterior.drop(frozenset("a"))[0] == pytest.approx(math.sqrt(0.0444))


def test_units_without_any_sensitivity_and_such_that_gave_no_number_are_borne():
    ranked = (RankedUnit(frozenset("x"), math.inf), RankedUnit(frozenset("y"), 0.0), RankedUnit(frozenset("z"), 1e-30))
    posterior = DropPosterior(ranked, root_forecast, 10)
    posterior.observe(INT8, 0.5, [], complete=True)
    posterior.observe(frozenset("x"), 0.1, [], complete=True)
    assert all(np.isfinite(posterior.drop(frozenset(plan))).all() for plan in ("", "x", "y", "xz", "xy", "z"))


def test_a_metric_that_is_no_mean_has_the_luck_of_single_samples():
    # Of 40 samples 4 are lost, so about 5 have changed: by chance another plan loses sqrt(5) more or less,
    # and so did this one.
    few, many = (_posterior((INT8, 0.1), samples=count) for count in (40, 4000))
    assert few.single == 1 / 40 and few.step == 1 / 40
    near = frozenset("d")  # next to nothing is reverted
    assert math.sqrt(1.3 * 4) / 40 < few.drop(near)[1] < 2 * math.sqrt(1.3 * 4) / 40
    assert many.drop(near)[1] < few.drop(near)[1] / 3
    assert _posterior((INT8, 0.1), samples=1).step == 0.0  # a function over the whole set
