"""Detectors that number their classes otherwise than the annotations."""

from __future__ import annotations

import re

import numpy as np
import pytest

from calib.metrics.detection import CocoMap
from calib.metrics.numbering import labels_covering, renumbered
from calib.metrics.voc import VocMap


@pytest.mark.parametrize("metric", [CocoMap(), VocMap()])
@pytest.mark.parametrize(
    ("numbers", "way"),
    [
        ((0, 1, 2), ""),
        (
            (1, 2, 3),
            r"12 objects that a detection covers 0 are .* 0 is found as 1, .* label_shift=-1 .* or \?first=1 of",
        ),
        ((2, 1, 0), r"0 is found as 2, 2 is found as 0\. If so, order the classes .*\?classes=FILE"),
        ((1, 1, 1), ""),  # no order of classes, but a network that finds one of them
    ],
)
def test_classes_that_a_model_numbers_otherwise_are_told_of(metric, numbers, way):
    parts = []
    for image in range(6):
        boxes = np.array([[0, 0, 9, 9], [20, 20, 40, 40], [50, 0, 60, 70]], np.float32)
        wanted = [image % 3, (image + 1) % 3]
        found = np.array([numbers[wanted[0]], numbers[wanted[1]], 1])
        scores = np.array([0.9, 0.8, 0.3], np.float32)
        parts.append(metric.measure([boxes + 1, scores, found], {"boxes": boxes[:2], "labels": wanted}))
    said = [one for one in metric.doubts(parts) if "otherwise than the annotations" in one]
    assert len(said) == bool(way) and re.search(way, "".join(said))


def test_a_model_that_confuses_classes_is_not_said_to_number_them_otherwise():
    pairs = [[wanted, (wanted + turn) % 3] for wanted in range(3) for turn in (0, 1, 1)]
    assert renumbered("coco-map", pairs) == []
    assert renumbered("coco-map", [[0, 1]] * 4) == []
    # One class in front of all, of which a third is confused: it is seen by the step, not by each class's own partner.
    moved = [[wanted, wanted + 1] for wanted in range(4)] * 2 + [[3, 2], [3, 2], [3, 2], [2, 0]]
    assert "label_shift=-1" in renumbered("coco-map", moved)[0]
    assert renumbered("coco-map", [*moved, *[[0, 0]] * 3]) == []  # too many under their own number
    assert renumbered("coco-map", [[0, 1]] * 4 + [[1, 1]] * 4 + [[2, 1]] * 4) == []  # finds one class only
    assert "label_shift=-1" in renumbered("coco-map", [[0, 1]] * 5)[0]


def test_the_best_of_the_detections_that_cover_an_object_counts_and_crowds_do_not():
    found = np.array([[0, 0, 10, 10, 0.2, 5], [1, 0, 11, 10, 0.9, 6], [0, 0, 4, 10, 1.0, 7]], float)
    truth = np.array([[0, 0, 10, 10, 1, 0], [0, 0, 10, 10, 2, 1], [50, 50, 60, 60, 3, 0]], float)
    assert labels_covering(found, truth) == [[1, 6]]
