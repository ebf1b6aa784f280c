"""Overlap of boxes, and suppression of those that overlap a better one: hard, soft and by distance of centres."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calib.values.detections import Detections

Floats = NDArray[np.float64]
METHODS = ("hard", "soft", "linear", "diou")


def areas(boxes: Floats, edge: float = 0.0) -> Floats:
    """Return the area of boxes ``(…, 4)``; a box whose corners are swapped has none.

    Args:
        boxes: Corners x1, y1, x2, y2.
        edge: Length added to each side: 1 where both corners are pixels of the box, as in Pascal VOC.
    """
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2] + edge, 0)
    return sides[..., 0] * sides[..., 1]


def overlaps(one: Floats, others: Floats, edge: float = 0.0) -> Floats:
    """Return the intersection over union of boxes ``(…, 4)`` with others, broadcast; 0 where both are empty."""
    low, high = np.maximum(one[..., :2], others[..., :2]), np.minimum(one[..., 2:], others[..., 2:])
    shared = areas(np.concatenate([low, high], axis=-1), edge)
    union = areas(one, edge) + areas(others, edge) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def suppressed(
    found: Detections,
    threshold: float,
    method: str = "hard",
    *,
    most: int = 0,
    edge: float = 0.0,
    alike: bool = False,
    beta: float = 1.0,
) -> Detections:
    """Return the detections that remain, best first; of equal scores the earlier one is better.

    "hard" drops boxes of the same class whose overlap (IoU) with a better one exceeds the threshold. "diou" takes
    IoU − (d² / c²)^β in its place, with the distance d of the centres and the diagonal c of the box around both (Zheng
    et al. 2020, eq. 6 and 10, where β is 1). "soft" lowers scores by exp(−IoU² / threshold) and "linear" by 1 − IoU
    where the overlap exceeds the threshold (Bodla et al. 2017, eq. 3 and 2): these drop nothing themselves.

    Args:
        found: Detections.
        threshold: Threshold of the overlap; of "soft" the σ.
        method: One of `METHODS`.
        most: Largest number of detections that remain; 0 for all. It bounds the time: one step a detection that stays.
        edge: Length added to each side of a box, see `areas`.
        alike: Whether boxes of different classes suppress one another too.
        beta: Exponent β of the distance of "diou".
    """
    order = np.argsort(-found.scores, kind="stable")
    boxes, scores = found.boxes[order], found.scores[order].copy()
    labels = np.zeros(len(order), np.int64) if alike else found.labels[order]
    kept: list[int] = []
    values: list[float] = []
    left = np.arange(len(order))
    while left.size and (not most or len(kept) < most):
        at = 0 if method in ("hard", "diou") else int(scores[left].argmax())
        best = left[at]
        kept.append(int(best))
        values.append(float(scores[best]))
        left = np.delete(left, at) if at else left[1:]
        overlap = overlaps(boxes[best], boxes[left], edge)
        if method == "diou":
            overlap = overlap - _distances(boxes[best], boxes[left]) ** beta
        near = labels[left] == labels[best]
        if method in ("hard", "diou"):
            left = left[~(near & (overlap > threshold))]
        else:
            scores[left] *= np.where(near, _factors(overlap, threshold, method), 1.0)
    chosen = order[np.array(kept, np.int64)]
    return Detections(found.boxes[chosen], np.array(values), found.labels[chosen])


def _factors(overlap: Floats, threshold: float, method: str) -> Floats:
    if method == "linear":
        return np.where(overlap > threshold, 1 - overlap, 1.0)
    return np.exp(-np.square(overlap) / threshold)


def _distances(one: Floats, others: Floats) -> Floats:
    """Return d² / c²: the squared distance of centres in squared diagonals of the box around both."""
    centres = (one[:2] + one[2:] - others[:, :2] - others[:, 2:]) / 2
    around = np.maximum(one[2:], others[:, 2:]) - np.minimum(one[:2], others[:, :2])
    diagonal = np.square(around).sum(-1)
    return np.divide(np.square(centres).sum(-1), diagonal, out=np.zeros(len(others)), where=diagonal > 0)
