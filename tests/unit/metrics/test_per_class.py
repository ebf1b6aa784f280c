"""Accuracy by class, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from calib.errors import MetricError
from calib.metrics.classification import F1, TopK
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


def test_a_sample_is_as_far_from_another_result_as_by_top_1():
    near, far = [np.array([[0.5, 0.4, -1.0]], np.float32)], [np.array([[2.0, 0.4, -1.0]], np.float32)]
    for metric in (ClassAccuracy(), F1()):
        assert 0 < metric.margin(near, 0) < metric.margin(far, 0) and metric.margin(near, 1) < 0
        assert metric.margin(near, 0) == TopK(1).margin(near, 0)
