"""Filters of boxes, their way back to the image, and that of class maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.errors import UsageError
from calib.outputs.postprocess import BoxSteps, best_of, map_in_original
from calib.values.detections import Detections, ImageGeometry

FOUND = Detections(
    [[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 60, 60], [0, 0, 2, 50], [np.nan, 0, 1, 1]],
    [0.9, 0.8, 0.3, 0.5, 1.0],
    [0, 0, 1, 2, 0],
)
GEOMETRY = ImageGeometry.of_size(100, 50).resized(50, 50)  # half as high


def kept(**options) -> list[float]:
    return BoxSteps(**options).apply(FOUND, GEOMETRY).scores.tolist()


def test_suppression_and_the_way_back_by_hand():
    made = BoxSteps().apply(FOUND, GEOMETRY)  # the first two overlap by 90 / 110
    assert made.boxes.tolist() == [[0, 0, 10, 20], [0, 0, 2, 100], [20, 40, 50, 100]]  # the last is cut at 50
    assert made.labels.tolist() == [0, 2, 1]


def test_each_filter_by_hand():
    assert kept(nms=0) == [0.9, 0.8, 0.5, 0.3]
    assert kept(nms=0, score=0.5) == [0.9, 0.8, 0.5]
    assert kept(nms=0, candidates=2) == [0.9, 0.8]
    assert kept(nms=0, most=1) == [0.9]
    assert kept(nms=0, smallest=5) == [0.9, 0.8, 0.3]
    assert kept(nms=0, largest=250) == [0.9, 0.8, 0.5]
    assert kept(nms=0, only=(2, 3), label_shift=1) == [0.5, 0.3]
    assert BoxSteps(clip=False, nms=0).apply(FOUND, GEOMETRY).boxes.max() == 120


def test_soft_suppression_drops_what_falls_below_the_score():
    overlap = 90 / 110
    assert kept(nms_method="soft", nms=0.5, score=0.2) == pytest.approx(
        [0.9, 0.5, 0.3, 0.8 * np.exp(-(overlap**2) / 0.5)]
    )
    assert kept(nms_method="soft", nms=0.5, score=0.25) == pytest.approx([0.9, 0.5, 0.3])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"nms_method": "x"}, "one of hard"), ({"nms": 2}, "0 to 1, .* 2"), ({"most": -3}, "most is 0 or more, got -3")],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        BoxSteps(**options)


def test_equal_scores_stay_in_order():
    assert best_of(np.array([0.5, 0.7, 0.5, 0.7]), 3).tolist() == [1, 3, 0]


def test_a_map_is_resized_to_nearest_and_its_padding_left_out():
    geometry = ImageGeometry.of_size(4, 8).resized(2, 4).placed(1, 0, 4, 4)
    made = map_in_original(np.arange(16).reshape(4, 4), geometry)
    assert made.tolist() == [[4, 4, 5, 5, 6, 6, 7, 7]] * 2 + [[8, 8, 9, 9, 10, 10, 11, 11]] * 2


def test_a_map_coarser_than_the_input_covers_all_of_it():
    geometry = ImageGeometry.of_size(64, 64).resized(32, 32)
    assert map_in_original(np.arange(4).reshape(2, 2), geometry)[::32, ::32].tolist() == [[0, 1], [2, 3]]


@given(st.integers(1, 40), st.integers(1, 40))
def test_a_map_of_an_image_that_nothing_was_done_to_stays(height, width):
    values = np.arange(height * width).reshape(height, width)
    np.testing.assert_array_equal(map_in_original(values, ImageGeometry.of_size(height, width)), values)
