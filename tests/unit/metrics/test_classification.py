from __future__ import annotations

import numpy as np
import pytest

from calib.errors import MetricError
from calib.metrics.classification import F1, TopK


def scores(*values):
    return [np.array([values], np.float32)]


def test_the_target_has_to_be_among_the_k_highest():
    output = scores(0.1, 0.5, 0.4, 0.3, 0.2, 0.0)
    assert [TopK(1).measure(output, i) for i in range(6)] == [0, 1, 0, 0, 0, 0]
    assert [TopK(5).measure(output, i) for i in range(6)] == [1, 1, 1, 1, 1, 0]


def test_equal_scores_are_won_by_the_lower_index():
    assert [TopK(1).measure(scores(1, 1, 1), i) for i in range(3)] == [1, 0, 0]


@pytest.mark.parametrize("target", [[0, 1], {1, 2}, np.array([1, -1, -1]), np.array([[1]]), 1.0, True])
def test_one_acceptable_class_is_enough(target):
    assert TopK(1).measure(scores(0, 1, 0), target) == 1


@pytest.mark.parametrize("target", [-1, [-1, -1], np.array([-1])])
def test_ignored_targets_do_not_count(target):
    metric = TopK(1)
    parts = [metric.measure(scores(0, 1), target), metric.measure(scores(0, 1), 1)]
    assert parts[0] is None and metric.aggregate(parts) == 1 and metric.per_sample(parts).tolist() == [1]


def test_tokens_count_as_the_mean_of_their_sample():
    output = [np.eye(4, dtype=np.float32)[None, [0, 1, 2, 3]]]
    assert TopK(1).measure(output, [0, 1, 0, -1]) == pytest.approx(2 / 3)


def test_trailing_axes_of_one_are_dropped():
    assert TopK(1).measure([np.eye(3, dtype=np.float32)[1].reshape(1, 3, 1, 1)], 1) == 1


def test_scores_that_are_not_finite_are_misses():
    assert TopK(1).measure(scores(np.nan, 1), 1) == 0
    assert TopK(1).measure(scores(np.inf, 1), 0) == 0


def test_a_target_out_of_range_hints_at_labels_off_by_one():
    with pytest.raises(MetricError, match=r"target 3 is no index of 3 classes.*off by one.*\?classes=FILE"):
        TopK(1).measure(scores(0, 1, 0), 3)
    with pytest.raises(MetricError, match="target -2"):
        TopK(1).measure(scores(0, 1, 0), -2)


@pytest.mark.parametrize("target", ["cat", 0.5, None])
def test_targets_that_are_no_classes_are_refused(target):
    with pytest.raises(MetricError, match="class index"):
        TopK(1).measure(scores(0, 1), target)
    with pytest.raises(MetricError, match="these are boxes: measure a detector with coco-map or voc-map"):
        TopK(1).measure(scores(0, 1), {"boxes": [[0, 0, 1, 1]], "labels": [0]})


@pytest.mark.parametrize(
    "output", [np.zeros((2, 3), np.float32), np.zeros((1, 3), np.int64), np.zeros((1, 1), np.float32)]
)
def test_outputs_that_are_no_class_scores_are_refused(output):
    with pytest.raises(MetricError, match="top-1"):
        TopK(1).measure([output], 0)


def f1(pairs, classes):
    metric = F1()
    return metric.aggregate([metric.measure([np.eye(classes, dtype=np.float32)[None, p]], t) for t, p in pairs])


def test_f1_of_two_classes_is_that_of_class_one():
    # TP 1, FP 1, FN 2
    assert f1([(1, 1), (0, 1), (1, 0), (1, 0), (0, 0)], 2) == pytest.approx(2 / (2 + 1 + 2))
    assert f1([(0, 0)], 2) == 1


def test_macro_f1_is_the_mean_over_classes_that_occur():
    # class 0: TP 1, FN 1; class 1: FP 1; class 2: TP 1; class 3 never occurs
    assert f1([(0, 0), (0, 1), (2, 2)], 4) == pytest.approx((2 / 3 + 0 + 1) / 3)


