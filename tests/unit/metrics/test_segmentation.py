"""Mean intersection over union, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from calib.errors import MetricError
from calib.metrics.segmentation import MeanIoU


def test_mean_iou_by_hand_with_ignored_pixels():
    metric = MeanIoU()
    output = [np.array([[[0, 0, 1], [1, 1, 2]]], np.int64)]
    part = metric.measure(output, np.array([[0, 1, 1], [1, 255, -1]]))
    assert part == [[0, 1, 2], [1, 2, 3]]
    assert metric.aggregate([part]) == pytest.approx((1 / 2 + 2 / 3) / 2)


@pytest.mark.parametrize(
    ("output", "target"),
    [
        (np.zeros((1, 1, 2, 2), np.float32), np.zeros((2, 2), int)),
        (np.zeros((1, 3, 2, 2), np.float32), np.zeros((4, 4), int)),
        (np.zeros((1, 3, 2, 2), np.float32), np.zeros((2, 2), np.float32)),
        (np.zeros((1, 3, 2, 2), np.float32), np.full((2, 2), -7)),
    ],
)
def test_mean_iou_refuses_what_is_no_class_map(output, target):
    with pytest.raises(MetricError, match="mean-iou"):
        MeanIoU().measure([output], target)
