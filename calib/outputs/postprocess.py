"""What is done with decoded boxes and class maps: filters, suppression, and the way back to the original image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.errors import UsageError
from calib.outputs.suppression import METHODS, areas, suppressed
from calib.values.detections import Detections, ImageGeometry


@dataclass(frozen=True)
class BoxSteps:
    """What is done with boxes after decoding, in the order of the attributes.

    Attributes:
        score: Lowest score that counts.
        candidates: Largest number of boxes that go into the suppression, the best ones; 0 for all.
        nms: Overlap (IoU) from which on a box suppresses a worse one of its class (of "soft" the σ); 0 for none.
        nms_method: "hard", "soft", "linear" or "diou", see `suppressed`.
        nms_beta: Exponent of the distance of "diou"; 0.6 in some older programs.
        nms_all: Whether boxes of different classes suppress one another too.
        nms_edge: Length added to each side of boxes when overlaps are computed; 1 in some older programs.
        most: Largest number of boxes in an image, the best ones; 0 for all.
        clip: Whether boxes are cut at the borders of the image.
        smallest: Smallest side of a box that counts, in pixels of the original image; 0 for any.
        largest: Largest area of a box that counts, in pixels of the original image; 0 for any.
        label_shift: Number added to each label.
        only: Labels that count, after the shift, as 1,2,…; empty for all.
    """

    score: float = 0.001
    candidates: int = 10_000
    nms: float = 0.5
    nms_method: str = "hard"
    nms_beta: float = 1.0
    nms_all: bool = False
    nms_edge: float = 0.0
    most: int = 300
    clip: bool = True
    smallest: float = 0.0
    largest: float = 0.0
    label_shift: int = 0
    only: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.nms_method not in METHODS:
            raise UsageError(f"decode: nms_method is one of {', '.join(METHODS)}, got {self.nms_method!r}")
        if not 0 <= self.nms <= 1:
            raise UsageError(f"decode: nms is an overlap from 0 to 1, 0 for no suppression, got {self.nms:g}")
        for name in ("candidates", "most", "nms_edge", "smallest", "largest"):
            if getattr(self, name) < 0:
                raise UsageError(f"decode: {name} is 0 or more, got {getattr(self, name):g}")

    def apply(self, found: Detections, geometry: ImageGeometry) -> Detections:
        """Return the detections that count, in pixels of the original image, best first.

        Args:
            found: Detections in pixels of the network's input. Those with a number that is not finite are left out.
            geometry: How the original image became the input.
        """
        finite = np.isfinite(found.boxes).all(1) & np.isfinite(found.scores)
        found = found.take(np.flatnonzero(finite & (found.scores >= self.score)))
        found = found.take(best_of(found.scores, self.candidates))
        if self.nms:
            options = {"edge": self.nms_edge, "alike": self.nms_all, "beta": self.nms_beta}
            found = suppressed(found, self.nms, self.nms_method, most=self.most, **options)
            found = found.take(np.flatnonzero(found.scores >= self.score))  # soft suppression lowers scores
        found = found.take(best_of(found.scores, self.most))
        boxes = geometry.to_original(found.boxes)
        boxes = geometry.clip(boxes) if self.clip else boxes
        found = Detections(boxes, found.scores, found.labels + self.label_shift)
        return found.take(np.flatnonzero(self._counted(found)))

    def _counted(self, found: Detections) -> NDArray[np.bool_]:
        counted = np.ones(len(found), np.bool_)
        if self.smallest:
            counted &= (found.boxes[:, 2:] - found.boxes[:, :2]).min(axis=1, initial=np.inf) >= self.smallest
        if self.largest:
            counted &= areas(found.boxes) <= self.largest
        if self.only:
            counted &= np.isin(found.labels, self.only)
        return counted


def best_of(scores: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Return the indices of the ``most`` highest scores (0 for all), best first; of equal scores the earlier ones."""
    order = np.argsort(-scores, kind="stable")
    return order[:most] if most else order


def map_in_original(values: NDArray[np.generic], geometry: ImageGeometry) -> NDArray[np.generic]:
    """Return a map of the network's input, ``(…, h, w)``, at the pixels of the original image, ``(…, H, W)``.

    Each pixel takes the value at its centre: nearest neighbour, which also leaves out what padding added. The map may
    be smaller than the input, as that of a network with a stride is.
    """
    rows, columns = (
        _nearest(values.shape[axis - 2], geometry.network[axis], geometry.original[axis], geometry, axis)
        for axis in (0, 1)
    )
    return values[..., rows[:, None], columns[None, :]]


def _nearest(cells: int, length: int, original: int, geometry: ImageGeometry, axis: int) -> NDArray[np.int64]:
    """Return for each pixel of an axis of the original image the cell of the map that its centre lies in."""
    centres = (np.arange(original) + 0.5) * geometry.scale[axis] + geometry.offset[axis]
    return np.clip(np.floor(centres * (cells / length)), 0, cells - 1).astype(np.int64)
