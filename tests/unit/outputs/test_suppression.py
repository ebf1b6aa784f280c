"""Suppression of overlapping boxes against slow implementations, and by its laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.outputs.suppression import METHODS, areas, overlaps, suppressed
from calib.values.detections import Detections

SEEDS = st.integers(0, 10**6)


def drawn(seed: int, count: int = 40) -> Detections:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(1, 40, (count, 2))], axis=1)
    return Detections(boxes, random.integers(0, 20, count) / 20, random.integers(0, 3, count))  # scores often equal


def slow_overlap(a, b, edge=0.0) -> float:
    wide = min(a[2], b[2]) - max(a[0], b[0]) + edge
    high = min(a[3], b[3]) - max(a[1], b[1]) + edge
    shared = max(wide, 0) * max(high, 0)
    sizes = [max(x2 - x1 + edge, 0) * max(y2 - y1 + edge, 0) for x1, y1, x2, y2 in (a, b)]
    return shared / (sum(sizes) - shared) if sum(sizes) > shared else 0.0


def slow_distance(a, b) -> float:
    """Return d² / c² of DIoU."""
    centres = sum(((a[i] + a[i + 2]) / 2 - (b[i] + b[i + 2]) / 2) ** 2 for i in (0, 1))
    around = sum((max(a[i + 2], b[i + 2]) - min(a[i], b[i])) ** 2 for i in (0, 1))
    return centres / around


def slow(found: Detections, threshold: float, method: str, edge=0.0, beta=1.0) -> list[tuple[int, float]]:
    """Return index and score of what remains: every pair is looked at, one after the other."""
    scores = dict(enumerate(found.scores.tolist()))
    kept: list[tuple[int, float]] = []
    while scores:
        best = max(scores, key=lambda i: (scores[i], -i))
        kept.append((best, scores.pop(best)))
        for i in list(scores):
            overlap = slow_overlap(found.boxes[best], found.boxes[i], edge)
            if found.labels[i] != found.labels[best]:
                continue
            apart = slow_distance(found.boxes[best], found.boxes[i]) ** beta if method == "diou" else 0.0
            if method in ("hard", "diou") and overlap - apart > threshold:
                del scores[i]
            elif method == "soft":
                scores[i] *= np.exp(-(overlap**2) / threshold)
            elif method == "linear" and overlap > threshold:
                scores[i] *= 1 - overlap
    return kept


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("threshold", [0.3, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_each_method_is_what_the_slow_way_gives(method, threshold, seed):
    found = drawn(seed)
    expected = slow(found, threshold, method)
    made = suppressed(found, threshold, method)
    np.testing.assert_array_equal(made.boxes, found.boxes[[i for i, _ in expected]])
    np.testing.assert_allclose(made.scores, [score for _, score in expected], rtol=1e-12)


def test_an_edge_of_one_pixel_counts_both_corners():
    assert overlaps(np.array([0.0, 0, 9, 9]), np.array([0.0, 0, 9, 4]), edge=1) == 0.5
    assert areas(np.array([[0.0, 0, 9, 9], [5, 5, 4, 9]]), edge=1).tolist() == [100, 0]
    made = suppressed(drawn(3), 0.4, edge=1)
    assert len(made) == len(slow(drawn(3), 0.4, "hard", edge=1))


def test_the_distance_of_centres_may_count_more():
    expected = [len(slow(drawn(2), 0.3, "diou", beta=beta)) for beta in (1.0, 0.6)]
    assert [len(suppressed(drawn(2), 0.3, "diou", beta=beta)) for beta in (1.0, 0.6)] == expected
    assert expected[1] > expected[0]


def test_two_empty_boxes_do_not_overlap():
    assert overlaps(np.zeros(4), np.zeros((1, 4))).tolist() == [0]


@given(SEEDS)
def test_hard_suppression_twice_is_suppression_once(seed):
    once = suppressed(drawn(seed), 0.45)
    twice = suppressed(once, 0.45)
    np.testing.assert_array_equal(once.boxes, twice.boxes)


@given(SEEDS)
def test_no_two_that_remain_overlap_more_than_the_threshold(seed):
    made = suppressed(drawn(seed), 0.45)
    for i in range(len(made)):
        for j in range(i):
            assert made.labels[i] != made.labels[j] or slow_overlap(made.boxes[i], made.boxes[j]) <= 0.45


@given(SEEDS)
def test_moving_all_boxes_changes_nothing(seed):
    found = drawn(seed)
    moved = Detections(found.boxes + 1024, found.scores, found.labels)
    made = suppressed(moved, 0.5)
    np.testing.assert_allclose(made.boxes - 1024, suppressed(found, 0.5).boxes, atol=1e-9)


def test_boxes_of_other_classes_count_only_if_asked():
    found = Detections([[0, 0, 10, 10]] * 2, [0.9, 0.8], [1, 2])
    assert len(suppressed(found, 0.5)) == 2 and len(suppressed(found, 0.5, alike=True)) == 1


@pytest.mark.parametrize("method", METHODS)
def test_the_number_that_remains_is_bounded_and_nothing_is_fine(method):
    assert len(suppressed(drawn(0), 0.5, method, most=3)) == 3
    empty = Detections(np.zeros((0, 4)), [], [])
    assert len(suppressed(empty, 0.5, method)) == 0
    assert len(suppressed(drawn(0, 1), 0.5, method)) == 1
