"""Compose pictures with several objects from the demo's 28x28 images, for the detection demo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Side of a picture, and the sides between which the 28x28 image of an item is scaled, in pixels.
SIDE = 96
ITEM_SIDES = (20, 60)
MOST_ITEMS = 5
# A place that covers, or is covered by, another item by more than this share of the smaller box is drawn again.
OVERLAP = 0.3
TRIES = 12
# Coverage from which a pixel belongs to the item's box.
SEEN = 0.25


@dataclass(frozen=True)
class Scene:
    """A picture and the objects in it.

    Attributes:
        image: Colours, (SIDE, SIDE, 3) uint8 in the order red, green, blue.
        boxes: Smallest boxes around the visible pixels as they were placed, (objects, 4) x1, y1, x2, y2 in pixels,
            with x2 and y2 exclusive; an item may be partly covered by a later one.
        labels: Class of each object, (objects,) int64.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]


def compose(items: NDArray[Any], labels: NDArray[np.int64], count: int, seed: int) -> Iterator[Scene]:
    """Yield ``count`` scenes with items drawn by ``seed``; scene i does not depend on how many there are.

    Args:
        items: Grey images of single items on black, (n, 28, 28) in 0..1.
        labels: Class of each item, (n,).
        count: Number of scenes.
        seed: Seed of everything that is drawn.
    """
    for index in range(count):
        yield compose_one(items, labels, np.random.default_rng([seed, index]))


def compose_one(items: NDArray[Any], labels: NDArray[np.int64], draw: np.random.Generator) -> Scene:
    """Return one scene: one to MOST_ITEMS items, scaled, tinted and placed on a background of colours and stripes."""
    picture = _background(draw)
    boxes, found = list[list[float]](), list[int]()
    for _ in range(int(draw.integers(1, MOST_ITEMS + 1))):
        row = int(draw.integers(len(items)))
        grey, cover, extent = _item(np.asarray(items[row], np.float64), draw)
        tint = draw.uniform(0.25, 1.0, 3) * 255
        left, top, right, bottom = extent
        for _ in range(TRIES):
            x, y = (int(draw.integers(SIDE - size + 1)) for size in (right - left, bottom - top))
            box = [float(x), float(y), float(x + right - left), float(y + bottom - top)]
            if all(_overlap(box, other) <= OVERLAP for other in boxes):
                mask = cover[top:bottom, left:right, None]
                window = picture[y : y + bottom - top, x : x + right - left]
                window += mask * (grey[top:bottom, left:right, None] * tint - window)
                boxes.append(box)
                found.append(int(labels[row]))
                break
    noise = draw.integers(-8, 9, picture.shape, np.int8)
    image = np.clip(np.rint(picture) + noise, 0, 255).astype(np.uint8)
    return Scene(image, np.array(boxes, np.float64).reshape(-1, 4), np.array(found, np.int64))


def _background(draw: np.random.Generator) -> NDArray[np.float64]:
    """Return smooth colours with up to three rectangles of another one, (SIDE, SIDE, 3) in 0..255."""
    up = _resizing(4, SIDE)
    picture = np.ascontiguousarray(np.moveaxis(up @ draw.uniform(20, 200, (3, 4, 4)) @ up.T, 0, 2))
    for _ in range(int(draw.integers(4))):
        (x, y), (width, height) = draw.integers(0, SIDE - 8, 2), draw.integers(4, 40, 2)
        picture[y : y + height, x : x + width] += draw.uniform(-60, 60, 3)
    return picture


def _item(item: NDArray[np.float64], draw: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any], tuple[int, ...]]:
    """Return grey levels and coverage in 0..1, both (side, side), and the box of what is seen of it."""
    low, high = np.log(ITEM_SIDES)
    side = round(float(np.exp(draw.uniform(low, high))))
    resizing = _resizing(len(item), side)
    item = item[:, ::-1] if draw.random() < 0.5 else item
    grey = resizing @ item @ resizing.T
    cover = np.clip(resizing @ np.clip(item * 8, 0, 1) @ resizing.T, 0, 1)
    rows, columns = np.flatnonzero(cover.max(1) > SEEN), np.flatnonzero(cover.max(0) > SEEN)
    return grey, cover, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _resizing(size: int, wanted: int) -> NDArray[np.float64]:
    """Return the matrix (wanted, size) of a linear resize, whose triangles are wider where it makes smaller."""
    step = size / wanted
    centres = (np.arange(wanted) + 0.5) * step - 0.5
    weights = np.clip(1 - np.abs(centres[:, None] - np.arange(size)) / max(step, 1.0), 0, None)
    return weights / weights.sum(1, keepdims=True)


def _overlap(one: list[float], other: list[float]) -> float:
    """Return the area that two boxes share, as a share of the smaller."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return max(0.0, width) * max(0.0, height) / min(areas)
