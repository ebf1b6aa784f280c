"""Boxes and the geometry of images, by hand and by their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.values.detections import Detections, ImageGeometry

SIZES = st.integers(1, 3000)
OFFSETS = st.floats(-500, 500)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("resized"), SIZES, SIZES), st.tuples(st.just("placed"), OFFSETS, OFFSETS, SIZES, SIZES)
    ),
    max_size=4,
)


def after(steps, height=480, width=640) -> ImageGeometry:
    geometry = ImageGeometry.of_size(height, width)
    for name, *arguments in steps:
        geometry = getattr(geometry, name)(*arguments)
    return geometry


def test_a_letterbox_halves_the_image_and_centres_it():
    geometry = ImageGeometry.of_size(200, 400).resized(100, 200).placed(50, 0, 200, 200)
    assert geometry == ImageGeometry((200, 400), (200, 200), (0.5, 0.5), (50, 0))
    assert geometry.to_network(np.array([[0, 0, 400, 200], [100, 20, 200, 60]])).tolist() == [
        [0, 50, 200, 150],
        [50, 60, 100, 80],
    ]


def test_a_crop_after_a_resize_moves_boxes_by_its_corner():
    geometry = ImageGeometry.of_size(100, 100).resized(256, 256).placed(-16, -16, 224, 224)
    assert geometry.to_original(np.array([[0, 0, 224, 224]])).tolist() == [[6.25, 6.25, 93.75, 93.75]]


def test_padding_before_a_resize_is_resized_too():
    geometry = ImageGeometry.of_size(50, 100).placed(10, 0, 100, 100).resized(200, 300)
    assert (geometry.scale, geometry.offset) == ((2, 3), (20, 0))


def test_clipping_is_to_the_original_image():
    clipped = ImageGeometry.of_size(10, 20).resized(5, 5).clip(np.array([[-3, -4, 25, 6], [30, 11, 31, 12]]))
    assert clipped.tolist() == [[0, 0, 20, 6], [20, 10, 20, 10]]


@given(STEPS, st.lists(st.tuples(*[st.floats(-50, 700)] * 4), min_size=1, max_size=5))
def test_boxes_come_back_from_the_network(steps, boxes):
    geometry, boxes = after(steps), np.array(boxes)
    back = geometry.to_original(geometry.to_network(boxes))
    # The error is one rounding of the position in the input, in pixels of the original.
    # Numbers below the smallest normal one are rounded as if they were of its size.
    size = np.abs(geometry.to_network(boxes)).max() + np.abs(geometry.offset).max() + np.finfo(float).tiny
    assert np.abs(back - boxes).max() <= 4 * np.finfo(float).eps * (size / min(geometry.scale) + np.abs(boxes).max())


@given(STEPS, SIZES, SIZES)
def test_a_last_resize_scales_what_the_steps_before_gave(steps, height, width):
    before = after(steps)
    corner = before.to_network(np.array([[10, 20, 30, 40]])) / np.tile(before.network[::-1], 2)
    same = before.resized(height, width).to_network(np.array([[10, 20, 30, 40]])) / np.tile((width, height), 2)
    np.testing.assert_allclose(corner, same, rtol=1e-9, atol=1e-9)


def test_detections_take_rows_and_refuse_different_lengths():
    found = Detections([[0, 0, 1, 1], [2, 2, 3, 3]], [0.5, 0.9], [1, 2])
    assert found.take([1]).boxes.tolist() == [[2, 2, 3, 3]] and found.take(found.scores > 1).labels.tolist() == []
    assert len(found.take([])) == 0
    with pytest.raises(ValueError, match="2 boxes, 1 scores and 2 labels"):
        Detections(found.boxes, [0.5], [1, 2])
