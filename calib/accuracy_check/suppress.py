"""Suppression of boxes that overlap a better one, in Accuracy Checker's conventions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.accuracy_check.fields import Fields
from calib.accuracy_check.values import Boxes, Judged, Labels, Step, Value
from calib.outputs.suppression import suppressed
from calib.values.detections import Detections


def hard(fields: Fields, _: Labels, distance: bool = False) -> Step:
    """Return the step that drops boxes which overlap a better one, whatever their class."""
    overlap, edge = fields.number("overlap", 0.5, 0, 1), int(fields.flag("include_boundaries", True))
    most, least = fields.size("keep_top_k"), fields.flag("use_min_area") if not distance else False
    fields.finish()

    def suppress(_annotation: Value, prediction: Value, _judged: Judged) -> None:
        if isinstance(prediction, Boxes):
            prediction.keep(_kept(prediction, overlap, edge, most, least, distance))

    return suppress


def by_distance(fields: Fields, labels: Labels) -> Step:
    """Return the step that takes IoU less the distance of the centres in place of the overlap."""
    return hard(fields, labels, distance=True)


def soft(fields: Fields, _: Labels) -> Step:
    """Return the step that lowers the scores of boxes which overlap a better one (Bodla et al. 2017, eq. 3).

    The original keeps the boxes in their order and writes the lowered scores in another, that in which they were
    chosen, so that a box can get the score of another one. Here each has its own.
    """
    most, sigma = fields.size("keep_top_k", 200) or 200, fields.number("sigma", 0.5, 1e-6)
    least = fields.number("min_score", 0.0, 0, 1)
    fields.finish()

    def suppress(_annotation: Value, prediction: Value, _judged: Judged) -> None:
        if not isinstance(prediction, Boxes) or not len(prediction):
            return
        prediction.keep(np.argsort(-prediction.scores, kind="stable")[:most])
        numbered = Detections(prediction.corners, prediction.scores, np.arange(len(prediction)))
        found = suppressed(numbered, sigma, "soft", most=most, alike=True)
        lowered = np.empty(len(prediction))
        lowered[found.labels] = found.scores
        prediction.scores = lowered
        prediction.keep(lowered >= least)

    return suppress


def _kept(boxes: Boxes, overlap: float, edge: int, most: int | None, least: bool, distance: bool) -> list[int]:
    """Return the boxes that no better one suppresses, whatever their class; sizes have ``edge`` pixels added."""
    x1, y1, x2, y2 = boxes.corners.T
    areas = (x2 - x1 + edge) * (y2 - y1 + edge)
    order, kept = boxes.scores.argsort()[::-1], list[int]()
    order = order[:most] if most else order
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        wide = np.maximum(0.0, np.minimum(x2[best], x2[rest]) - np.maximum(x1[best], x1[rest]) + edge)
        high = np.maximum(0.0, np.minimum(y2[best], y2[rest]) - np.maximum(y1[best], y1[rest]) + edge)
        shared = wide * high
        base = np.minimum(areas[best], areas[rest]) if least else areas[best] + areas[rest] - shared
        common = np.divide(shared, base, out=np.zeros_like(shared, dtype=float), where=base != 0)
        if distance:
            common = common - _apart(boxes.corners, int(best), rest)
        order = rest[common <= overlap]
    return kept


def _apart(corners: NDArray[Any], best: int, rest: NDArray[Any]) -> NDArray[Any]:
    """Return (d² / c²)^0.6: distance of centres over the diagonal around both (Zheng et al. 2020, with an exponent)."""
    x1, y1, x2, y2 = corners.T
    around = (np.maximum(x2[best], x2[rest]) - np.minimum(x1[best], x1[rest])) ** 2
    around = around + (np.maximum(y2[best], y2[rest]) - np.minimum(y1[best], y1[rest])) ** 2 + 1e-16
    centres = ((x2[rest] + x1[rest]) - (x2[best] + x1[best])) ** 2 / 4
    centres = centres + ((y2[rest] + y1[rest]) - (y2[best] + y1[best])) ** 2 / 4
    return (centres / around) ** 0.6
