from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from calib.accuracy.prediction import invert, margin_forecast, rank, root_forecast
from calib.errors import UsageError


def _unit(*names: str) -> frozenset[str]:
    return frozenset(names)


def test_most_damaging_comes_first_and_equals_keep_their_order():
    units = [_unit("a"), _unit("b", "c"), _unit("d"), _unit("e")]
    sensitivities = {units[0]: 1e-5, units[1]: 1e-2, units[2]: 1e-5, units[3]: math.nan}
    ranked = rank(units, sensitivities)
    assert [unit.layers for unit in ranked] == [units[3], units[1], units[0], units[2]]
    assert ranked[0].sensitivity == math.inf  # no number is the worst that can be said


def test_unit_without_sensitivity_and_overlapping_units_are_refused():
    with pytest.raises(UsageError, match="no sensitivity"):
        rank([_unit("a")], {})
    both = [_unit("a", "b"), _unit("b")]
    with pytest.raises(UsageError, match="two units"):
        rank(both, dict.fromkeys(both, 1.0))


def test_margin_forecast_matches_simulated_noise():
    random = np.random.default_rng(0)
    classes, samples = 10, 2000
    labels = random.integers(0, classes, samples)
    logits = random.standard_normal((samples, classes))
    logits[np.arange(samples), labels] += 4
    others = logits.copy()
    others[np.arange(samples), labels] = -np.inf
    margins = logits[np.arange(samples), labels] - others.max(axis=1)
    norms = (logits**2).sum(axis=1)
    forecast = margin_forecast(margins / np.sqrt(norms / classes))
    nmse = 0.05
    noise = random.standard_normal((20, samples, classes)) * np.sqrt(nmse * norms / classes)[:, None]
    right = ((logits + noise).argmax(axis=2) == labels).mean()
    # Only the strongest rival is looked at, so the forecast is a little low; it has to be of the right size.
    assert forecast(nmse) == pytest.approx((margins > 0).mean() - right, rel=0.3)


def test_margin_forecast_starts_at_zero_and_never_falls():
    random = np.random.default_rng(1)
    forecast = margin_forecast(random.normal(0.1, 1, 300))
    drops = [forecast(d) for d in np.concatenate(([0.0], np.logspace(-10, 3, 50)))]
    assert drops[0] == 0 and all(b >= a for a, b in pairwise(drops))


def test_margin_forecast_bears_samples_without_a_margin():
    assert margin_forecast(np.array([0.0, 1.0, np.nan, np.inf]))(0.1) >= 0


def test_inverse_gives_back_the_error_and_ends_where_the_forecast_saturates():
    assert invert(root_forecast, root_forecast(0.03)) == pytest.approx(0.03)
    assert invert(root_forecast, -0.1) == 0
    saturating = lambda error: 0.8 * error / (1 + error)  # noqa: E731
    assert invert(saturating, 0.9) == pytest.approx(19, rel=1e-3)  # 95 % of what it can reach
    assert invert(saturating, math.inf) == invert(saturating, 0.9)
