"""Several budgets as one number: at most 1 exactly where every metric keeps its own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from calib.accuracy.budget import Budget
from calib.accuracy.problem import Problem
from calib.accuracy.result import figure_of
from calib.accuracy.together import Together, paired, share_of
from calib.metrics.resolve import resolve_metrics
from calib.metrics.several import Several

POINT = Budget(0.01, "absolute", True, "fraction")


def together(**budgets: Budget) -> Together:
    several = resolve_metrics(["top-1", "mse"] if "mse" in budgets else ["top-1", "f1"])
    assert isinstance(several, Several)
    return Together(several, list(budgets.values()))


@pytest.mark.parametrize("kind", ["absolute", "relative"])
@pytest.mark.parametrize("allowed", [0.0, 1e-9, 0.01, 3.0])
def test_a_share_is_at_most_one_exactly_where_the_drop_fits(allowed: float, kind: Any):
    budget = Budget(allowed, kind)
    for drop in (-1.0, 0.0, allowed, allowed * (1 + 1e-13), allowed + 1e-15, allowed + 1e-3, 2 * allowed + 1, math.inf):
        assert (share_of(budget, drop) <= 1) == budget.fits(drop), drop
    drops = np.linspace(-1, 5, 50)
    assert (np.diff([share_of(budget, drop) for drop in drops]) >= 0).all()


def test_the_largest_share_counts_against_fp32_on_the_same_samples():
    # top-1 parts are hits, mse parts the error of a sample
    metric = together(**{"top-1": Budget(0.5), "mse": Budget(0.2, "absolute", False)})
    before = [[1.0, 0.1], [1.0, 0.3], [0.0, 0.2], [1.0, 0.2]]
    after = [[1.0, 0.2], [0.0, 0.4], [0.0, 0.3], [1.0, 0.2]]
    parts = paired(after, before)
    assert metric.aggregate(parts) == pytest.approx(max(0.25 / 0.5, 0.075 / 0.2))
    assert metric.aggregate(parts[:1]) == pytest.approx(0.1 / 0.2)  # top-1 lost nothing there
    assert metric.aggregate(paired(before, before)) == 0.0
    assert metric.budget.text(1.0) == (
        f"{metric.budgets[0].text(0.5)} of top-1 and {metric.budgets[1].text(0.2)} of mse"
    )


def test_the_figure_has_the_interval_of_the_worst_metric_and_the_figures_of_all():
    random = np.random.default_rng(1)
    before = [[float(hit), float(error)] for hit, error in zip(random.random(60) < 0.9, random.random(60), strict=True)]
    after = [[hit, error + 0.1] for hit, error in before]
    metric = together(**{"top-1": POINT, "mse": Budget(0.05, "absolute", False)})
    problem = Problem((), lambda: (), paired(before, before), metric, metric.budget, lambda reverted, indices: [])
    figure = figure_of(problem, dict(enumerate(paired(after, before))), problem.search_indices)
    top, mse = figure.each
    assert top.drop == 0 and mse.drop == pytest.approx(0.1)
    assert figure.drop == pytest.approx(2.0) and figure.baseline == 0 and figure.samples == 60
    assert mse.interval is not None and figure.interval is not None
    assert figure.interval.low == pytest.approx(mse.interval.low / 0.05)
    assert figure.interval.method.startswith("mse: ")
