"""Sequences are measured by the metric of single samples: each frame, or what follows the last one."""

from __future__ import annotations

import numpy as np
import pytest

from calib.accuracy.baseline import BaselineMetric, MarginMetric
from calib.metrics.frames import FrameMetric
from calib.metrics.metric import WithChance, WithMargin, WithMovedLabels
from calib.metrics.resolve import resolve_metric
from calib.samples.sample import FrameTargets


def outputs(*classes: int) -> list[list[np.ndarray]]:
    """Scores of four classes for each frame, with these classes ahead."""
    return [[np.eye(4, dtype=np.float32)[None, one]] for one in classes]


def test_a_target_of_the_sequence_is_compared_with_the_last_frame():
    metric = FrameMetric(resolve_metric("top-1"))
    assert metric.measure(outputs(0, 1, 2), 2) == [1.0]
    assert metric.measure(outputs(2, 2, 1), 2) == [0.0]


def test_targets_of_frames_are_compared_one_by_one_and_those_without_do_not_count():
    metric = FrameMetric(resolve_metric("top-1"))
    assert metric.measure(outputs(0, 1, 2), FrameTargets([0, 3, 2])) == [1.0, 0.0, 1.0]
    assert metric.measure(outputs(0, 1, 2), FrameTargets([None, None, 2])) == [1.0]


def test_without_targets_every_frame_is_compared_with_fp32():
    metric = FrameMetric(resolve_metric("agreement"))
    assert metric.measure(outputs(0, 1, 2), None, outputs(0, 1, 3)) == [1.0, 1.0, 0.0]


def test_a_single_frame_is_measured_as_it_is():
    metric = FrameMetric(resolve_metric("top-1"))
    assert metric.measure(outputs(1)[0], 1) == [1.0]
    assert FrameMetric(resolve_metric("agreement")).measure(outputs(1)[0], None, outputs(2)[0]) == [0.0]


def test_each_sequence_counts_once_whatever_its_length():
    metric = FrameMetric(resolve_metric("top-1"))
    parts = [[1.0, 1.0, 1.0, 0.0], [0.0]]
    scores = metric.per_sample(parts)
    assert scores is not None and scores.tolist() == [0.75, 0.0]
    assert metric.aggregate(parts) == pytest.approx(0.375)


def test_a_metric_that_is_no_mean_takes_all_frames_together():
    plain = resolve_metric("f1")
    metric = FrameMetric(plain)
    sequences = [(outputs(0, 1), FrameTargets([0, 0])), (outputs(2), FrameTargets([2]))]
    parts = [metric.measure(*sequence) for sequence in sequences]
    assert metric.per_sample(parts) is None
    assert metric.aggregate(parts) == plain.aggregate([part for frames in parts for part in frames])


def test_it_can_do_what_the_metric_can():
    for name in ("top-1", "relative-l2", "mae"):
        plain = resolve_metric(name)
        for kind in (WithChance, WithMargin, WithMovedLabels):
            assert isinstance(FrameMetric(plain), kind) == isinstance(plain, kind)


def test_labels_are_moved_and_margins_taken_frame_by_frame():
    metric = FrameMetric(resolve_metric("top-1"))
    part, moved, margin = BaselineMetric(metric).measure(outputs(1, 2), FrameTargets([0, 1]))
    assert part == [0.0, 0.0] and moved == [[0.0, 0.0], [1.0, 1.0]] and margin < 0
    mixed = MarginMetric(metric).measure(outputs(1, 2), FrameTargets([1, 0]))
    assert mixed[0] == [1.0, 0.0] and mixed[1] < 0  # the frame that is wrong decides
    part, moved, _ = BaselineMetric(metric).measure(outputs(3, 2), 1)
    assert part == [0.0] and moved == [[0.0], [1.0]]
