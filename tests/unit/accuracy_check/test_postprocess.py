"""Steps of postprocessing change boxes and class maps as the original does.

covers: calib.accuracy_check.suppress
"""

from __future__ import annotations

import numpy as np
import pytest

from calib.accuracy_check.fields import Fields
from calib.accuracy_check.postprocess import STEPS
from calib.accuracy_check.values import Boxes, Judged, Labels, Picture, Seen
from calib.errors import MetricError

EMPTY = Boxes(np.zeros(0), np.zeros((0, 4)), np.zeros(0))


def step(kind, labels=Labels({}), **values):  # noqa: B008
    problems = []
    made = STEPS[kind](Fields(kind, values, problems), labels)
    assert not problems, problems
    return made


def judged(original=(20, 40), network=(10, 10), operations=(), info=None):
    seen = Seen(np.zeros((0, 0, 3)), original, list(operations), info)
    return Judged(EMPTY, seen, network, Labels({}))


def boxes(*corners, scores=None):
    count = len(corners)
    return Boxes(np.ones(count), np.array(corners, float), np.array(scores or np.linspace(0.9, 0.1, count)))


def test_boxes_are_stretched_to_the_image():
    found = boxes((0.1, 0.2, 0.5, 0.5))
    step("resize_prediction_boxes")(EMPTY, found, judged())
    np.testing.assert_allclose(found.corners, [[4, 4, 20, 10]])
    found = boxes((1, 2, 5, 5))
    step("resize_prediction_boxes", rescale=True)(EMPTY, found, judged(info=(10, 10, 1)))
    np.testing.assert_allclose(found.corners, [[4, 4, 20, 10]])


def test_padding_and_crops_are_taken_back():
    pad = ("padding", {"pad": (5, 0, 5, 0), "pref_width": 20, "pref_height": 20})
    found = boxes((0, 0.25, 1, 0.75))
    step("resize_prediction_boxes", unpadding=True)(EMPTY, found, judged((20, 20), operations=[pad]))
    np.testing.assert_allclose(found.corners, [[0, 20, 20, 40]])  # the original adds what it should take away
    found = boxes((0, 0, 1, 1))
    step("resize_prediction_boxes", uncrop=True)(EMPTY, found, judged((20, 40), operations=[("crop", {})]))
    np.testing.assert_allclose(found.corners, [[10, 0, 30, 20]])


def test_faster_rcnn_boxes_come_back_through_resize_and_padding():
    resize = ("resize", {"scale_x": 0.5, "scale_y": 0.25, "original_width": 40, "original_height": 20})
    pad = ("padding", {"pad": (0, 0, 5, 0), "pref_width": 20, "pref_height": 10})
    found = boxes((0.5, 0.5, 1, 1))
    step("faster_rcnn_postprocessing_resize", size=20)(EMPTY, found, judged(operations=[resize, pad]))
    np.testing.assert_allclose(found.corners, [[20, 20, 40, 40]])
    found = boxes((0.5, 0.5, 1, 1))
    step("faster_rcnn_postprocessing_resize")(EMPTY, found, judged(operations=[resize]))
    np.testing.assert_allclose(found.corners, [[20, 10, 40, 20]])
    with pytest.raises(MetricError, match="preprocessing does crop"):
        step("faster_rcnn_postprocessing_resize")(EMPTY, found, judged(operations=[("crop", {})]))


def test_suppression_drops_what_overlaps_a_better_box_whatever_its_class():
    corners = [(0, 0, 9, 9), (1, 0, 10, 9), (20, 0, 29, 9)]
    found = boxes(*corners, scores=[0.5, 0.9, 0.1])
    step("nms", overlap=0.5)(EMPTY, found, judged())
    np.testing.assert_array_equal(found.corners, np.array(corners[1:], float))
    found = boxes(*corners, scores=[0.5, 0.9, 0.1])  # 80 of 100 pixels, or 72 of 90 of a length, are shared
    step("nms", overlap=0.81, include_boundaries=False)(EMPTY, found, judged())
    assert len(found) == 3
    found = boxes(*corners, scores=[0.5, 0.9, 0.1])
    step("diou_nms", overlap=0.5)(EMPTY, found, judged())
    assert len(found) == 2


