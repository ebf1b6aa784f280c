"""Composed pictures are the same for the same seed, and their boxes lie around what was placed."""

from __future__ import annotations

import numpy as np

from calib.demo.scenes import MOST_ITEMS, OVERLAP, SIDE, Scene, compose

# A white square of 10x10 pixels in the middle: where it is placed, the picture has the colour of its tint.
ITEM = np.zeros((1, 28, 28))
ITEM[:, 9:19, 9:19] = 1.0
LABELS = np.array([7])


def scenes(count: int, seed: int = 1) -> list[Scene]:
    return list(compose(ITEM, LABELS, count, seed))


def test_a_scene_follows_from_seed_and_number_alone():
    few, many, other = scenes(3), scenes(6), scenes(3, seed=2)
    for one, same, another in zip(few, many, other, strict=False):
        assert np.array_equal(one.image, same.image) and np.array_equal(one.boxes, same.boxes)
        assert not np.array_equal(one.image, another.image)


def test_boxes_lie_in_the_picture_hold_one_item_each_and_overlap_little():
    for scene in scenes(30):
        assert scene.image.shape == (SIDE, SIDE, 3) and scene.image.dtype == np.uint8
        assert 1 <= len(scene.boxes) == len(scene.labels) <= MOST_ITEMS and set(scene.labels.tolist()) == {7}
        assert scene.boxes.min() >= 0 and scene.boxes.max() <= SIDE
        sides = scene.boxes[:, 2:] - scene.boxes[:, :2]
        assert (np.abs(sides[:, 0] - sides[:, 1]) <= 1).all(), "a square stays one"
        # 10 of 28 pixels of an item that is 20 to 60 pixels wide, and half a pixel of blur on each side
        assert sides.min() >= 20 * 10 / 28 and sides.max() <= 60 * 10 / 28 + 4
        for i, one in enumerate(scene.boxes):
            for other in scene.boxes[:i]:
                shared = np.clip(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0, None).prod()
                least = min((box[2:] - box[:2]).prod() for box in (one, other))
                assert shared <= OVERLAP * least


def test_the_last_item_shows_inside_its_box_in_one_colour():
    for scene in scenes(20):
        left, top, right, bottom = scene.boxes[-1].astype(int)
        inside = scene.image[top + 2 : bottom - 2, left + 2 : right - 2].astype(int)
        assert np.ptp(inside.reshape(-1, 3), axis=0).max() <= 17, "only the noise of 8 levels up and down"
