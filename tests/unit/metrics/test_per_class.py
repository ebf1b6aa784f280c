"""Accuracy by class, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from calib.errors import MetricError
from calib.metrics.per_class import ClassAccuracy


def scores(label: int) -> list[np.ndarray]:
    return [np.eye(3, dtype=np.float32)[None, label]]


def test_a_rare_class_counts_as_much_as_a_common_one():
    metric = ClassAccuracy()
    parts = [metric.measure(scores(0), 0) for _ in range(9)] + [metric.measure(scores(0), 1)]
    assert metric.aggregate(parts) == 0.5
    assert metric.aggregate([*parts, metric.measure(scores(1), 1)]) == 0.75
    assert metric.aggregate([*parts, metric.measure(scores(1), -1)]) == 0.5  # −1 does not count


def test_several_targets_are_refused_and_labels_that_are_off_by_one_are_seen():
    metric = ClassAccuracy()
    with pytest.raises(MetricError, match="reads one class of a sample, got 2 targets"):
        metric.measure(scores(0), [0, 1])
    assert metric.moved_target(scores(0), 2, 1).tolist() == 0 and metric.chance(4) == 0.25
