"""Mean average precision of boxes, by hand.

covers: calib.metrics.box_rows
"""

from __future__ import annotations

import numpy as np
import pytest

from calib.errors import MetricError
from calib.metrics.detection import CocoMap
from calib.metrics.voc import VocMap

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


def scene(random: np.random.Generator, crowds: bool) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Return detections around up to five objects of three classes, some found twice, some moved, and the target."""
    corner = random.integers(0, 30, (random.integers(0, 6), 2)).astype(float)
    boxes = np.concatenate([corner, corner + random.integers(1, 20, corner.shape)], axis=1)
    labels = random.integers(0, 3, len(boxes))
    found = np.repeat(boxes, 2, axis=0) + random.normal(0, 2, (2 * len(boxes), 4))
    rows = np.column_stack([found, random.random(len(found)), np.repeat(labels, 2)])
    crowd = random.random(len(boxes)) < 0.3 * crowds
    return [rows[None]], {"boxes": boxes, "labels": labels, "iscrowd": crowd.astype(int)}


def by_the_library(scenes: list[tuple[list[np.ndarray], dict[str, np.ndarray]]]) -> float:
    """Return the average precision that faster-coco-eval computes."""
    from faster_coco_eval import COCO, COCOeval_faster

    marked = [(image, *row) for image, (_, t) in enumerate(scenes) for row in zip(*t.values(), strict=True)]
    found = [(image, *row[:4], row[4], int(row[5])) for image, (out, _) in enumerate(scenes) for row in out[0][0]]
    silent = {"print_function": lambda *_: None}
    true = [
        {"id": n, "image_id": image, "category_id": int(label), "bbox": [*box[:2], *(box[2:] - box[:2])],
         "area": float(np.prod(box[2:] - box[:2])), "iscrowd": int(crowd)}
        for n, (image, box, label, crowd) in enumerate(marked, 1)
    ]  # fmt: skip
    images = [{"id": image} for image in range(len(scenes))]
    truth = COCO(
        {"info": {}, "images": images, "categories": [{"id": n} for n in range(3)], "annotations": true}, **silent
    )
    rows = [
        {"image_id": i, "category_id": label, "bbox": [x, y, right - x, low - y], "score": score}
        for i, x, y, right, low, score, label in found
    ]
    made = COCOeval_faster(truth, truth.loadRes(rows), "bbox", **silent)
    made.evaluate()
    made.accumulate()
    made.summarize()
    return float(made.stats[0])


@pytest.mark.parametrize("crowds", [False, True])
def test_the_value_is_that_of_the_library_also_over_resamples(crowds: bool):
    random = np.random.default_rng(crowds)
    scenes = [scene(random, crowds) for _ in range(12)]
    metric = CocoMap()
    parts = [metric.measure(*one) for one in scenes]
    assert metric.aggregate(parts) == pytest.approx(by_the_library(scenes), abs=1e-12)
    chosen = random.integers(0, 12, 12)
    assert metric.resampled(parts)(chosen) == pytest.approx(by_the_library([scenes[i] for i in chosen]), abs=1e-12)


def test_boxes_without_an_area_count_neither_as_objects_nor_as_misses():
    metric, turned = CocoMap(), BOXES[:, [2, 1, 0, 3]]
    part = metric.measure([np.concatenate([BOXES, turned]), np.tile(SCORES, 2), np.tile(LABELS, 2)], TRUTH)
    assert metric.aggregate([part]) == pytest.approx(1)
    assert metric.aggregate([metric.measure([BOXES, SCORES, LABELS], TRUTH | {"boxes": turned})]) == 0


@pytest.mark.parametrize("metric", [CocoMap(), VocMap()])
def test_classes_beyond_those_of_all_detections_are_told_of(metric):
    part = metric.measure([BOXES, SCORES, LABELS], TRUTH)
    assert metric.doubts([part]) == []
    beyond = metric.measure([BOXES, SCORES, LABELS], TRUTH | {"labels": [1, 7]})
    (said,) = metric.doubts([part, beyond])
    assert "no detection has a class above 2, and the annotations have 7: 1 of their 3 classes" in said
    nothing = [np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64)]
    assert metric.doubts([metric.measure(nothing, TRUTH)]) == []