def test_filters_mark_boxes_or_remove_them():
    found, truth = boxes((0, 0, 4, 4), (0, 0, 4, 10), (0, 0, 0, 10)), boxes((0, 0, 2, 2))
    step("filter", height_range="5, 20", is_empty=True)(truth, found, judged())
    assert found.difficult.tolist() == [True, False, True] and truth.difficult.tolist() == [True]
    found = boxes((0, 0, 4, 4), (0, 0, 4, 10))
    step("filter", apply_to="prediction", min_confidence=0.5, remove_filtered=True)(truth, found, judged())
    assert len(found) == 1 and len(truth) == 1
    found = boxes((0, 0, 4, 4), (0, 0, 4, 10), (0, 0, 8, 4))
    step("filter", apply_to="prediction", aspect_ratio="0.9, 2", remove_filtered=True)(truth, found, judged())
    np.testing.assert_array_equal(found.corners, [[0, 0, 4, 4]])
    found = boxes((0, 0, 4, 4), (0, 0, 4, 10))
    step("filter", top_k=1, remove_filtered=True)(truth, found, judged())
    assert len(found) == 1 and len(truth) == 1
    truth = boxes((0, 0, 4, 4), (0, 0, 20, 20))
    step("filter", area_ratio=0.5, apply_to="annotation")(truth, found, judged())
    assert truth.difficult.tolist() == [True, False]


def test_boxes_are_clipped_rounded_and_renamed():
    found = boxes((-1.4, 2.6, 50, 30))
    step("cast_to_int")(EMPTY, found, judged())
    step("clip_boxes", apply_to="prediction")(EMPTY, found, judged())
    np.testing.assert_array_equal(found.corners, [[0, 3, 40, 20]])
    step("shift_labels", offset=2)(EMPTY, found, judged())
    assert found.labels.tolist() == [3]


def test_masks_become_classes_and_change_their_size():
    colors = ((0, 0, 0), (128, 0, 0))
    truth = Picture(np.array([[[0, 0, 0], [128, 0, 0]]], np.uint8))
    step("encode_segmentation_mask", Labels({}, colors=colors), apply_to="annotation")(truth, EMPTY, judged())
    assert truth.values.tolist() == [[0, 1]]
    step("resize_segmentation_mask", apply_to="annotation", dst_height=2, dst_width=4)(truth, EMPTY, judged())
    assert truth.values.tolist() == [[0, 0, 1, 1]] * 2
    found = Picture(np.array([[[0.0, 1.0]], [[3.0, 1.0]]]))
    step("resize_segmentation_mask", apply_to="prediction")(EMPTY, found, judged((1, 4)))
    assert found.values.tolist() == [[[0, 0, 255, 255]], [[255, 255, 0, 0]]]  # planes are stretched to 8 bits
    step("shift", apply_to="annotation", shift_value=-1)(truth, EMPTY, judged())
    assert truth.values[0].tolist() == [-1, -1, 0, 0]


def test_images_are_resized_smoothly():
    found = Picture(np.full((4, 4, 3), 7, np.uint8))
    step("resize", apply_to="prediction")(EMPTY, found, judged((6, 8)))
    assert found.values.shape == (6, 8, 3) and (found.values == 7).all()


def test_soft_suppression_lowers_the_score_of_the_box_that_overlaps():
    """IoU of the first and the last is 0.6, so that the lower score is multiplied by exp(−0.36 / σ)."""
    found = boxes((0, 0, 10, 8), (20, 0, 30, 8), (0, 0, 10, 4.8), scores=(0.5, 0.4, 0.9))
    found.labels[:] = (1, 2, 3)  # whatever the class
    step("soft_nms", sigma=0.6)(EMPTY, found, judged())
    np.testing.assert_allclose(found.scores, [0.5 * np.exp(-0.36 / 0.6), 0.4, 0.9])
    np.testing.assert_array_equal(found.labels, [1, 2, 3])
    step("soft_nms", sigma=0.6, min_score=0.3, keep_top_k=2)(EMPTY, found, judged())
    np.testing.assert_array_equal(found.labels, [2, 3])
