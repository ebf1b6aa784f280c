"""Metrics in parts of one image have the values that follow by hand.

covers: calib.accuracy_check.box_metrics, calib.accuracy_check.class_metrics, calib.accuracy_check.measure
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from calib.accuracy_check.fields import Fields
from calib.accuracy_check.metrics import METRICS
from calib.accuracy_check.values import Boxes, Labels, Picture, Scores
from calib.errors import MetricError

LABELS = Labels({0: "nothing", 1: "a", 2: "b"}, 0)


def metric(kind, labels=LABELS, **values):
    problems = []
    made = METRICS[kind](Fields(kind, values, problems), labels)
    assert not problems, problems
    return made


def value(made, *pairs):
    """Return the metric over pairs, with parts as JSON keeps them."""
    return made.value([json.loads(json.dumps(made.part(*pair))) for pair in pairs])


def boxes(*rows, difficult=(), crowd=()):
    """Return boxes of rows (label, score, x1, y1, x2, y2)."""
    table = np.array(rows, float).reshape(-1, 6)
    return Boxes(table[:, 0], table[:, 2:], table[:, 1], np.array(difficult, bool), np.array(crowd, bool))


TRUTH = boxes((1, 1, 0, 0, 9, 9), (1, 1, 20, 20, 29, 29))


def test_the_area_under_the_curve_and_its_eleven_points():
    found = boxes((1, 0.9, 0, 0, 9, 9), (1, 0.8, 50, 50, 59, 59), (1, 0.7, 20, 20, 29, 29))
    assert value(metric("map"), (TRUTH, found)) == pytest.approx((1 + 2 / 3) / 2)
    assert value(metric("map", integral="11point"), (TRUTH, found)) == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)


def test_a_second_box_on_the_same_object_is_a_miss():
    found = boxes((1, 0.9, 0, 0, 9, 9), (1, 0.8, 0, 0, 9, 9))
    assert value(metric("map"), (TRUTH, found)) == pytest.approx(0.5)
    assert metric("map").part(TRUTH, found)["1"][1:3] == [[1, 0], [0, 1]]


def test_difficult_boxes_count_neither_for_nor_against():
    truth = boxes((1, 1, 0, 0, 9, 9), (1, 1, 20, 20, 29, 29), difficult=[False, True])
    found = boxes((1, 0.9, 20, 20, 29, 29), (1, 0.8, 0, 0, 9, 9))
    assert value(metric("map"), (truth, found)) == 1
    assert value(metric("map", ignore_difficult=False), (truth, found)) == 1
    assert metric("map").part(truth, found)["1"] == [[0.9, 0.8], [0, 1], [0, 0], 1]


def test_the_edge_of_a_pixel_belongs_to_a_box_unless_said_otherwise():
    truth, found = boxes((1, 1, 0, 0, 1, 1)), boxes((1, 0.9, 0, 0, 2, 1))
    assert value(metric("map", overlap_threshold=0.66), (truth, found)) == 1  # 4 of 6 pixels
    assert value(metric("map", overlap_threshold=0.66, include_boundaries=False), (truth, found)) == 0


def test_classes_without_any_found_box_do_not_count_in_map_but_in_coco():
    truth = boxes((1, 1, 0, 0, 9, 9), (2, 1, 0, 0, 9, 9))
    found = boxes((1, 0.9, 0, 0, 9, 9))
    assert value(metric("map"), (truth, found)) == 1
    assert value(metric("coco_precision"), (truth, found)) == pytest.approx(0.5)


def test_coco_takes_the_mean_over_overlaps_and_counts_the_best_boxes_alone():
    truth, found = boxes((1, 1, 0, 0, 10, 10)), boxes((1, 0.9, 0, 0, 10, 8))  # an overlap of 0.8
    assert value(metric("coco_precision"), (truth, found)) == pytest.approx(0.6 if np.float32(0.8) > 0.8 else 0.7)
    assert value(metric("coco_precision", threshold=0.5), (truth, found)) == pytest.approx(1)
    two = boxes((1, 0.9, 50, 50, 60, 60), (1, 0.8, 0, 0, 10, 10))
    assert value(metric("coco_precision", threshold=0.5, max_detections=1), (truth, two)) == 0
    assert value(metric("coco_precision", threshold=0.5), (truth, two)) == pytest.approx(0.5)


def test_boxes_in_a_crowd_are_left_out():
    truth = boxes((1, 1, 0, 0, 10, 10), (1, 1, 20, 20, 60, 60), crowd=[False, True])
    found = boxes((1, 0.9, 22, 22, 30, 30), (1, 0.8, 0, 0, 10, 10))
    whole = {"include_boundaries": False}
    assert value(metric("coco_orig_precision", **whole), (truth, found)) == pytest.approx(1)
    assert value(metric("coco_precision", threshold=0.5), (truth, found)) == pytest.approx(0.5)  # no share of itself


def test_accuracy_looks_at_the_best_scores():
    right, wrong = Scores(np.array([0.1, 0.7, 0.2])), Scores(np.array([0.6, 0.3, 0.1]))
    truth = Scores(np.array(1))
    assert value(metric("accuracy"), (truth, right), (truth, wrong)) == 0.5
    assert value(metric("accuracy", top_k=2), (truth, right), (truth, wrong)) == 1
    assert value(metric("accuracy", top_k=9), (truth, wrong)) == 1


def test_pixels_are_counted_by_class_and_one_class_can_be_left_out():
    truth, found = Picture(np.array([[0, 1], [2, 255]])), Picture(np.array([[0, 1], [1, 2]]))
    plain = {"use_argmax": False}
    assert value(metric("mean_iou", **plain), (truth, found)) == pytest.approx((1 + 0.5 + 0) / 3)
    assert value(metric("mean_iou", ignore_label=2, **plain), (truth, found)) == pytest.approx(1)
    assert value(metric("mean_accuracy", **plain), (truth, found)) == pytest.approx(2 / 3)
    assert value(metric("segmentation_accuracy", **plain), (truth, found)) == pytest.approx(2 / 3)
    planes = Picture(np.eye(3)[found.values].transpose(2, 0, 1))
    assert value(metric("segmentation_accuracy"), (truth, planes)) == pytest.approx(2 / 3)
    with pytest.raises(MetricError, match="has 4 pixels, and that of the annotation 2"):
        metric("mean_iou", **plain).part(Picture(truth.values[:1]), found)


def test_images_are_compared_without_their_border():
    truth = Picture(np.zeros((12, 12, 3), np.uint8))
    found = Picture(truth.values.copy())
    found.values[5, 5] = 255
    error = ((65.738 + 129.057 + 25.064) / 256) ** 2 / 16
    assert value(metric("psnr"), (truth, found)) == pytest.approx(-10 * math.log10(error))
    assert value(metric("psnr", unweighted_average=True, scale_border=0), (truth, found)) == pytest.approx(
        -10 * math.log10(1 / 144)
    )
    assert value(metric("psnr"), (truth, truth)) == math.inf
    assert value(metric("ssim"), (truth, truth)) == pytest.approx(1)
    with pytest.raises(MetricError, match="images of one size"):
        metric("ssim").part(truth, Picture(found.values[:4]))


def scores(*values):
    return Scores(np.array(values, float))


CLASSIFIED = [(scores(label), scores(*(float(best == one) for one in range(3)))) for label, best in
              ((0, 0), (0, 1), (1, 1), (1, 1))]  # fmt: skip


def test_accuracy_by_class_is_the_mean_over_all_classes_and_a_class_without_images_is_0():
    pairs = [(Scores(np.array(int(truth.values[0]))), found) for truth, found in CLASSIFIED]
    assert value(metric("accuracy_per_class"), *pairs) == pytest.approx((0.5 + 1 + 0) / 3)
    assert value(metric("accuracy_per_class", top_k=3), *pairs) == pytest.approx(2 / 3)


def test_f1_is_that_of_the_first_class_a_chosen_one_or_the_mean_of_two():
    pairs = [(Scores(np.array(int(truth.values[0]))), found) for truth, found in CLASSIFIED]
    first, second = 2 * 1 / (2 + 1), 2 * 2 / (2 + 3)
    assert value(metric("classification_f1-score"), *pairs) == pytest.approx(first)
    assert value(metric("classification_f1-score", pos_label=1), *pairs) == pytest.approx(second)
    two = metric("classification_f1-score", Labels({0: "no", 1: "yes"}))
    assert value(two, *pairs) == pytest.approx((first + second) / 2)


def test_metrics_by_class_say_that_classes_are_missing_or_unknown():
    pair = (Scores(np.array(7)), scores(1, 0))
    with pytest.raises(MetricError, match="dataset_meta_file"):
        metric("accuracy_per_class", Labels({})).part(*pair)
    with pytest.raises(MetricError, match="class 7 of the annotation is none"):
        metric("classification_f1-score").part(*pair)


def test_errors_are_means_over_images_and_less_is_better():
    one, other = np.zeros((2, 2), np.uint8), np.array([[3, 0], [0, 4]], np.uint8)
    pair = (Picture(one), Picture(other))
    assert value(metric("mae"), pair, (Picture(one), Picture(one))) == pytest.approx(7 / 8)
    assert value(metric("mse"), pair) == pytest.approx(25 / 4)
    assert value(metric("rmse"), pair) == pytest.approx(2.5)
    assert not metric("mae").higher and metric("psnr").higher
