"""The samples that change most are found, and counted, by what was measured of them."""

from __future__ import annotations

import pytest

from calib.accuracy.baseline import MarginMetric
from calib.engine.changes import MOST, boxes_changed, counted, most_changed
from calib.metrics.classification import TopK
from calib.metrics.resolve import resolve_metric, resolve_metrics

BOX = [10.0, 10.0, 30.0, 30.0]


def test_verdicts_that_changed_come_first_and_margins_order_the_rest():
    metric = MarginMetric(TopK(1))
    before = {i: [1.0, margin] for i, margin in enumerate([0.1, 3.0, 0.2, 2.0])}
    after = {0: [1.0, 0.1], 1: [1.0, 1.0], 2: [0.0, -0.1], 3: [1.0, 2.1]}
    found = most_changed(metric, before, after)
    assert [change.index for change in found] == [2, 1, 3]  # sample 0 did not change
    assert found[0].words == "top-1 1 → 0"


def test_of_equal_changes_the_one_that_got_worse_comes_first_and_they_are_few():
    metric = resolve_metric("mae")
    before = dict.fromkeys(range(20), 1.0)
    after = {i: 1.0 + (0.5 if i % 2 else -0.5) for i in range(20)}
    assert [change.index for change in most_changed(metric, before, after)] == [
        1,
        3,
        5,
        7,
        9,
        11,
        13,
        15,
        17,
        19,
        0,
        2,
    ][:MOST]


def test_only_samples_that_were_measured_in_both_count_and_the_first_metric_decides():
    several = resolve_metrics(["mae", "mse"])
    before = {i: [1.0, 1.0] for i in range(4)}
    after = {1: [1.1, 9.0], 3: [1.2, 1.0]}
    assert [change.index for change in most_changed(several, before, after)] == [3, 1]
    assert most_changed(several, before, {}) == ()


def test_a_metric_that_is_no_mean_is_taken_of_each_sample_alone():
    class Most:
        """The largest of all parts."""

        name, higher_is_better = "most", True

        def aggregate(self, parts: list[float]) -> float:
            return max(parts)

        def per_sample(self, parts: list[float]) -> None:
            return None

    found = most_changed(Most(), {0: 1.0, 1: 5.0}, {0: 0.0, 1: 5.0})
    assert [(change.index, change.words) for change in found] == [(0, "most 1 → 0")]


@pytest.mark.parametrize(
    ("after", "change"),
    [
        ([[*BOX, 0.9, 1]], 0.0),
        ([[*BOX, 0.6, 1]], 0.3),
        ([[*BOX, 0.9, 2]], 1.8),  # another class: one box is gone and one is new
        ([], 0.9),
        ([[10, 10, 20, 30, 0.9, 1]], 0.9 * 0.5),
        ([[*BOX, 0.9, 1], [50, 50, 60, 60, 0.2, 1]], 0.2),
    ],
)
def test_boxes_change_by_score_overlap_and_class(after: list[list[float]], change: float):
    assert boxes_changed([[*BOX, 0.9, 1]], after) == pytest.approx(change)
    assert boxes_changed(after, [[*BOX, 0.9, 1]]) == pytest.approx(change)


def test_what_fp32_got_right_and_int8_wrong_is_counted_and_named():
    before = {i: [float(i != 3), 1.0] for i in range(5)}
    after = {0: [1.0, 1.0], 1: [0.0, -0.1], 2: [0.0, -2.0], 3: [1.0, 0.1]}
    found = counted(MarginMetric(TopK(1)), before, after, ["a", "b", "c", "d", "e"])
    assert found and (found.samples, found.worse, found.better, found.names) == (4, 2, 1, ["c", "b"])
    assert found.right_or_wrong and "INT8 gets 2 wrong that FP32 got right, and 1 right" in found.sentence


def test_scores_of_any_kind_are_counted_by_their_direction_and_boxes_have_none():
    found = counted(resolve_metric("mae"), {0: 1.0, 1: 2.0}, {0: 1.5, 1: 1.0}, ["a", "b"])
    assert found and not found.right_or_wrong and (found.worse, found.names) == (1, ["a"])
    assert "1 have a worse mae" in found.sentence
    assert counted(resolve_metric("mae"), {}, {}, []) is None
    part = {"found": [[*BOX, 0.9, 1]], "truth": []}
    assert counted(resolve_metric("coco-map"), {0: part}, {0: part}, ["a"]) is None