def test_f1_of_tokens_leaves_ignored_ones_out():
    metric = F1()
    part = metric.measure([np.eye(3, dtype=np.float32)[None, [0, 1, 2]]], [0, 2, -1])
    assert part == [[0, 0, 3], [2, 1, 3]]


def test_margin_is_how_far_the_verdict_is_from_another():
    output = scores(0.0, 3.0, 1.0)
    assert TopK(1).margin(output, 1) > 0 > TopK(1).margin(output, 2)
    assert TopK(2).margin(output, 2) > 0 > TopK(2).margin(output, 0)
    assert TopK(1).margin(output, 1) == pytest.approx(TopK(1).margin(scores(0.0, 30.0, 10.0), 1))  # no unit
    assert TopK(1).margin(output, -1) == np.inf
    assert TopK(1).margin(output, [2, 1]) == TopK(1).margin(output, 1)  # the best of the acceptable ones
    sure, torn = [[0.0, 9.0, 1.0]], [[0.0, 1.1, 1.0]]
    tokens = [np.array([sure * 2, sure + torn], np.float32)[i][None] for i in range(2)]
    assert TopK(1).margin([tokens[0]], [1, 1]) > TopK(1).margin([tokens[1]], [1, 1]) > 0
    assert TopK(1).margin(scores(1.0, 1.0), 0) == 0.0


def test_rows_of_a_sample_are_positions_with_a_target_each():
    """The outputs of a set of points, [N, C], whose first axis is no batch."""
    rows, targets = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 3]], np.array([0, 1, 0, -1, 3])
    for scores in (rows, rows[:, None], rows[None]):
        assert TopK(1).measure([scores], targets) == 0.75
        assert F1().measure([scores], targets) == [[0, 0, 4], [1, 1, 4], [0, 2, 4], [3, 3, 4]]
    with pytest.raises(MetricError, match="1 targets for 5 positions"):
        TopK(1).measure([rows], 2)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, bool])
def test_one_hot_vectors_are_the_class_of_their_one(kind):
    output = scores(0.9, 0.1, 0.5, 0.2)  # class 0: as a list of classes, [0, 0, 1, 0] would accept it
    hot = np.eye(4).astype(kind)
    assert [TopK(1).measure(output, row) for row in hot] == [1, 0, 0, 0]
    assert [TopK(2).measure(output, row) for row in hot] == [1, 0, 1, 0]
    assert TopK(1).measure(output, hot[:1]) == 1
    assert TopK(1).measure(scores(0.9, 0.1), np.array([0, 1], kind)) == 0
    assert F1().measure(output, hot[2]) == [[2, 0, 4]]
    assert TopK(1).moved_target(output, hot[3], 1) == 0
    assert TopK(1).margin(output, hot[0]) > 0 > TopK(1).margin(output, hot[1])


def test_one_hot_vectors_of_tokens_are_a_class_each():
    output = [np.eye(4, dtype=np.float32)[None, [0, 1, 2]]]
    hot = np.eye(4, dtype=np.float32)[[0, 1, 3]]
    assert TopK(1).measure(output, hot) == TopK(1).measure(output, hot[None]) == pytest.approx(2 / 3)
    square = [np.eye(4, dtype=np.float32)[None]]  # as many tokens as classes: an index each
    assert TopK(1).measure(square, np.array([0.0, 1.0, 1.0, 0.0])) == 0.5


@pytest.mark.parametrize(
    "target", [[0.1, 0.7, 0.2], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [2.0, 1.0, 0.0], [1, 0, 1], [np.nan, 1.0, 0.0]]
)
def test_vectors_that_are_not_one_hot_are_refused(target):
    with pytest.raises(MetricError, match="has to be 1 at one class and 0 at all others"):
        TopK(1).measure(scores(0, 1, 0), np.array(target))


def test_several_floating_point_numbers_are_no_list_of_classes():
    with pytest.raises(MetricError, match="2 floating-point numbers is neither a class nor a vector of 3 numbers"):
        TopK(1).measure(scores(0, 1, 0), [0.0, 1.0])
