"""Mean average precision of boxes, by hand.

covers: calib.metrics.box_rows
"""

from __future__ import annotations

import numpy as np
import pytest

from calib.errors import MetricError, MissingExtraError
from calib.metrics.detection import CocoMap

BOXES = np.array([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32)
SCORES, LABELS = np.array([0.9, 0.8], np.float32), np.array([1, 2])
TRUTH = {"boxes": BOXES, "labels": LABELS}


@pytest.mark.parametrize(
    "outputs",
    [
        [BOXES, SCORES, LABELS],
        [LABELS[None], SCORES[None], BOXES[None]],
        [np.column_stack([BOXES, SCORES])[None], LABELS[None]],
        [np.column_stack([BOXES, SCORES, LABELS])[None].astype(np.float32)],
    ],
)
def test_boxes_are_read_in_each_form(outputs):
    metric = CocoMap()
    assert metric.aggregate([metric.measure(outputs, TRUTH)]) == pytest.approx(1)


def test_one_detection_is_not_taken_for_a_batch_axis():
    part = CocoMap().measure([BOXES[:1], SCORES[:1], LABELS[:1]], TRUTH)
    assert len(part["found"]) == 1


def test_a_box_with_iou_of_two_thirds_counts_at_four_of_ten_thresholds():
    metric = CocoMap()
    moved = np.array([[0, 2, 10, 12]], np.float32)  # IoU 80 / 120: 0.50, 0.55, 0.60, 0.65
    part = metric.measure([moved, SCORES[:1], LABELS[:1]], {"boxes": BOXES[:1], "labels": [1]})
    assert metric.aggregate([part]) == pytest.approx(0.4)


def test_images_without_boxes_and_detections_are_fine():
    metric = CocoMap()
    nothing = [np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)]
    empty = metric.measure(nothing, {"boxes": [], "labels": []})
    missed = metric.measure(nothing, TRUTH)
    assert metric.aggregate([empty]) == 0 and metric.aggregate([empty, missed]) == 0
    assert metric.aggregate([empty, metric.measure([BOXES, SCORES, LABELS], TRUTH)]) == pytest.approx(1)


@pytest.mark.parametrize("outputs", [[BOXES], [BOXES, SCORES], [BOXES, SCORES, SCORES], [BOXES, SCORES[:1], LABELS]])
def test_boxes_of_another_form_are_refused(outputs):
    with pytest.raises(MetricError, match="coco-map"):
        CocoMap().measure(outputs, TRUTH)


def test_a_missing_extra_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"faster-coco-eval.*pip install 'faster-coco-eval>=\d"):
        CocoMap()
