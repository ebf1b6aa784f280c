"""Rank correlation and the area under the curve, against scipy and by their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.errors import MetricError
from calib.metrics import ranking

LAW = settings(derandomize=True, deadline=None, max_examples=40)
PAIRS = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 1)), min_size=2, max_size=20)


def one(value):
    return [np.array([[value]], np.float32)]


@LAW
@given(PAIRS)
def test_spearman_is_scipys(pairs):
    metric = ranking.Spearman()
    value = metric.aggregate([metric.measure(one(s), t) for s, t in pairs])
    scores, targets = zip(*pairs, strict=True)
    if len(set(scores)) == 1 or len(set(targets)) == 1:
        assert value == 0
    else:
        assert value == pytest.approx(scipy.stats.spearmanr(scores, targets).statistic)


@LAW
@given(PAIRS)
def test_auc_is_the_share_of_pairs_in_order(pairs):
    metric = ranking.AreaUnderCurve()
    value = metric.aggregate([metric.measure(one(s), t) for s, t in pairs])
    wins = [(p > n) + (p == n) / 2 for p, t in pairs if t for n, u in pairs if not u]
    assert value == pytest.approx(np.mean(wins) if wins else 0.5)


def test_auc_of_two_class_scores_takes_their_difference():
    metric = ranking.AreaUnderCurve()
    assert metric.measure([np.array([[1.0, 3.0]])], 1) == [2.0, 1.0]
    with pytest.raises(MetricError, match="0 or 1"):
        metric.measure(one(1), 2)
