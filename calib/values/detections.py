"""Boxes found in an image, and how the pixels of the network's input lie in the original image.

Pixels are continuous coordinates: the first pixel of an image of width W covers 0..1, and the right edge of the last
one is at W.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pair = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes with their scores and classes.

    Attributes:
        boxes: Corners x1, y1, x2, y2 in pixels, float, ``(N, 4)``.
        scores: Confidence of each box, float, ``(N,)``.
        labels: Class of each box, int, ``(N,)``.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float64).reshape(-1, 4)
        scores = np.asarray(self.scores, np.float64).reshape(-1)
        labels = np.asarray(self.labels, np.int64).reshape(-1)
        if not len(boxes) == len(scores) == len(labels):
            raise ValueError(f"{len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels")
        for name, value in (("boxes", boxes), ("scores", scores), ("labels", labels)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, chosen: NDArray[Any] | Sequence[int]) -> Detections:
        """Return the detections at these indices, in their order, or where a mask is true."""
        index = np.asarray(chosen)
        index = index.astype(np.int64) if not index.size else index
        return Detections(self.boxes[index], self.scores[index], self.labels[index])


@dataclass(frozen=True)
class ImageGeometry:
    """How an image became the network's input: a pixel of the input is ``original * scale + offset``.

    Start from `of_size` and add each step of the preprocessing in its order.

    Attributes:
        original: Height and width of the image as it was read.
        network: Height and width of what the network gets.
        scale: Pixels of the input for one of the original, (y, x).
        offset: Position of the original's top left corner in the input, (y, x).
    """

    original: tuple[int, int]
    network: tuple[int, int]
    scale: Pair = (1.0, 1.0)
    offset: Pair = (0.0, 0.0)

    @classmethod
    def of_size(cls, height: int, width: int) -> ImageGeometry:
        """Return the geometry of an image that nothing was done to."""
        return cls((height, width), (height, width))

    def resized(self, height: int, width: int) -> ImageGeometry:
        """Return the geometry after the input as it is now was stretched to a size."""
        factor = (height / self.network[0], width / self.network[1])
        scale = (self.scale[0] * factor[0], self.scale[1] * factor[1])
        offset = (self.offset[0] * factor[0], self.offset[1] * factor[1])
        return replace(self, network=(height, width), scale=scale, offset=offset)

    def placed(self, top: float, left: float, height: int, width: int) -> ImageGeometry:
        """Return the geometry after the input as it is now was put into another of a size, its corner at (top, left).

        Padding has positive ``top`` and ``left``, a crop that starts inside the image negative ones.
        """
        return replace(self, network=(height, width), offset=(self.offset[0] + top, self.offset[1] + left))

    def to_original(self, boxes: NDArray[Any]) -> NDArray[np.float64]:
        """Return boxes of the network's input, ``(N, 4)`` as x1, y1, x2, y2, in pixels of the original image."""
        (sy, sx), (oy, ox) = self.scale, self.offset
        return (np.asarray(boxes, np.float64) - (ox, oy, ox, oy)) / (sx, sy, sx, sy)

    def to_network(self, boxes: NDArray[Any]) -> NDArray[np.float64]:
        """Return boxes of the original image, ``(N, 4)`` as x1, y1, x2, y2, in pixels of the network's input."""
        (sy, sx), (oy, ox) = self.scale, self.offset
        return np.asarray(boxes, np.float64) * (sx, sy, sx, sy) + (ox, oy, ox, oy)

    def clip(self, boxes: NDArray[Any]) -> NDArray[np.float64]:
        """Return boxes of the original image, ``(N, 4)``, with what lies outside of it cut off."""
        height, width = self.original
        return np.clip(np.asarray(boxes, np.float64), 0, (width, height, width, height))
