"""What a search is asked: losses of samples, and the samples that plans are judged on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from calib.accuracy.baseline import MarginMetric
from calib.accuracy.budget import Budget
from calib.accuracy.prediction import RankedUnit
from calib.accuracy.problem import Limits, Problem
from calib.metrics.classification import F1, TopK
from calib.metrics.per_class import ClassAccuracy

UNITS = (frozenset({"a"}), frozenset({"b"}))


def problem(metric: Any, parts: list[Any], margins: bool = True) -> Problem:
    found = list(zip(parts, np.linspace(-0.1, 2.0, len(parts)).tolist(), strict=True)) if margins else parts
    return Problem(
        units=UNITS,
        rank=lambda: tuple(RankedUnit(unit, 1.0) for unit in UNITS),
        baseline_parts=found,
        metric=MarginMetric(metric) if margins else metric,
        budget=Budget(0.01),
        evaluate=lambda reverted, indices: [found[i] for i in indices],
        margins=np.linspace(-0.1, 2.0, len(parts)) if margins else None,
    )


def test_the_loss_of_a_sample_is_its_influence_where_classes_are_averaged():
    right = [[0, 1]] * 30 + [[1, 1]] * 10
    asked = problem(ClassAccuracy(), right)
    after = {i: [[label, int(i not in (0, 35))], 0.0] for i, (label, _) in enumerate(right)}
    losses = asked.losses(after)
    assert losses is not None and asked.by_margins
    assert {i: loss for i, loss in enumerate(losses.tolist()) if loss} == {
        0: pytest.approx(40 / 2 / 30),
        35: pytest.approx(40 / 2 / 10),
    }
    # Shares of classes add up, so the mean is the drop itself.
    assert losses.mean() == pytest.approx(1 - asked.metric.aggregate(list(after.values())))


def test_influences_on_f1_add_up_to_nearly_its_drop():
    right = [[[i % 3, i % 3, 3]] for i in range(300)]
    asked = problem(F1(), right)
    after = {i: [[[i % 3, (i + 1) % 3 if i < 12 else i % 3, 3]], 0.0] for i in range(300)}
    losses = asked.losses(after)
    assert losses is not None and np.count_nonzero(losses) == 12
    assert losses.mean() == pytest.approx(1 - asked.metric.aggregate(list(after.values())), rel=0.02)


def test_without_margins_samples_that_are_right_or_wrong_are_judged_all_at_once():
    some_wrong = problem(TopK(1), [1.0] * 90 + [0.0] * 10, margins=False)
    assert len(some_wrong.screened) == 0 and some_wrong.allowance == some_wrong.limits.images
    for parts in ([1.0] * 270 + [0.5] * 30, [1.0] * 300):  # shares, or 1 − error of FP32 against itself
        in_parts = problem(TopK(1), parts, margins=False)
        assert len(in_parts.screened) == 30 and in_parts.allowance == in_parts.limits.images_screened
    assert problem(ClassAccuracy(), [[0, 1]] * 100, margins=False).losses({0: [0, 0]}) is None


def test_few_samples_may_be_seen_more_often():
    limits = Limits()
    sets = [limits.allowance(50, samples) for samples in (2000, 225, 180, 40)]
    assert sets == [limits.images_screened, limits.images_screened, 10.0, limits.images]
    assert limits.allowance(50) == limits.images and limits.allowance(100, 2000) == limits.images_screened + 1
